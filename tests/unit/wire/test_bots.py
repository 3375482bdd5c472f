"""What callers say to bots beside the chat, and what encoders make of a bot's events however they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.bot import Asker
from arkway.core.chat import ChatRequest, ReplyTag, Usage
from arkway.core.errors import BackendFailed, EndpointNotFound
from arkway.core.events import Cited, Completeness, Delta, Event, Finished, Fold, Intention, Quoted
from arkway.core.raw import RawRequest, Tap
from arkway.core.reference import Cover, Reference
from arkway.dialects.bots import BotsV2
from arkway.dialects.openai import OpenAI
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v3 import ArkV3, ArkV3Bots
from arkway.ports import Dialect
from arkway.wire import bots, json
from tests.wire.scripts import BOT_END, BOT_USAGE, DOCUMENT, PAGE

TAG = ReplyTag("id", 1719792000, "m")
OF_BOTS: tuple[Dialect, ...] = (BotsV2(), ArkV3Bots(), ArkV3(), OpenAI())
EVERY: tuple[Dialect, ...] = (*OF_BOTS, MaasV1(), MaasV2())
BY_NAME = pytest.mark.parametrize("dialect", OF_BOTS, ids=lambda dialect: dialect.name)
EACH = pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
ASIDES = st.dictionaries(
    st.sampled_from([bots.USER_INFO, bots.INTENTION, "other"]),
    JSON_VALUES | st.builds(lambda value: json.dumps(value).decode(), JSON_VALUES),
)


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


def raw(path: str) -> RawRequest:
    return RawRequest("POST", path, "", {}, TAG.id, 0, _no_body)


def streamed(dialect: Dialect, events: Iterable[Event], **asked: Any) -> bytes:
    encoder = dialect.stream(ChatRequest("bot-1", (), stream=True, **asked), TAG)
    return b"".join([*(encoder.feed(event) for event in events), encoder.close(Usage(12, 3))])


def frames(body: bytes) -> list[Any]:
    payloads = [block.removeprefix(b"data:").strip() for block in body[:-2].split(b"\n\n")]
    assert payloads.pop() == b"[DONE]"
    return [json.loads(payload) for payload in payloads]


def sources(frame: Any) -> list[str] | None:
    """The titles of a frame's sources, those of documents' chunks included; None where it names none at all."""
    found = frame.get("references")
    for choice in frame["choices"]:
        found = choice.get("message", {}).get("references", found)
    return None if found is None else [entry.get("title") or entry.get("chunk_title") for entry in found]


@given(ASIDES | JSON_VALUES)
def test_nothing_that_stands_aside_is_an_error(given: Any) -> None:
    aside = bots.aside(given, "extra.")

    told = {path.split(".")[1] for path in aside.ignored if "." in path}
    if aside.asker != Asker():
        assert bots.USER_INFO not in aside.ignored
        assert all(text.isprintable() for text in (aside.asker.city, aside.asker.district))
    if isinstance(given, dict):
        assert told <= {name[:64] for name in given if given[name] is not None}
        assert ("other" in told) == (given.get("other") is not None)


@pytest.mark.parametrize("wish", [True, "true", "True"])
def test_every_form_of_the_wish_is_one(wish: Any) -> None:
    assert bots.aside({bots.INTENTION: wish}, "metadata.") == (Asker(), True, ())


@pytest.mark.parametrize("wish", [1, 0, "1", "yes", [], {}, 1.0])
def test_what_is_no_wish_is_told(wish: Any) -> None:
    assert bots.aside({bots.INTENTION: wish}, "metadata.") == (Asker(), False, (f"metadata.{bots.INTENTION}",))


@pytest.mark.parametrize("text", ["{", "[1]", "5", "null", "北京", '{"city":' * 100, "\ud800", '"\ufeff{}"'])
def test_a_user_info_that_cannot_be_read_has_no_effect_and_is_told(text: str) -> None:
    assert bots.aside({bots.USER_INFO: text}, "extra.") == (Asker(), False, ("extra.user_info",))


@pytest.mark.parametrize(
    "bot_id", ["", "ep-20240701000000-tests", "bot", "BOT-1", " bot-1", "bot-\0", "bot-" + "x" * 300]
)
def test_what_stands_for_no_bot_is_a_bot_that_is_not_there(bot_id: str) -> None:
    with pytest.raises(EndpointNotFound):
        BotsV2().decode_chat(raw(f"/api/v2/bots/{bot_id}/chat"), b'{"messages":[{"role":"user"}]}')


@pytest.mark.parametrize("bot_id", ["bot-20240701000000-nobdy", "ep-1", "bot-" + "x" * 300])
def test_one_answer_for_every_bot_that_a_caller_cannot_have(bot_id: str) -> None:
    near = EndpointNotFound(bot_id, near=("ep-20240701000000-tests",))
    reply = BotsV2().encode_error(near, "id")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "InvalidBot")
    assert b"did you mean" not in reply.body
    assert b"did you mean" not in ArkV3Bots().encode_error(near, "id").body


@BY_NAME
def test_sources_stand_on_the_first_content_and_on_the_last_frame(dialect: Dialect) -> None:
    events = [Cited((PAGE, DOCUMENT)), Delta(""), Delta("a"), Delta("b"), Cited((DOCUMENT,)), *BOT_END]

    found = [sources(frame) for frame in frames(streamed(dialect, events))]

    assert found == [["北京天气", "天气"], None, ["天气"]]


@BY_NAME
@pytest.mark.parametrize("wants_running_usage", [False, True])
def test_a_quoted_text_says_what_a_text_says(dialect: Dialect, wants_running_usage: bool) -> None:
    before: tuple[Event, ...] = (Intention("正在搜索"), Cited((PAGE,)))
    for led in (before, before[:1], before[1:], ()):
        plain = streamed(dialect, [*led, Delta("晴"), Delta("。"), *BOT_END], wants_running_usage=wants_running_usage)
        quoted = streamed(
            dialect,
            [*led, Quoted('"晴"'.encode()), Quoted('"。"'.encode()), *BOT_END],
            wants_running_usage=wants_running_usage,
        )
        assert plain == quoted


@BY_NAME
def test_a_sign_of_life_takes_nothing_from_the_first_frame(dialect: Dialect) -> None:
    encoder = dialect.stream(ChatRequest("bot-1", (), stream=True), TAG)
    encoder.feed(Cited((PAGE,)))
    beat = encoder.heartbeat()
    assert b"references" not in beat
    assert b"references" in encoder.feed(Delta("晴"))
    assert b"references" not in encoder.feed(Delta("。"))


@BY_NAME
def test_an_error_says_nothing_of_sources_or_usage(dialect: Dialect) -> None:
    encoder = dialect.stream(ChatRequest("bot-1", (), stream=True), TAG)
    for event in (Cited((PAGE,)), Delta("晴"), *BOT_END):
        encoder.feed(event)
    last = encoder.fail(BackendFailed("broken"))
    assert b"references" not in last
    assert b"usage" not in last


@EACH
def test_a_bots_events_leave_the_words_of_every_dialect_as_they_are(dialect: Dialect) -> None:
    """What a client reads that knows nothing of bots."""

    def said(events: Iterable[Event]) -> str:
        text = ""
        for frame in frames(streamed(dialect, events)):
            for choice in [*frame.get("choices", []), *([frame["choice"]] if "choice" in frame else [])]:
                text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
        return text

    beside: list[Event] = [Intention("正在搜索"), Cited((PAGE,))]
    words: list[Event] = [Delta("晴"), Delta("。")]
    assert said([*beside, *words, *BOT_END]) == said([*words, Finished("stop")]) == "晴。"


def test_only_those_who_know_bots_hear_of_them() -> None:
    events: list[Event] = [Cited((PAGE,)), Delta("晴"), *BOT_END]
    for dialect in (MaasV1(), MaasV2()):
        assert b"references" not in streamed(dialect, events)
        assert b"model_usage" not in streamed(dialect, events)


def test_no_count_of_an_action_is_told_on_v3() -> None:
    """The Go SDK has a string for one of them: an integer there makes it refuse the whole answer."""
    uses = frames(streamed(ArkV3Bots(), [Delta("晴"), *BOT_END]))[-1]["bot_usage"]["action_usage"]
    assert [set(use) for use in uses] == [{"name", "action_name", "count", "search_count"}] * 2
    assert all(type(use["count"]) is int for use in uses)


def test_every_count_is_an_integer_on_bot_api_v2() -> None:
    usage = frames(streamed(BotsV2(), [Delta("晴"), *BOT_END]))[-1]["usage"]
    for use in usage["model_usage"] + usage["action_usage"]:
        assert {type(value) for name, value in use.items() if name.endswith(("tokens", "count"))} == {int}


def test_a_page_has_every_field_of_a_page_and_a_document_every_field_of_a_document() -> None:
    page, document = bots.reference(Reference(url="u")), bots.reference(Reference(collection_name="c"))
    assert page.keys() == {"url", "logo_url", "mobile_url", "site_name", "title", "summary", "publish_time"}
    assert document.keys() == {
        "collection_name", "doc_id", "doc_name", "doc_type", "doc_title", "chunk_id", "chunk_title",
    }  # fmt: skip
    assert bots.reference(Reference(cover=Cover("p", 1, 2)))["cover_image"] == {"url": "p", "width": 1, "height": 2}


def test_a_whole_answer_has_the_last_sources_and_the_report() -> None:
    fold, whole = Fold(), Completeness()
    events: list[Event] = [Intention("…"), Cited((PAGE, DOCUMENT)), Delta("看[2]"), Cited((DOCUMENT,)), *BOT_END]
    fold.add_all(events)
    for event in events:
        whole.add(event)
    reply = fold.reply(Usage(12, 3))
    assert whole.reached()
    assert (reply.references, reply.bot_usage) == ((DOCUMENT,), BOT_USAGE)
    assert [choice.text for choice in reply.choices] == ["看[2]"]


@pytest.mark.parametrize("hit", ["violence", "severe_violation", ""])
@pytest.mark.parametrize("name", ["v3", "openai", "v3-bots"])
def test_what_moderation_found_is_told_with_the_end(name: str, hit: str) -> None:
    dialect = next(each for each in OF_BOTS if each.name == name)
    events: list[Event] = [Delta("a"), Finished("content_filter", hit=hit)]
    ends = [choice for frame in frames(streamed(dialect, events)) for choice in frame["choices"]]
    fold = Fold()
    fold.add_all(events)
    whole = json.loads(dialect.encode_chat(fold.reply(Usage(1, 1)), ChatRequest("m", ()), TAG))["choices"]
    assert [end.get("moderation_hit_type", "") for end in ends] == ["", hit]
    assert whole[0].get("moderation_hit_type", "") == hit
