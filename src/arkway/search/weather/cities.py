"""Which city a question is about: the names of cities that are asked about, in Chinese and in English."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from arkway.core.bot import Asker

# Municipalities, prefectures, and the larger county-level cities, without 市.
_CHINA = """
北京 上海 天津 重庆 石家庄 唐山 秦皇岛 邯郸 邢台 保定 张家口 承德 沧州 廊坊 衡水 雄安 太原 大同 阳泉 长治 晋城 朔州
晋中 运城 忻州 临汾 吕梁 呼和浩特 包头 乌海 赤峰 通辽 鄂尔多斯 呼伦贝尔 巴彦淖尔 乌兰察布 兴安盟 锡林郭勒 阿拉善 沈阳
大连 鞍山 抚顺 本溪 丹东 锦州 营口 阜新 辽阳 盘锦 铁岭 朝阳 葫芦岛 长春 吉林 四平 辽源 通化 白山 松原 白城 延边 延吉
哈尔滨 齐齐哈尔 鸡西 鹤岗 双鸭山 大庆 伊春 佳木斯 七台河 牡丹江 黑河 绥化 大兴安岭 漠河 南京 无锡 徐州 常州 苏州 南通
连云港 淮安 盐城 扬州 镇江 泰州 宿迁 昆山 杭州 宁波 温州 嘉兴 湖州 绍兴 金华 衢州 舟山 台州 丽水 义乌 合肥 芜湖 蚌埠
淮南 马鞍山 淮北 铜陵 安庆 黄山 滁州 阜阳 宿州 六安 亳州 池州 宣城 福州 厦门 莆田 三明 泉州 漳州 南平 龙岩 宁德 南昌
景德镇 萍乡 九江 新余 鹰潭 赣州 吉安 宜春 抚州 上饶 济南 青岛 淄博 枣庄 东营 烟台 潍坊 济宁 泰安 威海 日照 临沂 德州
聊城 滨州 菏泽 郑州 开封 洛阳 平顶山 安阳 鹤壁 新乡 焦作 濮阳 许昌 漯河 三门峡 南阳 商丘 信阳 周口 驻马店 济源 武汉
黄石 十堰 宜昌 襄阳 鄂州 荆门 孝感 荆州 黄冈 咸宁 随州 恩施 仙桃 潜江 天门 神农架 长沙 株洲 湘潭 衡阳 邵阳 岳阳 常德
张家界 益阳 郴州 永州 怀化 娄底 湘西 广州 韶关 深圳 珠海 汕头 佛山 江门 湛江 茂名 肇庆 惠州 梅州 汕尾 河源 阳江 清远
东莞 中山 潮州 揭阳 云浮 南宁 柳州 桂林 梧州 北海 防城港 钦州 贵港 玉林 百色 贺州 河池 来宾 崇左 海口 三亚 三沙 儋州
成都 自贡 攀枝花 泸州 德阳 绵阳 广元 遂宁 内江 乐山 南充 眉山 宜宾 广安 达州 雅安 巴中 资阳 阿坝 甘孜 凉山 西昌 贵阳
六盘水 遵义 安顺 毕节 铜仁 黔西南 黔东南 黔南 昆明 曲靖 玉溪 保山 昭通 丽江 普洱 临沧 楚雄 红河 文山 西双版纳 大理
德宏 怒江 迪庆 香格里拉 拉萨 日喀则 昌都 林芝 山南 那曲 阿里 西安 铜川 宝鸡 咸阳 渭南 延安 汉中 榆林 安康 商洛 兰州
嘉峪关 金昌 白银 天水 武威 张掖 平凉 酒泉 庆阳 定西 陇南 临夏 甘南 敦煌 西宁 海东 海北 黄南 果洛 玉树 海西 格尔木 银川
石嘴山 吴忠 固原 中卫 乌鲁木齐 克拉玛依 吐鲁番 哈密 昌吉 博尔塔拉 巴音郭楞 库尔勒 阿克苏 喀什 和田 伊犁 伊宁 塔城
阿勒泰 石河子 香港 澳门 台北 新北 桃园 台中 台南 高雄 基隆 新竹 嘉义 花莲
"""
_WORLD = """
东京=tokyo 大阪=osaka 京都=kyoto 名古屋=nagoya 札幌=sapporo 首尔=seoul 釜山=busan 平壤=pyongyang 新加坡=singapore
曼谷=bangkok 吉隆坡=kuala-lumpur 雅加达=jakarta 马尼拉=manila 河内=hanoi 胡志明市=ho-chi-minh-city 金边=phnom-penh
仰光=yangon 新德里=new-delhi 孟买=mumbai 班加罗尔=bangalore 迪拜=dubai 阿布扎比=abu-dhabi 多哈=doha 利雅得=riyadh
特拉维夫=tel-aviv 伊斯坦布尔=istanbul 安卡拉=ankara 莫斯科=moscow 圣彼得堡=saint-petersburg 伦敦=london
曼彻斯特=manchester 爱丁堡=edinburgh 都柏林=dublin 巴黎=paris 里昂=lyon 马赛=marseille 柏林=berlin 慕尼黑=munich
法兰克福=frankfurt 汉堡=hamburg 罗马=rome 米兰=milan 威尼斯=venice 马德里=madrid 巴塞罗那=barcelona 里斯本=lisbon
阿姆斯特丹=amsterdam 布鲁塞尔=brussels 苏黎世=zurich 日内瓦=geneva 维也纳=vienna 布拉格=prague 布达佩斯=budapest
华沙=warsaw 斯德哥尔摩=stockholm 奥斯陆=oslo 哥本哈根=copenhagen 赫尔辛基=helsinki 雅典=athens 开罗=cairo
内罗毕=nairobi 约翰内斯堡=johannesburg 开普敦=cape-town 拉各斯=lagos 纽约=new-york 洛杉矶=los-angeles
旧金山=san-francisco 西雅图=seattle 芝加哥=chicago 波士顿=boston 华盛顿=washington 休斯敦=houston 迈阿密=miami
达拉斯=dallas 丹佛=denver 拉斯维加斯=las-vegas 多伦多=toronto 温哥华=vancouver 蒙特利尔=montreal 墨西哥城=mexico-city
圣保罗=sao-paulo 里约热内卢=rio-de-janeiro 布宜诺斯艾利斯=buenos-aires 悉尼=sydney 墨尔本=melbourne 布里斯班=brisbane
珀斯=perth 奥克兰=auckland
"""
_IN_ENGLISH = """
北京=beijing 上海=shanghai 天津=tianjin 重庆=chongqing 广州=guangzhou 深圳=shenzhen 成都=chengdu 杭州=hangzhou
南京=nanjing 武汉=wuhan 西安=xi'an 西安=xian 苏州=suzhou 青岛=qingdao 大连=dalian 厦门=xiamen 长沙=changsha
沈阳=shenyang 哈尔滨=harbin 昆明=kunming 济南=jinan 郑州=zhengzhou 福州=fuzhou 合肥=hefei 宁波=ningbo 无锡=wuxi
贵阳=guiyang 南宁=nanning 海口=haikou 三亚=sanya 拉萨=lhasa 乌鲁木齐=urumqi 香港=hong-kong 澳门=macau 台北=taipei
"""
_PLACE = re.compile(r"[\u4e00-\u9fff]{2,6}?(?:自治)?[市县区旗州盟]")
_BEFORE_A_PLACE = re.compile(
    r"^(?:请问|我想知道|想知道|帮我|查一下|查查|看看|今天|明天|后天|昨天|现在|今晚|这周|周末|我们?|你们?|在|去|到|的|是|那|这|要|问|请)+"
)
_AFTER_IN = re.compile(r"\b(?:[Ii]n|[Ff]or|[Aa]t)\s+((?:[A-Z][\w'.-]*)(?:\s+[A-Z][\w'.-]*){0,3})")
_NO_PLACES = re.compile(
    r"小区|地区|社区|市区|山区|景区|城市|区[别分]|本[市区县]|哪个?[市县区]|[这那每各]个?[市县区]|我们?[市县区]"
)
_NO_CITIES = frozenset({"Celsius", "Fahrenheit", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"})


def _pairs(table: str) -> Iterable[tuple[str, str]]:
    for entry in table.split():
        chinese, _, english = entry.partition("=")
        yield english.replace("-", " "), chinese


_ENGLISH_NAMES = {**dict(_pairs(_WORLD)), **dict(_pairs(_IN_ENGLISH))}
_CHINESE_NAMES = frozenset(_CHINA.split()) | frozenset(_ENGLISH_NAMES.values())


def _earliest(names: Iterable[str]) -> Callable[[str], str]:
    """Finds the first of the names in a text, the longest where several begin; "" where there is none."""
    ordered = sorted(names, key=len, reverse=True)
    ascii_, others = (
        "|".join(re.escape(name) for name in ordered if name.isascii() is is_ascii) for is_ascii in (True, False)
    )
    # Chinese characters are letters to `\b`, and stand right beside: London天气.
    patterns = [rf"(?<![a-z0-9_])(?:{ascii_})(?![a-z0-9_])"] if ascii_ else []
    searches = [re.compile(pattern, re.IGNORECASE).search for pattern in (*patterns, *([others] if others else []))]

    def find(text: str) -> str:
        found = [match for search in searches if (match := search(text))]
        return min(found, key=lambda match: match.start())[0] if found else ""

    return find


_known = _earliest([*_CHINESE_NAMES, *_ENGLISH_NAMES])


class Gazetteer:
    """Finds the city of a question. ``names``: more of them than everybody knows."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        names = [name for name in names if name]
        self._own = _earliest(names)
        self._spelled = {name.casefold(): name for name in names}

    def city(self, query: str, asker: Asker, default: str = "") -> str:
        """The one that the question names, else where the asker is, else ``default``; in Chinese if known."""
        return self._named(query) or plain_city(asker.city) or plain_city(default)

    def _named(self, query: str) -> str:
        if found := self._own(query):
            return self._spelled.get(found.casefold(), found)
        if found := _known(query):
            return _ENGLISH_NAMES.get(found.lower(), found)
        return _place(query) or _after_in(query)


def plain_city(name: str) -> str:
    """``北京市`` as ``北京``, ``beijing`` as ``北京``; what is not known stays as it is."""
    name = name.strip()[:64]
    short = name.removesuffix("市")
    return short if short in _CHINESE_NAMES else _ENGLISH_NAMES.get(name.lower(), name)


def _place(query: str) -> str:
    """Something that is called a city, county or district."""
    for found in _PLACE.finditer(query):
        name = _BEFORE_A_PLACE.sub("", found[0])
        if len(name) > 2 and not _NO_PLACES.search(name):
            return name
    return ""


def _after_in(query: str) -> str:
    found = _AFTER_IN.search(query)
    name = found[1].rstrip(".'-") if found else ""
    return "" if name in _NO_CITIES else name
