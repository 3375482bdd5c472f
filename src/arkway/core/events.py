"""What a backend yields while it answers: one small union, the same for every engine and upstream.

Order: any number of ``Progress``, ``Delta``, ``Quoted`` and ``ToolDelta``; one ``Finished`` per choice; at most one
``UsageReport`` at the end. Where the backend knows, a delta carries the completion tokens spent so
far, so that a stream that breaks has still been counted. A bot has more to say: ``Intention`` first, ``Cited`` before
the first text and perhaps once more after the last, ``BotReport`` beside the ``UsageReport``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from arkway.core.bot import BotUsage
from arkway.core.chat import ChatReply, Choice, FinishReason, LogprobEntry, ToolCall, Usage
from arkway.core.reference import Reference
from arkway.core.transient import Transient


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
    """Choice ``index`` is complete. ``hit``: what moderation has found in it (`arkway.core.chat.Choice`)."""

    reason: FinishReason
    index: int = 0
    hit: str = ""


class UsageReport(msgspec.Struct, frozen=True):
    """The backend's own final counts for the whole call."""

    usage: Usage


class Intention(msgspec.Struct, frozen=True):
    """A bot has begun to look something up; ``text`` says so to the user. Only for who asked to hear of it."""

    text: str


class Cited(msgspec.Struct, frozen=True):
    """The sources of a bot's answer. A later one replaces an earlier one: by then it is known which were used."""

    references: tuple[Reference, ...]


class BotReport(msgspec.Struct, frozen=True):
    """Everything that a bot has used for the whole call."""

    usage: BotUsage


Beside = Progress | UsageReport | Intention | Cited | BotReport
Event = Delta | Quoted | ToolDelta | Finished | Beside

BESIDE = (Progress, UsageReport, Intention, Cited, BotReport)
"""The kinds of `Beside`: what belongs to no choice."""
_PIECES = (Quoted, Delta, ToolDelta)
_OF_A_CHOICE = (*_PIECES, Finished)


class Completeness(Transient):
    """Has every choice that was opened also been finished? A stream that just ends never looks complete."""

    opened: set[int] = msgspec.field(default_factory=set)
    finished: set[int] = msgspec.field(default_factory=set)

    def add(self, event: Event) -> None:
        if isinstance(event, _PIECES):
            self.opened.add(event.index)
        elif isinstance(event, Finished):
            self.finished.add(event.index)

    def reached(self) -> bool:
        return bool(self.finished) and self.opened <= self.finished


class _OpenChoice(Transient):
    text: list[str] = msgspec.field(default_factory=list)
    reasoning: list[str] = msgspec.field(default_factory=list)
    logprobs: list[LogprobEntry] = msgspec.field(default_factory=list)
    calls: dict[int, list[str]] = msgspec.field(default_factory=dict)
    reason: FinishReason = "stop"
    hit: str = ""

    def choice(self, index: int, *, logprobs: bool) -> Choice:
        calls = self.calls
        return Choice(
            index,
            "".join(self.text),
            self.reason,
            "".join(self.reasoning),
            tuple([ToolCall(*calls[position]) for position in sorted(calls)]) if calls else (),
            tuple(self.logprobs) if logprobs else None,
            self.hit,
        )


class Fold(Transient):
    """Adds events up to a ``ChatReply``."""

    _open: dict[int, _OpenChoice] = msgspec.field(default_factory=dict)
    _references: tuple[Reference, ...] = ()
    _bot_usage: BotUsage | None = None

    def add(self, event: Event) -> None:
        self.add_all((event,))

    def add_all(self, batch: Sequence[Event]) -> None:
        """As if each was added."""
        found = self._open
        for event in batch:
            if not isinstance(event, _OF_A_CHOICE):
                self._note(event)
                continue
            choice = found.get(event.index)
            if choice is None:
                choice = found[event.index] = _OpenChoice()
            if isinstance(event, Delta):
                choice.text.append(event.text)
                if event.reasoning:
                    choice.reasoning.append(event.reasoning)
                if event.logprobs:
                    choice.logprobs.extend(event.logprobs)
            elif isinstance(event, Finished):
                choice.reason, choice.hit = event.reason, event.hit
            elif isinstance(event, Quoted):
                choice.text.append(event.delta().text)
            else:
                call = choice.calls.setdefault(event.position, ["", "", ""])
                call[0] = call[0] or event.id
                call[1] = call[1] or event.name
                call[2] += event.arguments

    def reply(self, usage: Usage, *, logprobs: bool = False) -> ChatReply:
        """The answer so far; ``usage`` is the metered one, ``logprobs`` whether the caller asked for them."""
        found = self._open
        choices = tuple([found[index].choice(index, logprobs=logprobs) for index in sorted(found)])
        return ChatReply(choices, usage, self._references, self._bot_usage)

    def _note(self, event: Beside) -> None:
        if isinstance(event, Cited):
            self._references = event.references
        elif isinstance(event, BotReport):
            self._bot_usage = event.usage
