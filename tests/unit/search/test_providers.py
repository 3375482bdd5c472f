"""Each provider against answers as the real ones send them."""

from __future__ import annotations

import threading
from typing import ClassVar

import msgspec

from arkway.core.bot import Snippet
from arkway.core.reference import Cover, Reference
from arkway.search.found import Found, snippet, usable
from arkway.search.providers.ark import ArkBot
from arkway.search.providers.bocha import Bocha
from arkway.search.providers.kiwix import Kiwix
from arkway.search.providers.searxng import SearXNG
from tests.tools.raw_upstream import OK, Peer, RawUpstream
from tests.unit.search.scripted import Scripted, ok, ok_json, quest, service, whole_request

TIME = "2025年04月08日 10:30:00(CST) 星期二"

SEARXNG = {
    "query": "x", "number_of_results": 0, "answers": [], "corrections": [], "infoboxes": [], "suggestions": [],
    "unresponsive_engines": [["google", "timeout"]],
    "results": [
        {"url": "https://www.people.com.cn/a", "title": "一 <b>标题</b>", "content": "摘要&amp;内容", "engine": "bing",
         "parsed_url": ["https", "www.people.com.cn", "/a", "", "", ""], "template": "default.html",
         "engines": ["bing", "baidu"],
         "positions": [1, 2], "publishedDate": "2025-04-08T10:30:00", "thumbnail": "https://img.test/1.png",
         "score": 2.0,
         "category": "general", "img_src": None},
        {"url": "https://b.test/", "title": "B", "content": None, "publishedDate": None, "thumbnail": "",
        "img_src": ""},
        {"title": "without an address"},
        {"url": "javascript:alert(1)", "title": "bad"},
    ],
}  # fmt: skip


async def test_searxng() -> None:
    async with Scripted({"/search": ok_json(SEARXNG)}) as server, service(server) as asked:
        found = usable(await SearXNG(asked).search(quest(), "今天 新闻", 10), 10)
        assert server.asked[0].params == {"q": ["今天 新闻"], "format": ["json"]}
    assert [each.url for each in found] == ["https://www.people.com.cn/a", "https://b.test/"]
    assert snippet(found[0], 0) == Snippet(
        "摘要&内容",
        Reference(
            idx=0, url="https://www.people.com.cn/a", logo_url="https://www.people.com.cn/favicon.ico",
            mobile_url="https://www.people.com.cn/a", site_name="people.com.cn", title="一 标题", summary="摘要&内容",
            publish_time=TIME, cover=Cover("https://img.test/1.png", 0, 0),
        ),
    )  # fmt: skip
    assert snippet(found[1], 1).reference == Reference(
        idx=1,
        url="https://b.test/",
        logo_url="https://b.test/favicon.ico",
        mobile_url="https://b.test/",
        site_name="b.test",
        title="B",
    )


BOCHA = {
    "code": 200, "log_id": "d7", "msg": None,
    "data": {
        "_type": "SearchResponse", "queryContext": {"originalQuery": "x"},
        "webPages": {
            "webSearchUrl": "", "totalEstimatedMatches": 8912791, "someResultsRemoved": True,
            "value": [
                {"id": None, "name": "标题", "url": "https://www.alibabagroup.com/d",
                "displayUrl": "https://www.alibabagroup.com/d",
                 "snippet": "短", "summary": "长的" * 300, "siteName": "阿里",
                 "siteIcon": "https://th.test/favicon?x=1",
                 "datePublished": "2025-04-08T10:30:00+08:00", "dateLastCrawled": "2024-01-01T00:00:00Z",
                 "cachedPageUrl": None,
                 "language": None, "isFamilyFriendly": None, "isNavigational": None},
                {"id": None, "name": "二", "url": "https://b.test/", "snippet": "s",
                "dateLastCrawled": "2025-04-08T10:30:00Z"},
            ],
        },
        "images": {"id": None, "value": [
            {"name": None, "thumbnailUrl": "http://i.test/t.jpg", "contentUrl": "http://i.test/c.jpg",
             "hostPageUrl": "https://www.alibabagroup.com/d", "width": 553, "height": 311, "thumbnail": None},
            {"name": None, "thumbnailUrl": "http://i.test/other.jpg", "hostPageUrl": "https://www.alibabagroup.com/d",
            "width": 1},
        ]},
        "videos": None,
    },
}  # fmt: skip


async def test_bocha() -> None:
    headers = {"authorization": "Bearer sk-1"}
    async with Scripted({"/v1/web-search": ok_json(BOCHA)}) as server, service(server, headers=headers) as asked:
        found = await Bocha(asked).search(quest(), "x", 8)
        request = server.asked[0]
    assert (request.method, request.headers["authorization"]) == ("POST", "Bearer sk-1")
    assert msgspec.json.decode(request.body) == {"query": "x", "summary": True, "freshness": "noLimit", "count": 8}
    first = snippet(found[0], 0)
    assert first.text == "长的" * 300
    assert first.reference == Reference(
        url="https://www.alibabagroup.com/d", logo_url="https://th.test/favicon?x=1",
        mobile_url="https://www.alibabagroup.com/d",
        site_name="阿里", title="标题", summary="短", publish_time=TIME, cover=Cover("http://i.test/t.jpg", 553, 311),
    )  # fmt: skip
    # Its crawling times end in Z and are China's.
    assert (found[1].publish_time, found[1].cover) == (TIME, None)


async def test_bocha_without_results() -> None:
    async with Scripted({"": ok_json({"code": "200", "data": {"webPages": None}})}) as server, service(server) as asked:
        assert await Bocha(asked).search(quest(), "x", 8) == []


ARK_REFERENCES = [
    {"url": "https://www.toutiao.com/a", "idx": 0, "logo_url": "https://l.test/l.png",
    "mobile_url": "https://m.toutiao.com/a",
     "site_name": "今日头条", "title": "标题", "summary": "概要", "publish_time": TIME, "freshness_info": "1天前",
     "cover_image": {"url": "https://c.test/c.png", "width": 30, "height": 20}, "extra": {"aqi": "57"},
     "collection_name": ""},
    {"url": "", "doc_id": "abc", "doc_name": "a document, which is no page"},
]  # fmt: skip


async def test_ark_is_heard_until_its_references_are_there() -> None:
    """The answer itself is never waited for: this server holds it back."""

    async def script(peer: Peer) -> None:
        requests.append(await whole_request(peer))
        frames = [
            {"choices": [], "metadata": {}},
            {"choices": [{"delta": {"content": "一"}}], "references": ARK_REFERENCES},
        ]
        body = b"".join(b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in frames)
        await peer.say(OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.say(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        hung_up.append(await peer.gone())

    requests: list[bytes] = []
    hung_up: list[bool] = []
    async with RawUpstream(script) as server, service(server, path="/api/v3") as asked:
        found = usable(await ArkBot(asked, "bot-1").search(quest(), "x", 5), 5)
    assert b"POST /api/v3/bots/chat/completions" in requests[0]
    assert msgspec.json.decode(requests[0].partition(b"\r\n\r\n")[2]) == {
        "model": "bot-1", "stream": True, "messages": [{"role": "user", "content": "x"}],
    }  # fmt: skip
    assert [snippet(each, 0).reference for each in found] == [
        Reference(
            url="https://www.toutiao.com/a", logo_url="https://l.test/l.png", mobile_url="https://m.toutiao.com/a",
            site_name="今日头条", title="标题", summary="概要", publish_time=TIME, freshness_info="1天前",
            cover=Cover("https://c.test/c.png", 30, 20), extra={"aqi": "57"},
        )
    ]  # fmt: skip


async def test_ark_may_find_nothing() -> None:
    body = b'data: {"choices":[{"delta":{"content":"x"}}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    async with Scripted({"": ok(body, "text/event-stream")}) as server, service(server) as asked:
        assert await ArkBot(asked, "bot-1").search(quest(), "x", 5) == []


KIWIX = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"
     xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"
     xmlns:atom="http://www.w3.org/2005/Atom">
  <channel>
    <title>Search: jazz</title>
    <link>/ROOT/search?pattern=jazz&amp;format=xml&amp;start=1&amp;pageLength=5</link>
    <description>Search result for jazz</description>
    <opensearch:totalResults>44</opensearch:totalResults>
    <atom:link rel="search" type="application/opensearchdescription+xml" href="/ROOT/search/searchdescription.xml"/>
    <item>
      <title>Genius + Soul = Jazz &amp; R&amp;B</title>
      <link>/ROOT/content/wiki/A/Genius_%2B_Soul_%3D_Jazz</link>
        <description>...re-issued in the UK &amp; <b>Jazz</b> & more, it&apos;s <b>Jazz</b>...</description>
        <book>
          <title>Ray Charles</title>
        </book>
        <wordCount>242</wordCount>
    </item>
    <item>
      <title>爵士乐</title>
      <link>/ROOT/content/wiki/A/%E7%88%B5%E5%A3%AB%E4%B9%90</link>
    </item>
  </channel>
</rss>
"""


async def test_kiwix() -> None:
    async with Scripted({"/ROOT/search": ok(KIWIX.encode(), "application/rss+xml")}) as server:
        async with service(server, path="/ROOT") as asked:
            found = await Kiwix(asked, ("wiki", "more"), "https://wiki.example.com/kiwix/").search(quest(), "jazz", 5)
        request = server.asked[0]
    assert request.params == {
        "books.name": ["wiki", "more"],
        "pattern": ["jazz"],
        "format": ["xml"],
        "pageLength": ["5"],
    }
    assert [each.url for each in found] == [
        "https://wiki.example.com/kiwix/content/wiki/A/Genius_%2B_Soul_%3D_Jazz",
        "https://wiki.example.com/kiwix/content/wiki/A/%E7%88%B5%E5%A3%AB%E4%B9%90",
    ]
    reference = snippet(found[0], 0).reference
    assert (reference.title, reference.site_name) == ("Genius + Soul = Jazz & R&B", "Ray Charles")
    assert reference.summary == "re-issued in the UK & Jazz & more, it's Jazz"
    assert reference.logo_url == "https://wiki.example.com/favicon.ico"


async def test_kiwix_suggests_titles_where_no_text_is_indexed() -> None:
    suggestions = [
        {"value": "Jazz Number II", "label": "<b>Jazz</b> Number II", "kind": "path", "path": "A/Jazz_Number_II"},
        {"value": "jazz ", "label": "containing &apos;jazz&apos;...", "kind": "pattern"},
    ]
    async with Scripted({"/suggest": ok_json(suggestions)}) as server, service(server) as asked:
        found = await Kiwix(asked, ("wiki",)).search(quest(), "jazz", 5)
        assert [request.path for request in server.asked] == ["/search", "/suggest"]
        assert server.asked[1].params == {"content": ["wiki"], "term": ["jazz"], "count": ["5"]}
        assert [(each.title, each.url) for each in found] == [("Jazz Number II", server.url("/wiki/A/Jazz_Number_II"))]


async def test_kiwix_without_the_book() -> None:
    async with Scripted({}) as server, service(server) as asked:
        assert await Kiwix(asked, ("wiki",)).search(quest(), "jazz", 5) == []


async def test_kiwix_is_not_read_on_the_event_loop() -> None:
    class Noting(Kiwix):
        """Notes who reads."""

        threads: ClassVar[list[threading.Thread]] = []

        def _results(self, body: bytes) -> list[Found]:
            self.threads.append(threading.current_thread())
            return super()._results(body)

    async with Scripted({"/search": ok(b"<rss></rss>" + b"<a>" * 1000)}) as server, service(server) as asked:
        assert await Noting(asked, ()).search(quest(), "jazz", 5) == []
    assert [thread is threading.main_thread() for thread in Noting.threads] == [False]


async def test_kiwix_in_many_pieces() -> None:
    item = b"<item><title>Ja<b>zz</b></title><link>/content/a</link><description>x</description></item>"
    deep = b"<item><description>" + b"<title>a" * 100_000 + b"</item>"
    async with Scripted({"/search": ok(b"<rss>" + item + deep)}) as server, service(server) as asked:
        first, *_ = await Kiwix(asked, ("wiki",)).search(quest(), "jazz", 5)
    assert (first.title, first.summary) == ("Jazz", "x")


async def test_kiwix_looks_for_nothing_in_what_has_no_end() -> None:
    item = b"<item><title>Jazz</title><link>/content/a</link></item>"
    async with Scripted({"/search": ok(b"<rss>" + item + b"<!--" * 9 + item)}) as server, service(server) as asked:
        assert len(await Kiwix(asked, ("wiki",)).search(quest(), "jazz", 5)) == 1


async def test_kiwix_expands_no_entities() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY e SYSTEM "file:///etc/passwd">]>'
    item = "<item><title>&b;&e;</title><link>/content/wiki/A/x</link></item>"
    feed = f"{bomb}<rss><channel>{item}</channel></rss>".encode()
    async with Scripted({"/search": ok(feed)}) as server, service(server) as asked:
        found = await Kiwix(asked, ("wiki",)).search(quest(), "jazz", 5)
    assert [each.title for each in found] == ["&b;&e;"]


async def test_strangers_fields_are_made_plain() -> None:
    result = {
        "url": "https://a.test/",
        "title": "x\x00\n" + "y" * 5000,
        "content": "z" * 50_000,
        "thumbnail": "javascript:1",
    }
    async with Scripted({"": ok_json({"results": [result]})}) as server, service(server) as asked:
        made = snippet((await SearXNG(asked).search(quest(), "x", 5))[0], 0)
    assert (made.reference.title[:3], len(made.reference.title)) == ("x y", 300)
    assert (len(made.reference.summary), len(made.text), made.reference.cover) == (300, 4000, None)
