"""A backend behind moderation: what goes in, what comes out, and who is told what."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.chat import ChatRequest, LogprobEntry, Message, TextPart, TokenLogprob, ToolCall, Usage
from arkway.core.errors import BackendFailed, InputBlocked
from arkway.core.events import Delta, Event, Finished, Fold, Progress, Quoted, ToolDelta, UsageReport
from tests.tools.pushing import CALL, DEPLOYMENT, Kept, Puppet, asks
from tests.tools.waiting import soon

BLOCK, MASK = Hit(True), Hit(False)
WORDS = WordList({"坏人": Hit(True, "violence"), "法轮": MASK, "abc": BLOCK})
STRATEGY = Strategy(WORDS, personal_patterns(("mobile",), MASK))
ENDED = UsageReport(Usage(3, 4))


class Scene:
    """One call through moderation."""

    def __init__(self, strategy: Strategy | None = STRATEGY, request: ChatRequest | None = None) -> None:
        self.backend, self.sink = Puppet(), Kept()
        counted: list[tuple[str, str]] = []
        self.counted = counted
        moderated = Moderated(self.backend, lambda _: strategy, lambda *action: counted.append(action))
        self.running = moderated.start(DEPLOYMENT, request or asks(), CALL, self.sink)

    def says(self, *events: Event) -> None:
        self.backend.last.says(events)

    def text(self) -> str:
        return folded(self.sink.got)


def folded(events: Sequence[Event]) -> str:
    fold = Fold()
    fold.add_all(events)
    choices = fold.reply(Usage()).choices
    return choices[0].text if choices else ""


def test_without_a_strategy_nothing_stands_in_between() -> None:
    scene = Scene(None)
    assert scene.running is scene.backend.last
    scene.says(Quoted('"坏人"'.encode()))
    assert scene.sink.got == [Quoted('"坏人"'.encode())]
    assert scene.counted == []


def test_what_is_clean_goes_on_as_the_very_event() -> None:
    scene = Scene()
    events = (Progress(1, 1), Quoted('"好"'.encode()), Delta("的", completion_tokens=2), Finished("stop"), ENDED)
    scene.says(*events)
    scene.backend.last.ends()
    assert [id(event) for event in scene.sink.got] == [id(event) for event in events]
    assert scene.sink.over
    assert scene.sink.error is None
    assert scene.counted == [("input", "allow"), ("output", "allow")]


def test_a_hit_ends_the_answer_and_stops_the_backend() -> None:
    scene = Scene()
    scene.says(Delta("他是", completion_tokens=2))
    scene.says(Delta("坏", completion_tokens=3))
    scene.says(Delta("人。", completion_tokens=5))
    assert scene.sink.got == [
        Delta("他是", completion_tokens=2),
        Delta("", completion_tokens=3),
        Delta("", completion_tokens=5),
        Finished("content_filter", 0, "violence"),
    ]
    assert scene.sink.over
    assert scene.backend.last.cancelled
    assert scene.counted == [("input", "allow"), ("output", "block")]


def test_masks_are_put_into_quoted_text_too() -> None:
    scene = Scene()
    for literal in ('"看法"', '"\\u8f6e!"', '"\\"x\\""'):
        scene.says(Quoted(literal.encode()))
    scene.says(Finished("stop"))
    scene.backend.last.ends()
    assert scene.text() == '看**!"x"'
    assert scene.counted[-1] == ("output", "mask")


def test_what_was_held_back_comes_before_the_end() -> None:
    scene = Scene()
    scene.says(Delta("想法"))
    assert scene.text() == "想"
    scene.says(Finished("length"))
    assert scene.text() == "想法"
    assert scene.sink.got[-1] == Finished("length")


def test_thoughts_and_arguments_are_texts_of_their_own() -> None:
    scene = Scene()
    scene.says(Delta("", reasoning="想法"), Delta("轮到"))
    scene.says(
        ToolDelta(0, "", id="c", name="f"),
        ToolDelta(0, '{"a":"1380013'),
        ToolDelta(0, '8000"}'),
        Finished("tool_calls"),
    )
    scene.backend.last.ends()
    fold = Fold()
    fold.add_all(scene.sink.got)
    (choice,) = fold.reply(Usage()).choices
    assert (choice.reasoning, choice.text) == ("想法", "轮到")
    assert choice.tool_calls == (ToolCall("c", "f", '{"a":"***********"}'),)
    assert [event.reasoning for event in scene.sink.got if isinstance(event, Delta)][:2] == ["想", "法"]


@pytest.mark.parametrize(
    "event", [Delta("", reasoning="坏人"), ToolDelta(0, '"\\u574f人"', id="c", name="f")], ids=["thoughts", "arguments"]
)
def test_a_hit_anywhere_ends_the_answer(event: Event) -> None:
    scene = Scene()
    scene.says(event)
    assert scene.sink.got[-1] == Finished("content_filter", 0, "violence")
    assert scene.sink.over
    assert "坏" not in str(scene.sink.got)


def test_of_several_answers_only_the_one_at_fault_ends() -> None:
    scene = Scene(request=msgspec.structs.replace(asks(), n=2))
    scene.says(Delta("坏人", 0), Delta("好", 1))
    scene.says(Delta("还有", 0), Delta("的", 1))
    assert not scene.backend.last.cancelled
    scene.says(Finished("stop", 0), Finished("stop", 1), ENDED)
    scene.backend.last.ends()
    assert scene.sink.got == [
        Delta("", 0),
        Finished("content_filter", 0, "violence"),
        Delta("好", 1),
        Delta("的", 1),
        Finished("stop", 1),
        ENDED,
    ]
    assert scene.sink.over


def test_scores_go_out_with_their_text_or_not_at_all() -> None:
    def entry(token: str, *rivals: str) -> LogprobEntry:
        def scored(text: str) -> TokenLogprob:
            return TokenLogprob(text, -1.0, text.encode())

        return LogprobEntry(scored(token), tuple(map(scored, rivals)))

    scene = Scene(request=msgspec.structs.replace(asks(), logprobs=True))
    for token in ("看", "法", "国", "法", "轮"):
        scene.says(Delta(token, logprobs=(entry(token, "坏人", "好"),)))
    scene.says(Finished("stop"))
    told = [
        (event.text, [score.chosen.token for score in event.logprobs])
        for event in scene.sink.got
        if isinstance(event, Delta)
    ]
    assert told == [("看", ["看"]), ("", []), ("法国", ["法", "国"]), ("", []), ("**", [])]
    assert "坏人" not in str(scene.sink.got)


def test_what_is_asked_is_searched_before_the_backend_hears_of_it() -> None:
    messages = (
        Message("system", "好"),
        Message("assistant", None, tool_calls=(ToolCall("c", "f", '"13800138000"'),)),
        Message("user", (TextPart("法轮"), TextPart("打 13800138000"))),
    )
    scene = Scene(request=msgspec.structs.replace(asks(), messages=messages))
    heard = scene.backend.last.request.messages
    assert heard[0] is messages[0]
    assert heard[1].tool_calls[0].arguments == '"***********"'
    assert heard[2].content == (TextPart("**"), TextPart("打 ***********"))
    assert scene.counted == [("input", "mask")]


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "他是坏人"),
        Message("user", (TextPart("坏"), TextPart("人"))),
        Message("assistant", "", tool_calls=(ToolCall("c", "f", '"\\u574f\\u4eba"'),)),
    ],
)
def test_what_may_not_be_asked_begins_nothing(message: Message) -> None:
    backend, counted = Puppet(), list[tuple[str, str]]()
    moderated = Moderated(backend, lambda _: STRATEGY, lambda *action: counted.append(action))
    with pytest.raises(InputBlocked) as caught:
        moderated.start(
            DEPLOYMENT, msgspec.structs.replace(asks(), messages=(Message("user", "好"), message)), CALL, Kept()
        )
    assert caught.value.field == "messages[1]"
    assert backend.asked == []
    assert counted == [("input", "block")]


@pytest.mark.parametrize("text", ["好" * 30_000, "好" * 30_000 + "坏人"], ids=["clean", "not"])
async def test_what_is_long_is_searched_beside_the_loop(text: str) -> None:
    scene = Scene(request=asks(text))
    scene.running.pause()
    if "坏" in text:
        await soon(lambda: scene.sink.over)
        assert isinstance(scene.sink.error, InputBlocked)
        assert scene.backend.asked == []
        assert scene.counted == [("input", "block")]
    else:
        await soon(lambda: scene.backend.asked)
        assert scene.backend.last.told == ["pause"]
        assert scene.counted == [("input", "allow")]


async def test_whoever_leaves_while_the_question_is_searched_begins_nothing() -> None:
    scene = Scene(request=asks("好" * 30_000))
    scene.running.cancel()
    await soon(lambda: scene.running._task.done())  # type: ignore[attr-defined]
    assert scene.backend.asked == []
    assert not scene.sink.over


def test_pause_resume_and_cancel_go_through() -> None:
    scene = Scene()
    scene.running.pause()
    scene.running.resume()
    scene.running.cancel()
    scene.running.cancel()
    assert scene.backend.last.told == ["pause", "resume", "cancel"]
    assert not scene.sink.over


def test_what_the_backend_fails_with_goes_through() -> None:
    scene = Scene()
    scene.says(Delta("法"))
    scene.backend.last.fails(BackendFailed("no"))
    assert isinstance(scene.sink.error, BackendFailed)


def test_a_stage_that_is_off_is_not_searched() -> None:
    scene = Scene(Strategy(WORDS, stages=("input",)))
    assert scene.running is scene.backend.last
    scene = Scene(Strategy(WORDS, stages=("output",)), asks("坏人"))
    assert scene.backend.asked


def test_a_call_that_has_ended_is_not_left_to_the_collector() -> None:
    scene = Scene()
    running = weakref.ref(scene.running)
    scene.says(Delta("好"), Finished("stop"))
    scene.backend.last.ends()
    gc.collect()
    gc.disable()
    try:
        del scene
        assert running() is None
    finally:
        gc.enable()


@given(st.lists(st.text(alphabet="坏人法轮abc好13800", max_size=6), max_size=8), st.booleans())
@settings(max_examples=400, deadline=None)
def test_streamed_and_whole_are_the_same(pieces: list[str], quoted: bool) -> None:
    text = "".join(pieces)

    def answered(parts: list[str]) -> tuple[str, list[Event]]:
        scene = Scene()
        for part in parts:
            if not scene.sink.over:
                scene.says(Quoted(msgspec.json.encode(part)) if quoted else Delta(part))
            assert "坏人" not in scene.text()
            assert "abc" not in scene.text()
        if not scene.sink.over:
            scene.says(Finished("stop"))
            scene.backend.last.ends()
        return scene.text(), [event for event in scene.sink.got if isinstance(event, Finished)]

    assert answered(pieces) == answered([text]) == answered(list(text))
