"""Whole answers, in and out: the short way for ordinary ones gives what the long way gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arkway.core.bot import BotUsage, ModelUse
from arkway.core.chat import ChatReply, ChatRequest, Choice, FinishReason, ReplyTag, ToolCall, Usage
from arkway.core.errors import ArkwayError
from arkway.core.events import Event
from arkway.core.reference import Reference
from arkway.wire import json
from arkway.wire.maas_shape import reply as maas
from arkway.wire.maas_shape.reply import ReplyStyle
from arkway.wire.openai_shape import incoming
from arkway.wire.openai_shape import reply as openai
from arkway.wire.openai_shape.incoming import ANYTHING, Possible, reply_events
from arkway.wire.openai_shape.pieces import Ordinary
from tests.security.corpus import documents
from tests.tools.wires import Place, with_value

ASKED = (ChatRequest("m", ()), ChatRequest("m", (), logprobs=True))
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1793500000, "model": "served", "error": None,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant", "content": "十字花科\n", "refusal": None, "reasoning_content": None,
                "reasoning": None, "tool_calls": [], "function_call": None,
            },
            "delta": None,
            "logprobs": None,
            "moderation_hit_type": None,
            "finish_reason": "stop",
        },
    ],
    "usage": {
        "prompt_tokens": 42, "completion_tokens": 60, "total_tokens": 102,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_cache_hit_tokens": 7,
    },
}  # fmt: skip


def places_in(value: Any, *above: str | int) -> list[Place]:
    """Every place of the answer, and beside each key one that nobody knows."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inner = [*value.items(), ("unknown", None)]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inner = [*enumerate(value)]
    return [found for key, held in inner for found in ((*above, key), *places_in(held, *above, key))]


PLACES = places_in(ANSWER)
ODD: list[Any] = [
    None, True, 0, 1, -1, 127, 128, 2**31 - 1, 2**31, 1.5, 2.0, "", "a", "stop", "length", "tool_calls",
    "function_call", "content_filter", "max_tokens", "abort", "STOP", "chat.completion", "chat.completion.chunk",
    "error", [], [None], {}, [{}], {"content": "a"}, [{"type": "text", "text": "a"}], [{"function": {"name": "f"}}],
    {"name": "f"}, {"type": "x"}, {"message": "bad"}, {"prompt_tokens": 1}, {"prompt_tokens": 0}, {"content": []},
    {"cached_tokens": -1}, "violence",
]  # fmt: skip


def outcome(events: Any) -> list[Event] | tuple[type[ArkwayError], str]:
    try:
        found: list[Event] = events()
    except ArkwayError as error:
        return type(error), error.message
    return found


def agree(body: bytes, possible: Possible = ANYTHING) -> None:
    for request in ASKED:
        short = outcome(lambda request=request: reply_events(body, request, ("hidden",), possible))
        long = outcome(
            lambda request=request: incoming._whole_events(body, ("hidden",), possible, logprobs=request.logprobs)
        )
        assert short == long
        assert repr(short) == repr(long)


def is_ordinary(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=Ordinary)
    except (ValueError, RecursionError):
        return False
    return True


def test_an_ordinary_answer_is_ordinary() -> None:
    assert is_ordinary(json.dumps(ANSWER))
    agree(json.dumps(ANSWER))
    agree(json.dumps(ANSWER), Possible(42, 58, 2))
    agree(json.dumps(ANSWER), Possible(42, 57, 2))
    for text in ("", "a", '"\\', "\0"):
        body = json.dumps(with_value(ANSWER, ("choices", 0, "message", "content"), text))
        assert is_ordinary(body)
        agree(body)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_odd_values_in_every_place(place: Place) -> None:
    for value in ODD:
        agree(json.dumps(with_value(ANSWER, place, value)))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_the_corpus_in_every_place(place: Place) -> None:
    hole = json.dumps(with_value(ANSWER, place, "@HOLE@"))
    for document in documents().values():
        if len(document) < 1000:
            agree(hole.replace(b'"@HOLE@"', document))


def test_the_corpus_as_an_answer() -> None:
    for document in documents().values():
        assert not is_ordinary(document)
        agree(document)


@pytest.mark.parametrize("hit", ODD, ids=repr)
def test_what_moderation_has_found_in_a_filtered_answer(hit: Any) -> None:
    filtered = with_value(ANSWER, ("choices", 0, "finish_reason"), "content_filter")
    body = json.dumps(with_value(filtered, ("choices", 0, "moderation_hit_type"), hit))
    assert is_ordinary(body) == (hit in ("", None))
    agree(body)
    agree(body.replace(b'"moderation_hit_type":', b'"moderation_hit_type":"first","moderation_hit_type":'))


def test_more_choices_than_one_are_not_ordinary() -> None:
    choice = ANSWER["choices"][0]
    for choices in ([], [choice, choice], [choice, {**choice, "index": 1}]):
        body = json.dumps({**ANSWER, "choices": choices})
        assert not is_ordinary(body)
        agree(body)


def test_of_repeated_names_the_last_counts() -> None:
    text = json.dumps(ANSWER)
    for name in (b"choices", b"usage", b"error", b"object"):
        for first in (b"null", b"1", b'"error"', b"[]", b'{"message":"bad"}'):
            agree(text.replace(b'"%b":' % name, b'"%b":%b,"%b":' % (name, first, name)))
            agree(text[:-1] + b',"%b":%b}' % (name, first))


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_whatever_bytes_are_changed(data: st.DataObject) -> None:
    text = bytearray(json.dumps(ANSWER))
    for _ in range(data.draw(st.integers(1, 3))):
        at, width = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 4))
        text[at : at + width] = data.draw(st.sampled_from([b"", b'"', b",", b"0", b"null", b"\\u0000", b"\\ud800"]))
    agree(bytes(text))


TEXTS = st.text(st.characters(), max_size=40)
COUNTS = st.builds(Usage, *[st.integers(0, 2**40)] * 4)
REASONS = st.sampled_from(["stop", "length", "content_filter", "tool_calls", "function_call"])


@given(TEXTS, TEXTS, TEXTS, REASONS, st.integers(0, 9), COUNTS, st.booleans())
@example("a\ud800b", "i", "m", "stop", 0, Usage(1, 2), False)
def test_a_text_leaves_in_the_openai_shape_as_any_answer_does(
    text: str, call_id: str, model: str, reason: FinishReason, index: int, counts: Usage, legacy: bool
) -> None:
    reply, tag = ChatReply((Choice(index, text, reason),), counts), ReplyTag(call_id, 1793500000, model)
    wanted = json.dumps(openai._completion(reply, tag, legacy))
    assert openai.completion(reply, tag, legacy_functions=legacy) == wanted


USES = st.builds(BotUsage, st.tuples(st.builds(ModelUse, TEXTS, st.integers(0, 99), st.integers(0, 99))))
SOURCES = st.lists(st.builds(Reference, idx=st.integers(0, 9), url=TEXTS, title=TEXTS, summary=TEXTS), max_size=2)


@given(TEXTS, COUNTS, st.none() | USES, SOURCES.map(tuple))
@example("a", Usage(1, 2), BotUsage(), ())
def test_a_text_of_a_bots_leaves_as_any_answer_does(
    text: str, counts: Usage, used: BotUsage | None, sources: tuple[Reference, ...]
) -> None:
    reply = ChatReply((Choice(0, text, "stop"),), counts, sources, used)
    tag = ReplyTag("i", 1793500000, "bot-1")
    assert openai.completion(reply, tag) == json.dumps(openai._completion(reply, tag, False))


STYLES = [ReplyStyle(one_choice=one, request_id=named) for one in (True, False) for named in (True, False)]


@given(TEXTS, TEXTS, TEXTS, REASONS, COUNTS, st.booleans(), st.sampled_from(STYLES))
@example("a\ud800b", "i", "", "stop", Usage(1, 2), False, STYLES[0])
def test_a_text_leaves_in_the_maas_shape_as_any_answer_does(
    text: str, call_id: str, own_id: str, reason: FinishReason, counts: Usage, legacy: bool, style: ReplyStyle
) -> None:
    request = ChatRequest("m", (), client_request_id=own_id, legacy_functions=legacy)
    reply, tag = ChatReply((Choice(0, text, reason, "thought"),), counts), ReplyTag(call_id, 1793500000, "m")
    wanted = json.dumps(maas._completion(reply, request, tag, style, None))
    assert maas.completion(reply, request, tag, style, None) == wanted
    sealed = json.loads(maas.completion(reply, request, tag, style, lambda text: f"sealed {text}"))
    choice = sealed["choice"] if style.one_choice else sealed["choices"][0]
    assert choice["message"]["content"] == (json.loads(json.dumps(f"sealed {text}")) if text else "")


def test_what_is_more_than_a_text_is_shown() -> None:
    tag = ReplyTag("i", 1, "m")
    for choice in (
        Choice(0, "a", "stop", "thought"),
        Choice(0, "a", "tool_calls", "", (ToolCall("c", "f", "{}"),)),
        Choice(0, "a", "stop", "", (), ()),
    ):
        reply = ChatReply((choice,), Usage(1, 2))
        (shown,) = json.loads(openai.completion(reply, tag))["choices"]
        assert shown != {"finish_reason": "stop", "index": 0, "logprobs": None, "message": {"content": "a"}}
        assert ("reasoning_content" in shown["message"]) == bool(choice.reasoning)
        assert ("tool_calls" in shown["message"]) == bool(choice.tool_calls)
        assert (shown["logprobs"] is not None) == (choice.logprobs is not None)
    both = json.loads(openai.completion(ChatReply((Choice(0, "a", "stop"), Choice(1, "b", "stop")), Usage()), tag))
    assert [choice["message"]["content"] for choice in both["choices"]] == ["a", "b"]
