"""What a backend yields while it answers: one small union, the same for every engine and upstream.

Order: any number of ``Progress``, ``Delta``, ``Quoted`` and ``ToolDelta``; one ``Finished`` per choice; at most one
``UsageReport`` at the end. Where the backend knows, a delta carries the completion tokens spent so
far, so that a stream that breaks has still been counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from arkway.core.chat import ChatReply, Choice, FinishReason, LogprobEntry, ToolCall, Usage


class Progress(msgspec.Struct, frozen=True):
    """The prompt is accepted; ``done`` of ``total`` prompt tokens are read. Nothing to show yet."""

    done: int
    total: int


class Delta(msgspec.Struct, frozen=True):
    """More text of choice ``index``. Token counts are totals so far over all choices; 0 = not known yet."""

    text: str
    index: int = 0
    reasoning: str = ""
    logprobs: tuple[LogprobEntry, ...] = ()
    completion_tokens: int = 0
    prompt_tokens: int = 0


class Quoted(msgspec.Struct, frozen=True):
    """More text of choice ``index``, as the JSON string in which it came.

    ``literal`` is with its quotes, valid UTF-8 and without ``\\u`` escapes: what writes JSON may write it as it is.
    """

    literal: bytes
    index: int = 0

    def delta(self) -> Delta:
        return Delta(msgspec.json.decode(self.literal, type=str), self.index)


class ToolDelta(msgspec.Struct, frozen=True):
    """More of tool call number ``position`` of choice ``index``; ``id`` and ``name`` come with its first piece."""

    position: int
    arguments: str
    index: int = 0
    id: str = ""
    name: str = ""
    completion_tokens: int = 0
    prompt_tokens: int = 0


class Finished(msgspec.Struct, frozen=True):
    """Choice ``index`` is complete."""

    reason: FinishReason
    index: int = 0


class UsageReport(msgspec.Struct, frozen=True):
    """The backend's own final counts for the whole call."""

    usage: Usage


Event = Progress | Delta | Quoted | ToolDelta | Finished | UsageReport


class Completeness:
    """Has every choice that was opened also been finished? A stream that just ends never looks complete."""

    __slots__ = ("_finished", "_opened")

    def __init__(self) -> None:
        self._opened: set[int] = set()
        self._finished: set[int] = set()

    def add(self, event: Event) -> None:
        if isinstance(event, Delta | Quoted | ToolDelta):
            self._opened.add(event.index)
        elif isinstance(event, Finished):
            self._finished.add(event.index)

    def add_all(self, batch: Sequence[Event]) -> None:
        for event in batch:
            if type(event) is Quoted:  # nearly every event of nearly every stream
                self._opened.add(event.index)
            else:
                self.add(event)

    def reached(self) -> bool:
        return bool(self._finished) and self._opened <= self._finished


class _OpenChoice:
    __slots__ = ("calls", "logprobs", "reason", "reasoning", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[LogprobEntry] = []
        self.calls: dict[int, list[str]] = {}
        self.reason: FinishReason | None = None


class Fold:
    """Adds events up to a ``ChatReply``."""

    def __init__(self) -> None:
        self._open: dict[int, _OpenChoice] = {}
        self._usage = Usage()

    def add(self, event: Event) -> None:
        match event:
            case Delta():
                choice = self._choice(event.index)
                choice.text.append(event.text)
                choice.reasoning.append(event.reasoning)
                choice.logprobs.extend(event.logprobs)
            case Quoted():
                self._choice(event.index).text.append(event.delta().text)
            case ToolDelta():
                call = self._choice(event.index).calls.setdefault(event.position, ["", "", ""])
                call[0] = call[0] or event.id
                call[1] = call[1] or event.name
                call[2] += event.arguments
            case Finished():
                self._choice(event.index).reason = event.reason
            case UsageReport():
                self._usage = event.usage
            case Progress():
                pass

    def reply(self, usage: Usage, *, logprobs: bool = False) -> ChatReply:
        """The answer so far; ``usage`` is the metered one, ``logprobs`` whether the caller asked for them."""
        return ChatReply(
            choices=tuple(
                Choice(
                    index=index,
                    text="".join(choice.text),
                    finish_reason=choice.reason or "stop",
                    reasoning="".join(choice.reasoning),
                    tool_calls=tuple(ToolCall(*choice.calls[position]) for position in sorted(choice.calls)),
                    logprobs=tuple(choice.logprobs) if logprobs else None,
                )
                for index, choice in sorted(self._open.items())
            ),
            usage=usage,
        )

    def _choice(self, index: int) -> _OpenChoice:
        if index not in self._open:
            self._open[index] = _OpenChoice()
        return self._open[index]
