"""Events add up to a reply, and only a whole stream is complete."""

from __future__ import annotations

from collections.abc import Iterable

from arkway.core.chat import ChatReply, Choice, ToolCall, Usage
from arkway.core.events import Completeness, Delta, Event, Finished, Fold, Progress, ToolDelta, UsageReport


def folded(events: Iterable[Event], usage: Usage, *, logprobs: bool = False) -> ChatReply:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.reply(usage, logprobs=logprobs)


def complete(*events: Event) -> bool:
    whole = Completeness()
    for event in events:
        whole.add(event)
    return whole.reached()


def test_a_stream_is_complete_when_every_opened_choice_is_finished() -> None:
    assert complete(Delta("a"), Finished("stop"))
    assert complete(Finished("stop"))
    assert complete(
        Delta("a"), Delta("b", index=1), Finished("stop"), Finished("length", index=1), UsageReport(Usage())
    )
    assert not complete()
    assert not complete(Progress(1, 1), UsageReport(Usage()))
    assert not complete(Delta("a"))
    assert not complete(Delta("a"), Delta("b", index=1), Finished("stop"))
    assert not complete(ToolDelta(0, "{}", index=1), Finished("stop"))


def test_texts_tools_and_choices_add_up_in_order() -> None:
    reply = folded(
        [
            Progress(1, 2),
            Delta("b", index=1),
            Delta("a"),
            Delta("A", reasoning="hm"),
            ToolDelta(1, "{}", id="2", name="g"),
            ToolDelta(0, '{"x"', id="1", name="f"),
            ToolDelta(0, ":1}"),
            Finished("tool_calls"),
            Finished("length", index=1),
            UsageReport(Usage(9, 9)),
        ],
        Usage(3, 4),
    )
    assert reply.usage == Usage(3, 4)
    assert reply.choices == (
        Choice(0, "aA", "tool_calls", "hm", (ToolCall("1", "f", '{"x":1}'), ToolCall("2", "g", "{}"))),
        Choice(1, "b", "length"),
    )


def test_log_probabilities_appear_only_when_asked_for() -> None:
    assert folded([Delta("a"), Finished("stop")], Usage()).choices[0].logprobs is None
    assert folded([Delta("a"), Finished("stop")], Usage(), logprobs=True).choices[0].logprobs == ()
