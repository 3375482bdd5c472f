"""Which questions ask for the web, by their words alone: what changes with time, what has a price, what has an address.

No model is asked. How often this is right, and how often wrong, is measured in ``docs/search.md``; a bot's own lexicon
mends it where it is wrong for what the bot is for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

QUERY_MAX_CHARS = 2000
TAKES_OUT = "-"
"""An entry of a bot's lexicon that begins so is taken out of the question before the built-in words are looked for."""

# Each line is an alternative of a regular expression, or several. Texts are matched in lower case.
_CHINESE = r"""
[今明昨]天|[前后]天(?!性)|[今昨]日(?!头条|之星)|明日(?!方舟|之后|之星)|今[晚早夜]|[明昨]晚|明早|[今去明前]年
年初至今|[这过前]几天|刚刚|截至
[本这上下]个?(?:周|星期|礼拜|月|季度)(?!围|期表)|截止到?[今目现]|今[春夏秋冬]|眼下|此刻
新闻(?!学|专业|写作|体裁|的?定义)|头条|热搜|热榜|快讯|热点(?!函数|代码|路径|数据|账户|key)|时事|舆情|突发|大事件
局势|(?:冲突|战争|谈判|事件|案件|事故|工程|项目).{0,4}(?:进展|现状|动态)|现状|最长寿|近况|近期|近日|近来
最新(?!值|元素|节点|一条|记录|一行|提交)|最近(?!邻|公共|点|祖先|最久|最少|使用|一次|距离)
股价|股市|股票(?:行情|涨|跌|现在|多少)|a股|美股|港股|大盘|沪指|上证|深证|恒生|纳斯达克|纳指|道指|标普
汇率|金价|银价|油价|房价|菜价|猪价|肉价|票价|币价|煤价|[米粮电水气]价|行情|报价|牌价|市值|市盈率
多少钱|(?:零售|落地|成交|市场|二手|出厂)价|兑(?:换成?)?(?:人民币|美元|日元|欧元|港币)|什么价|卖多少|价位|降价了
涨价|价格(?:是|现在|多少|怎么样|走势|如何|查询)
(?:黄金|原油|汽油|柴油|白银|比特币|机票|酒店|手机|新车|车子|猪肉|鸡蛋).{0,6}价格?
(?:存款|贷款|房贷|lpr).{0,6}(?:利率|利息)|(?:利率|利息|lpr)(?:是多少|现在|多少|调)
天气|气温|下雨吗|下雪吗|空气质量|雾霾|pm ?2\.5|台风|地震(?!波|的?成因|原理|仪)
限行|路况|堵车|航班|车次|列车时刻|高铁票|火车票
比分|赛果|赛程|战绩|积分榜|射手榜|[金奖]牌榜|奥斯卡|格莱美|诺贝尔.{0,8}(?:奖得主|获得者|获奖)|夺冠|夺得|冠军是谁
谁赢|几比几
票房|上映|开播|排片|收视|播出时间|演唱会|巡演|门票
首发|开售
什么时候.{0,3}(?:发布|上[市线映]|开始|开[学奖幕放通]|出|放|公布|截止|实施|生效|举[办行]|召开|更新|返回|推出|调整)
发布会|新机|上市时间|发布时间
开奖|中奖号码|彩票|招聘|校招|分数线|录取线|报名(?:时间|入口|截止|条件)|成绩(?:查询|什么时候)|考试时间|准考证
(?:公布|发布|通车|取消|崩|恢复|结束|开始|开通|上市|开售|降)了[吗没]|补贴|还有多久|第几次|对阵|(?:下一?场|下轮)
更新内容|更新日志
疫情|选举|大选|峰会|两会|制裁|停火|关税
(?:现任|当今|在任).{0,12}(?:总统|总理|主席|市长|ceo|总裁|首相|教练|校长|部长)
(?:总统|总理|首相|市长|ceo|董事长|国王)(?:现在)?(?:是|叫)(?:谁|什么)
谁是.{0,16}(?:总统|总理|首相|市长|ceo|董事长)
放假|调休|补班|放几天|怎么放|节假日(?:安排|怎么|有|免)|高速(?:公路)?免费
(?:春节|国庆|五一|十一|端午|中秋|清明|元旦|劳动节|圣诞).{0,8}(?:假|几天|几号|哪天|哪一天|什么时候|是星期|安排|高速)
(?:除夕|元宵|寒假|暑假|母亲节|父亲节).{0,8}(?:几天|几号|哪天|哪一天|什么时候|是星期|安排)
(?:搜索?|查)一下|搜一搜|查一查|帮我[查搜]|百度一下|谷歌一下|上网[查搜找]|网上(?:怎么|有|查|搜|找|说|评价)|联网
官网|网址|下载地址|电话号码是|客服电话|营业时间|开放时间|几点(?:开|关|闭|营业|停|到|下班|结束)
附近的?(?!.{0,4}(?:节点|像素|元素|数据))
口碑怎么样|值得买吗|评测|哪款好|推荐.{0,6}(?:餐厅|酒店|饭店|电影|手机|景点)
"""
_ENGLISH = r"""
today|tonight|tomorrow|yesterday|right now|these days|nowadays|so far this|as of (?:now|today)|up[- ]to[- ]date
this (?:morning|afternoon|evening|week|weekend|month|quarter|year|season)|just announced
(?:last|next) (?:night|week|weekend|month|quarter|year|season)
(?:on|this|next|last) (?:mon|tues|wednes|thurs|fri|satur|sun)day
(?:latest|newest|most recent(?:ly)?|recently)(?! (?:tag|commit|element|value))
breaking|news|upcoming|new (?:movies|songs|albums|episodes|shows|games|books)|headlines?|trending|viral|rumou?rs?
(?:stock|share|gold|oil|gas|silver|bitcoin|ticket|house|home|fuel|diesel|ethereum) (?:prices?|market)
how much (?:is|does|are|do|will) .{0,40}(?:cost|worth|trading|sell)|how much (?:is|are) (?:a|an|the) (?!\w+ of)
price of|cost of (?:a|an|the) (?!function)|exchange rate|market cap|nasdaq|dow jones|s&p 500
(?:mortgage|interest|inflation|unemployment) rates?|gdp (?:growth|of)|weather|forecast for|air quality|traffic
near me|job openings
who (?:won|wins|is winning|is leading|leads)|(?:nikkei|ftse|dax|hang seng)|scores? of|final score|standings
box office|fixtures
what time (?:is|does|do|will)|(?:is|are) .{1,40} (?:down|open|closed|sold out|delayed|still alive)$
how old is (?!the (?:earth|universe|sun))
flight (?:status|[a-z]{2} ?\d+)|train times|showtimes|in (?:theaters|cinemas)|release date|come out|coming out
when (?:does|is|will|do) .{0,40}(?:start|begin|open|close|releas|launch|air|come out|due|play|schedul)\w*
launch date|when is (?:easter|thanksgiving|diwali|ramadan|the next)
election(?!s? algorithm)|ceasefire|tariffs?|outbreak|recall(?! that|ing)|(?:public|bank) holidays?|open(?:ing)? hours
current(?:ly)? (?:the )?(?:president|ceo|prime minister|mayor|chancellor|king|leader|champion|holder)
current(?:ly)? (?:the )?(?:population|price|version of|world record|rate|status of|time in|exchange)
(?:ceo|president|prime minister|mayor|owner) of .{1,40} now|current (?:\w+ ){0,2}champions?
(?:eurovision|election|oscars?|grammys?|world cup|league|match|race) (?:winners?|results?)|\w+ vs\.? .{1,30} results?
(?:earnings|quarterly) (?:call|results|report)|next (?:\w+ ){1,2}(?:date|eclipse|election|launch|match|game)
what'?s new in|is it (?:rain|snow)ing|how many people live in|premieres?
(?:ticket|hotel|flight|airfare|rent|food) prices?|temperature in (?:[a-z]+ ?){1,3}
who is the (?:\w+ )?(?:president|ceo|prime minister|mayor|chancellor|king|head coach|governor|chair)
search (?:the (?:web|internet)|online|for)|google (?:it|for)|look (?:it |this )?up
official (?:web)?site|website of|reviews? of
"""
_ADDRESSES = r"""
https?://\S|\bwww\.\S|(?<![a-z0-9.-])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|cn|org|net|gov|edu|io)(?![a-z0-9_.])
(?<![\d.])20[2-9]\d(?!\d)(?:[ -]?年|[ -]?财年|赛季)?(?![.\d-])
"""

# These ask for the web only of somebody who asks for a fact, not for how something is done.
_NOW = r"""
现在|目前|当前(?!目录|行|页|文件|用户|进程|线程|窗口|对象|会话|分支|版本|工作|元素|节点|位置)|实时|如今|现阶段
全球最|世界上最
"""
_FACT = r"""
多少|谁|哪[个家些里款支座位部条只]|几[个点月号度]|什么(?:情况|进展|水平|时候|价|版本|样)
怎么样|如何了|[了还]吗|排名|第几|有哪些
"""
_HOW = r"""
怎么(?:做|写|实现|配置|设置|安装|用|办|样才|解决|查看|切换|获取)
如何(?:实现|配置|设置|做|写|获取|用)|代码|函数|命令|报错
"""

_WEATHER_CHINESE = r"""
天气|气温|室外温度|下[雨雪]|降[雨雪温](?!落)|[暴阵雷小中大]雨|台风|寒潮|沙尘|冰雹|紫外线
(?:今天|明天|后天|现在|外面|周末|今晚|晚上).{0,8}(?:温度|多少度|几度|冷不?冷|热不?热|雨|雪|风大|晒)
雾霾|空气(?:质量|好不好|怎么样|指数)|pm ?2\.5|带伞|雨伞|穿什么|穿衣(?:指数|建议)
多云吗|晴天吗|是晴|冷不冷|热不热|多少度|几度
"""
_WEATHER_ENGLISH = r"""
weather|forecast|temperature (?:in|outside|today|tomorrow)|how (?:hot|cold|warm) (?:is|will)|umbrella|air quality|aqi
(?:is it|will it|going to|gonna|does it) (?:be )?(?:rain|snow|sunny|windy|cloudy)\w*|humidity (?:in|today)
"""


def _alternatives(*tables: str) -> str:
    return "|".join(line for table in tables for line in table.split("\n") if line)


def _words(table: str) -> str:
    """Whole words, also right beside Chinese, whose characters are letters to ``\\b``."""
    return rf"(?<![a-z0-9_])(?:{_alternatives(table)})(?:(?<![a-z0-9_])|(?![a-z0-9_]))"


_asks = re.compile(rf"{_alternatives(_ADDRESSES, _CHINESE)}|{_words(_ENGLISH)}").search
_says_now = re.compile(_alternatives(_NOW)).search
_asks_a_fact = re.compile(_alternatives(_FACT)).search
_asks_how = re.compile(_alternatives(_HOW)).search
_asks_weather = re.compile(rf"{_alternatives(_WEATHER_CHINESE)}|{_words(_WEATHER_ENGLISH)}").search


def asks_the_web(query: str, lexicon: Sequence[str] = ()) -> bool:
    """Would the web help to answer? ``lexicon``: the bot's own words, see `TAKES_OUT` for those that say no."""
    text = query[:QUERY_MAX_CHARS].casefold()
    words = [word.strip().casefold() for word in lexicon]
    if any(word and not word.startswith(TAKES_OUT) and word in text for word in words):
        return True
    for word in words:
        if word.startswith(TAKES_OUT) and len(word) > 1:
            text = text.replace(word[1:], " ")
    if _asks(text):
        return True
    return bool(_says_now(text) and _asks_a_fact(text) and not _asks_how(text))


def asks_for_weather(query: str) -> bool:
    """Is it about the weather?"""
    return _asks_weather(query[:QUERY_MAX_CHARS].casefold()) is not None
