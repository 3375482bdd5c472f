"""The plugin of the web: which provider, how many, how long, which fields."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from arkway.core.bot import Findings, Quest
from arkway.core.errors import BackendTimeout, BackendUnavailable, Misconfigured
from arkway.core.reference import Cover
from arkway.ports.lookup import Plugin
from arkway.search.found import Found
from arkway.search.page_head import Head
from arkway.search.web_search import IN_PLACE_CHARS, Read, WebSearch
from tests.tools.waiting import PATIENCE_S
from tests.unit.search.scripted import quest


class Finder:
    """A provider that finds these, after so long."""

    def __init__(self, *found: Found, name: str = "scripted", on_the_web: bool = True, after_s: float = 0) -> None:
        self.name = name
        self.on_the_web = on_the_web
        self.found = list(found)
        self.asked: list[tuple[str, int]] = []
        self.after_s = after_s
        self.ended = self.closed = False

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        self.asked.append((query, limit))
        try:
            await asyncio.sleep(self.after_s)
        finally:
            self.ended = True
        return self.found

    async def aclose(self) -> None:
        self.closed = True


class Pages:
    """Reads these pages."""

    def __init__(self, pages: Mapping[str, Read], error: Exception | None = None) -> None:
        self.pages, self.error = pages, error
        self.asked: list[tuple[list[str], float]] = []

    async def read(self, urls: list[str], timeout_s: float) -> Mapping[str, Read]:
        self.asked.append((urls, timeout_s))
        if self.error:
            raise self.error
        return self.pages


def page(number: int) -> Found:
    return Found(url=f"https://s{number}.test/", title=f"t{number}", summary=f"m{number}")


async def found_by(finder: Finder, asked: Quest, pages: Pages | None = None, reads: int = 2) -> Findings:
    return await WebSearch({finder.name: finder}, finder.name, reading=pages, pages=reads).find(asked)


async def test_it_is_a_plugin() -> None:
    plugin: Plugin = WebSearch({}, "")
    assert (plugin.source, plugin.action_name) == ("search_engine", "WebBrowsingPlus")
    assert await plugin.wanted(quest("今天的新闻"))
    assert not await plugin.wanted(quest("你好"))
    assert await plugin.wanted(quest("你好", lexicon=("你好",)))


async def test_results_are_numbered_distinct_and_at_most_the_limit() -> None:
    finder = Finder(page(1), Found(url="javascript:x"), page(2), page(1), page(3), page(4))
    findings = await found_by(finder, quest("  今天\n的 新闻 ", limit=3))
    assert finder.asked == [("今天 的 新闻", 3)]
    assert [(each.reference.idx, each.reference.url) for each in findings.snippets] == [
        (0, "https://s1.test/"), (1, "https://s2.test/"), (2, "https://s3.test/"),
    ]  # fmt: skip
    assert findings.count == 1
    assert findings.output["provider"] == "scripted"
    assert findings.output["results"][0] == {"url": "https://s1.test/", "title": "t1"}


@pytest.mark.parametrize("asked", [quest("   "), quest("x", limit=0), quest("\x00\u200b")])
async def test_nothing_is_asked_for_nothing(asked: Quest) -> None:
    finder = Finder(page(1))
    findings = await found_by(finder, asked)
    assert (findings.snippets, findings.count, finder.asked) == ((), 0, [])


async def test_a_long_question_is_cut() -> None:
    finder = Finder()
    await found_by(finder, quest("字" * 5000))
    assert len(finder.asked[0][0]) == 400


async def test_markup_in_a_question_is_asked_for() -> None:
    finder = Finder()
    await found_by(finder, quest("What do <b> and &amp; mean in HTML today?"))
    assert finder.asked[0][0] == "What do <b> and &amp; mean in HTML today?"


class Weighed(str):
    """A text that notes who reads it."""

    threads: ClassVar[set[bool]] = set()

    def __getitem__(self, key: Any) -> str:
        self.threads.add(threading.current_thread() is threading.main_thread())
        return str(self)[key]


@pytest.mark.parametrize("huge", [True, False])
async def test_huge_results_hold_up_nobody(huge: bool) -> None:
    Weighed.threads.clear()
    found = Found(url="https://s.test/", text=Weighed("<b " * (IN_PLACE_CHARS if huge else 10)))
    (snippet,) = (await found_by(Finder(found), quest())).snippets
    assert snippet.text.startswith("<b <b")
    assert Weighed.threads == {not huge}


async def test_the_bot_names_the_provider() -> None:
    one, two = Finder(page(1), name="one"), Finder(page(2), name="two")
    plugin = WebSearch({"one": one, "two": two}, "one")
    assert (await plugin.find(quest())).output["provider"] == "one"
    assert (await plugin.find(quest(provider="two"))).output["provider"] == "two"
    with pytest.raises(Misconfigured, match=r"`three`.*`one`, `two`"):
        await plugin.find(quest(provider="three"))
    await plugin.aclose()
    assert (one.closed, two.closed) == (True, True)


async def test_a_provider_has_no_more_time_than_the_action() -> None:
    finder = Finder(page(1), after_s=PATIENCE_S)
    with pytest.raises(BackendTimeout, match="`scripted`"):
        await found_by(finder, quest(deadline_s=0.05))
    assert finder.ended


async def test_a_question_can_be_called_off() -> None:
    finder = Finder(page(1), after_s=PATIENCE_S)
    finding = asyncio.ensure_future(found_by(finder, quest()))
    while not finder.asked:
        await asyncio.sleep(0)
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    assert finder.ended


READ = Read(
    Head(
        title="page's", site_name="Site", description="what it says",
        publish_time="2025年04月08日 10:30:00(CST) 星期二",
        logo_url="https://s1.test/l.png", mobile_url="https://m.s1.test/", cover=Cover("https://s1.test/c.png", 30, 20),
    ),
    "the main text\nof the page",
)  # fmt: skip


async def test_pages_fill_in_what_the_provider_does_not_tell() -> None:
    pages = Pages({"https://s1.test/": READ})
    findings = await found_by(Finder(Found(url="https://s1.test/"), page(2), page(3)), quest(), pages)
    assert pages.asked[0][0] == ["https://s1.test/", "https://s2.test/"]
    first, second = findings.snippets[0], findings.snippets[1]
    reference = first.reference
    assert first.text == "the main text\nof the page"
    assert (reference.title, reference.site_name, reference.summary) == ("page's", "Site", "what it says")
    assert reference.publish_time == "2025年04月08日 10:30:00(CST) 星期二"
    assert (reference.logo_url, reference.mobile_url) == ("https://s1.test/l.png", "https://m.s1.test/")
    assert reference.cover == Cover("https://s1.test/c.png", 30, 20)
    assert (second.text, second.reference.title) == ("m2", "t2")


async def test_what_the_provider_tells_goes_before_the_page() -> None:
    findings = await found_by(Finder(page(1)), quest(), Pages({"https://s1.test/": READ}))
    first = findings.snippets[0]
    assert (first.reference.title, first.reference.summary, first.text) == ("t1", "m1", "the main text\nof the page")


async def test_pages_that_cannot_be_read_are_left_at_that() -> None:
    findings = await found_by(Finder(page(1)), quest(), Pages({}, BackendUnavailable("no process")))
    assert findings.snippets[0].text == "m1"


async def test_pages_are_read_in_what_time_is_left() -> None:
    pages = Pages({})
    await found_by(Finder(page(1)), quest(deadline_s=20.0), pages)
    assert 0 < pages.asked[0][1] < 20.0
    none_left = Pages({})
    await found_by(Finder(page(1)), quest(deadline_s=0.09), none_left)
    assert none_left.asked == []


async def test_pages_are_read_only_where_they_lie_on_the_web_and_as_many_as_wanted() -> None:
    offline = Pages({})
    await found_by(Finder(page(1), on_the_web=False), quest(), offline)
    none = Pages({})
    await found_by(Finder(page(1)), quest(), none, reads=0)
    assert (offline.asked, none.asked) == ([], [])
