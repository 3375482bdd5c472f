"""Pages of results: fetched as callers' URLs are, read in a child process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import pytest

from arkway.core.bot import Quest
from arkway.core.errors import BackendUnavailable, UnsupportedInput
from arkway.core.reference import Cover
from arkway.ports import Fetched
from arkway.search.found import Found
from arkway.search.reading import PageReading
from arkway.search.web_search import WebSearch
from tests.tools.raw_upstream import RawUpstream, saying
from tests.tools.waiting import PATIENCE_S
from tests.tools.web import OUTSIDE, Names, beside, fetcher, page, paths, redirect
from tests.unit.search.scripted import quest

HTML = """<!doctype html><html><head><title>长江水位 - 示例</title><meta property="og:title" content="长江水位">
<meta property="og:site_name" content="示例网">
<meta property="article:published_time" content="2025-04-08T10:30:00+08:00">
<meta property="og:image" content="/c.png"><meta property="og:image:width" content="640">
<meta property="og:image:height" content="480"><link rel="icon" href="/i.png">
<link rel="amphtml" href="https://m.a.test/"></head><body><nav>首页 登录 注册</nav><article><h1>长江水位</h1>
<p>四月八日上午，长江中游的水位比前一天上升了两米，沿江各地已经开始转移居民，学校停课两天。</p>
<p>水利部门说，这次洪水的规模与五年前的那一次相近，预计在三天之内退去，目前没有人员伤亡的报告。</p>
<p>当地气象台预计周末还会有一次降雨过程，请居民留意后续的通知，不要前往江边。</p></article>
<script>steal()</script></body></html>"""
CONFINED = """
import os, sys
import msgspec
from arkway.search.extraction import Extract, confine
from arkway.search.page_head import Head

confine()
kept = {"PYTHONPATH", "LD_LIBRARY_PATH", "LC_CTYPE"}
told = ",".join(sorted(set(os.environ) - kept))
try:
    with open("/tmp/arkway-confined", "w") as file:
        file.write("x")
    told += " wrote a file"
except OSError:
    pass
sys.stdout.buffer.write(msgspec.json.encode(Extract(0, Head(title="here"), told)) + b"\\n")
"""
SLOW = (sys.executable, "-c", "import time; time.sleep(600)")


class Fetching:
    """A fetcher that has these pages, or none."""

    def __init__(self, pages: dict[str, bytes | None], content_type: str = "text/html") -> None:
        self.pages, self.content_type = pages, content_type

    async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
        body = self.pages.get(url, b"")
        if body is None:
            await asyncio.sleep(PATIENCE_S)
        if not body:
            raise UnsupportedInput("the server of the URL cannot be reached")
        return Fetched(self.content_type, body, url)


async def test_a_page_is_read() -> None:
    urls = ["https://a.test/1", "https://a.test/gone", "https://a.test/gbk"]
    pages: dict[str, bytes | None] = {urls[0]: HTML.encode(), urls[2]: HTML.encode("gb18030")}
    read = await PageReading(Fetching(pages)).read(urls, PATIENCE_S)
    assert sorted(read) == [urls[0], urls[2]]
    for each in read.values():
        assert each.head.title == "长江水位"
        assert (each.head.site_name, each.head.publish_time) == ("示例网", "2025年04月08日 10:30:00(CST) 星期二")
        assert each.head.cover == Cover("https://a.test/c.png", 640, 480)
        assert (each.head.logo_url, each.head.mobile_url) == ("https://a.test/i.png", "https://m.a.test/")
        assert "水位比前一天上升了两米" in each.text
        assert "登录" not in each.text
        assert "steal" not in each.text


async def test_pages_that_are_none_do_no_harm() -> None:
    bodies = (b"\x00" * 1000, b"<" * 300_000, b"<div>" * 100_000, b"\xff\xfe<\x00", b"%PDF-1.7", b"x", HTML.encode())
    urls = [f"https://a.test/{number}" for number in range(len(bodies))]
    read = await PageReading(Fetching(dict(zip(urls, bodies, strict=True)))).read(urls, PATIENCE_S)
    assert read[urls[-1]].head.title == "长江水位"


async def test_a_child_that_hangs_costs_no_more_than_the_time() -> None:
    reading = PageReading(Fetching({"https://a.test/": HTML.encode()}), command=SLOW)
    assert await reading.read(["https://a.test/"], 0.5) == {}


@pytest.mark.parametrize(
    "script",
    ["raise SystemExit(1)", "print('nonsense', flush=True)", "print('x' * 5_000_000)", "import os; os.abort()"],
)
async def test_a_child_that_breaks_is_a_child_less(script: str) -> None:
    reading = PageReading(Fetching({"https://a.test/": HTML.encode() * 200}), command=(sys.executable, "-c", script))
    assert await reading.read(["https://a.test/"] * 3, PATIENCE_S) == {}


async def test_no_child_can_be_started() -> None:
    with pytest.raises(BackendUnavailable):
        await PageReading(Fetching({}), command=("/nonexistent/python",)).read(["https://a.test/"], PATIENCE_S)


async def test_a_page_on_which_the_fetcher_has_a_defect_is_one_page_less() -> None:
    class Failing(Fetching):
        async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
            if url == "https://b.test/":
                raise ValueError("a defect")
            return await super().fetch(url, max_bytes=max_bytes, timeout_s=timeout_s, accept=accept)

    reading = PageReading(Failing({"https://a.test/": HTML.encode()}))
    read = await asyncio.wait_for(reading.read(["https://b.test/", "https://a.test/"], 10 * PATIENCE_S), PATIENCE_S)
    assert list(read) == ["https://a.test/"]


async def test_what_was_read_in_time_is_there_though_another_page_is_late() -> None:
    pages: dict[str, bytes | None] = {"https://a.test/": HTML.encode(), "https://late.test/": None}
    read = await PageReading(Fetching(pages)).read(list(pages), 10.0)
    assert list(read) == ["https://a.test/"]


async def test_the_child_has_no_environment_and_no_files() -> None:
    reading = PageReading(Fetching({"https://a.test/": b"x"}), command=(sys.executable, "-c", CONFINED))
    read = await reading.read(["https://a.test/"], PATIENCE_S)
    assert [(each.head.title, each.text) for each in read.values()] == [("here", "")]


class Finder:
    """A provider whose results lie where an attacker wants them."""

    name = "hostile"
    on_the_web = True

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        return [Found(url=url, summary="from the provider") for url in self.urls]

    async def aclose(self) -> None: ...


INSIDE = (
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://0.0.0.0:{port}/",
    "http://2130706433:{port}/",
    "http://127.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://inside.test:{port}/",
    "http://169.254.169.254:{port}/",
    "http://10.0.0.1:{port}/",
)  # fmt: skip


async def test_pages_inside_are_not_fetched() -> None:
    """Not one connection, by whatever address, name or redirect; and the results are there all the same."""
    secret = saying(page(HTML.encode(), "text/html"))
    answers: dict[str, bytes] = {}
    async with RawUpstream(paths(answers), OUTSIDE) as outside:
        others = [await beside(outside, secret, host) for host in ("127.0.0.1", "::1")]
        port = outside.port
        answers["/redirect"] = redirect(f"http://127.0.0.1:{port}/")
        answers["/ok"] = page(HTML.encode(), "text/html; charset=utf-8")
        names = Names({"inside.test": [["127.0.0.1"]], "localhost": [["127.0.0.1"]], "a.test": [[OUTSIDE]]})
        urls = [
            each.format(port=port) for each in (*INSIDE, "http://a.test:{port}/redirect", "http://a.test:{port}/ok")
        ]
        reading = PageReading(fetcher(port, names))
        plugin = WebSearch({"hostile": Finder(urls)}, "hostile", reading=reading, pages=len(urls))
        findings = await plugin.find(quest(limit=len(urls)))
        texts = {each.reference.url: each.text for each in findings.snippets}
        assert [len(other.peers) for other in others] == [0, 0]
        assert len(outside.peers) == 2
        assert "水位" in texts.pop(urls[-1])
        assert set(texts.values()) == {"from the provider"}
        for other in others:
            await other.close()


async def test_only_html_is_read() -> None:
    async with RawUpstream(paths({"/": page(b"\x89PNG", "image/png")}), OUTSIDE) as server:
        reading = PageReading(fetcher(server.port, Names({"a.test": [[OUTSIDE]]})))
        assert await reading.read([f"http://a.test:{server.port}/"], PATIENCE_S) == {}


async def test_a_page_that_is_too_large_is_not_read() -> None:
    async with RawUpstream(paths({"/": page(HTML.encode() * 50, "text/html")}), OUTSIDE) as server:
        reading = PageReading(fetcher(server.port, Names({"a.test": [[OUTSIDE]]})), max_bytes=4096)
        assert await reading.read([f"http://a.test:{server.port}/"], PATIENCE_S) == {}
