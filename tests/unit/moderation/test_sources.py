"""The sources that a bot names: searched as its words are, and still in their places."""

from __future__ import annotations

from typing import Any

import pytest

from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.bot import ActionDetail, BotUsage, ModelUse, ToolDetail
from arkway.core.events import BotReport, Cited, Delta, Finished
from arkway.core.reference import Cover, Reference
from tests.tools.pushing import CALL, DEPLOYMENT, Kept, Puppet, asks

STRATEGY = Strategy(WordList({"坏人": Hit(True), "法轮": Hit(False)}), personal_patterns(("mobile",), Hit(False)))
PAGE = Reference(
    idx=0,
    url="https://pages.test/13800138000",
    logo_url="https://pages.test/logo.png",
    site_name="pages",
    title="法轮 13800138000",
    summary="so",
    publish_time="2025年04月08日 10:30:00(CST) 星期二",
    cover=Cover("https://pages.test/c.png", 3, 4),
    extra={"city": "法轮", "aqi": 91},
)
CHUNK = Reference(
    idx=1, collection_name="docs", doc_id="d" * 32, doc_name="法轮.md", doc_type="md", chunk_id="d-1", chunk_title="b"
)


class Scene:
    def __init__(self, strategy: Strategy = STRATEGY) -> None:
        self.backend, self.sink = Puppet(), Kept()
        self.counted: list[tuple[str, str]] = []
        counted = self.counted
        moderated = Moderated(self.backend, lambda _: strategy, lambda *action: counted.append(action))
        moderated.start(DEPLOYMENT, asks(), CALL, self.sink)

    def cited(self, *references: Reference) -> tuple[Reference, ...]:
        self.backend.last.says((Cited(references), Delta("好"), Finished("stop")))
        self.backend.last.ends()
        (event,) = [event for event in self.sink.got if isinstance(event, Cited)]
        return event.references

    def reported(self, given: dict[str, Any], output: dict[str, Any]) -> ToolDetail:
        detail = ActionDetail("WebBrowsingPlus", 1, (ToolDetail("search_engine", given, output, 1, 2),))
        report = BotReport(BotUsage((ModelUse("ep", 3, 4),), (), (detail,)))
        self.backend.last.says((Delta("好"), Finished("stop"), report))
        self.backend.last.ends()
        (event,) = [event for event in self.sink.got if isinstance(event, BotReport)]
        assert event.usage.models == report.usage.models
        return event.usage.details[0].tool_details[0]


def test_sources_that_are_clean_go_on_as_the_very_event() -> None:
    scene = Scene()
    clean = Reference(idx=0, title="a", url="https://pages.test/1", extra={"aqi": 91})
    events = (Cited((clean,)), Delta("好"), Finished("stop"), BotReport(BotUsage()))
    scene.backend.last.says(events)
    assert [id(event) for event in scene.sink.got] == [id(event) for event in events]
    scene.backend.last.ends()
    assert scene.counted[-1] == ("output", "allow")


def test_what_is_to_be_masked_in_a_source_is_masked() -> None:
    scene = Scene()
    page, chunk = scene.cited(PAGE, CHUNK)
    assert (page.idx, page.title, page.summary, page.site_name) == (0, "** ***********", "so", "pages")
    assert page.extra == {"city": "**", "aqi": 91}
    # An address that was masked would lead nowhere.
    assert (page.url, page.cover) == (PAGE.url, PAGE.cover)
    assert (chunk.idx, chunk.doc_name, chunk.chunk_title) == (1, "**.md", "b")
    assert scene.counted[-1] == ("output", "mask")


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "坏\u200b人"},
        {"summary": "一个坏人"},
        {"site_name": "坏人"},
        {"extra": {"a": [{"b": "坏人"}]}},
        {"extra": {"坏人": 1}},
        {"url": "https://pages.test/坏人"},
        {"mobile_url": "https://pages.test/?q=%E5%9D%8F%E4%BA%BA"},
        {"cover": Cover("https://pages.test/%e5%9d%8f%e4%ba%ba.png", 3, 4)},
    ],
)
def test_a_source_with_something_forbidden_says_nothing_and_keeps_its_number(fields: dict[str, Any]) -> None:
    scene = Scene()
    told = {"title": "t", "summary": "s", "url": "https://pages.test/", **fields}
    before, bad, after = scene.cited(Reference(idx=0, title="a"), Reference(idx=1, **told), Reference(idx=2, title="c"))
    assert bad == Reference(idx=1)
    assert (before.title, after.title, after.idx) == ("a", "c", 2)
    assert [event for event in scene.sink.got if isinstance(event, Finished)] == [Finished("stop")]
    assert scene.counted[-1] == ("output", "mask")


def test_a_document_without_its_words_is_still_one() -> None:
    scene = Scene()
    (found,) = scene.cited(
        Reference(
            idx=0, collection_name="docs", doc_id="d", doc_type="md", chunk_id="c", chunk_title="坏人", doc_name="n"
        )
    )
    assert found == Reference(idx=0, collection_name="docs", doc_id="d", doc_type="md", chunk_id="c")


def test_what_actions_tell_of_is_searched_too() -> None:
    results = [
        {"url": "https://pages.test/13800138000", "title": "法轮", "n": 1, "cover_image": {"url": "u", "width": 3}},
        {"url": "u", "title": "t", "summary": "坏人", "n": 2},
    ]
    output = {"data": {"data": {"results": results}, "status_code": 200}}
    detail = Scene().reported({"query": "坏人在哪", "city": "x"}, output)
    assert detail.input == {"query": "", "city": ""}
    assert detail.output == {
        "data": {
            "data": {
                "results": [
                    {
                        "url": "https://pages.test/13800138000",
                        "title": "**",
                        "n": 1,
                        "cover_image": {"url": "u", "width": 3},
                    },
                    {"url": "", "title": "", "summary": "", "n": 2},
                ]
            },
            "status_code": 200,
        }
    }
    assert (detail.name, detail.created_at, detail.completed_at) == ("search_engine", 1, 2)


def test_where_answers_are_not_searched_neither_are_sources() -> None:
    assert Scene(Strategy(WordList({"坏人": Hit(True)}), stages=("input",))).cited(PAGE) == (PAGE,)
