"""One answer of the engine: a completion's frames become events."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import msgspec

from arkway.backends.engine.client import Frame, Timings
from arkway.backends.engine.process import Process
from arkway.backends.engine.rescore import Rescorer
from arkway.backends.engine.tokenlog import Entry, Known, TokenLog
from arkway.backends.engine.tools import CallPiece, EnforcedCalls, FoundCalls, whole_json
from arkway.core.chat import FinishReason, LogprobEntry
from arkway.core.errors import BackendFailed
from arkway.core.events import Delta, Event, Finished, Progress, ToolDelta

CALL_ID_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


class Plan(msgspec.Struct, frozen=True):
    """What one answer needs beyond its completion body. ``ids`` are the prompt's; none where it holds images."""

    ids: list[int]
    body: dict[str, Any]
    logprobs: bool
    top_logprobs: int
    tool_names: frozenset[str]
    enforced: bool
    legacy_functions: bool


class Counts(msgspec.Struct):
    """Tokens of one answer so far."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Answer:
    """Runs one completion on one slot. ``counts`` may be read at any time; ``begun`` is told of every frame."""

    def __init__(self, process: Process, plan: Plan, slot: int, begun: Callable[[], None]) -> None:
        self._process = process
        self._plan = plan
        self._slot = slot
        self._begun = begun
        self._log = TokenLog(plan.top_logprobs)
        self._rescorer = Rescorer(process.client, plan.ids, slot, plan.top_logprobs)
        self._held: list[tuple[str, list[Entry]]] = []
        self._entries: list[LogprobEntry] = []
        self._calls = _call_reader(plan)
        self._written: list[str] | None = [] if "json_schema" in plan.body else None
        self._call_ids: dict[int, str] = {}
        self.completion = process.client.complete({**plan.body, "id_slot": slot})
        self.counts = Counts()
        self._told = 0

    async def events(self) -> AsyncGenerator[Event, None]:
        """Progress, deltas and one Finished; raises BackendFailed when the engine breaks off."""
        async with aclosing(self.completion.frames()) as frames:
            async for frame in frames:
                self._begun()
                self._count(frame)
                if frame.prompt_progress is not None:
                    yield Progress(frame.prompt_progress.processed, frame.prompt_progress.total)
                elif frame.stop:
                    async with aclosing(self._end(frame)) as last:
                        async for event in last:
                            yield event
                else:
                    for event in await self._read(frame) or self._nothing_shown(frame):
                        yield event

    def _nothing_shown(self, frame: Frame) -> list[Event]:
        """Text may be held for long: whoever waits and counts is told that the engine is at work.

        A token without text may be the one that ends the answer, which does not count: it is told with the next one.
        """
        count = self.counts.completion - (not frame.content)
        if count <= self._told:
            return []
        self._told = count
        return [Delta("", completion_tokens=count, prompt_tokens=self.counts.prompt)]

    def _count(self, frame: Frame) -> None:
        self.counts.prompt = frame.tokens_evaluated or self.counts.prompt
        self.counts.completion = frame.tokens_predicted or self.counts.completion
        if frame.prompt_progress is not None:
            self.counts.cached = frame.prompt_progress.cache
        elif frame.timings != Timings():
            self.counts.cached = frame.timings.cache_n

    async def _read(self, frame: Frame) -> list[Event]:
        self._write(frame)
        if not self._plan.logprobs:
            return list(self._shown(frame.content))
        entries = self._log.feed(frame, await self._own_octets(frame))
        if self._log.gaps:
            self._held.append((frame.content, entries))
            return []
        self._entries += [self._rescorer.known(entry) for entry in entries if isinstance(entry, Known)]
        return list(self._shown(frame.content))

    async def _end(self, frame: Frame) -> AsyncGenerator[Event, None]:
        """The last frame: held deltas get their log-probabilities, held text turns out to be text."""
        if frame.stop_type == "eos":
            self.counts.completion -= 1
        self._write(frame)
        for text, entries in [*self._held, (frame.content, self._log.close())]:
            self._entries += await self._rescorer.fill(entries)
            for event in self._shown(text):
                yield event
        for event in self._converted(self._calls.close() if self._calls else ()):
            yield event
        if self._entries:
            yield self._delta("")
        if frame.stop_type == "eos" and self._written is not None and not whole_json("".join(self._written)):
            raise BackendFailed("the engine did not finish the JSON that it was held to; send the request again")
        yield Finished(self._reason(frame))

    def _write(self, frame: Frame) -> None:
        if self._written is not None:
            self._written.append(frame.content)

    def _reason(self, frame: Frame) -> FinishReason:
        if frame.stop_type == "limit" or frame.truncated:
            return "length"
        if self._calls is not None and self._calls.calls:
            return "function_call" if self._plan.legacy_functions else "tool_calls"
        return "stop"

    def _shown(self, text: str) -> Iterator[Event]:
        if self._calls is not None:
            yield from self._converted(self._calls.feed(text))
        elif text or self._entries:
            yield self._delta(text)

    def _converted(self, pieces: Iterator[str | CallPiece] | tuple[()]) -> Iterator[Event]:
        for piece in pieces:
            yield self._delta(piece) if isinstance(piece, str) else self._tool_delta(piece)

    def _delta(self, text: str) -> Delta:
        entries, self._entries = tuple(self._entries), []
        counts = self.counts
        self._told = counts.completion
        return Delta(text, logprobs=entries, completion_tokens=counts.completion, prompt_tokens=counts.prompt)

    def _tool_delta(self, piece: CallPiece) -> ToolDelta:
        """A call's tokens are shown as a call: their log-probabilities are dropped."""
        self._entries = []
        return ToolDelta(
            piece.position,
            piece.arguments,
            id=_call_id() if piece.name else "",
            name=piece.name,
            completion_tokens=self.counts.completion,
            prompt_tokens=self.counts.prompt,
        )

    async def _own_octets(self, frame: Frame) -> bytes:
        """The octets of the frame's own token: among its candidates, or asked for."""
        if not frame.completion_probabilities:
            return b""
        token = frame.completion_probabilities[0].id
        for rival in frame.completion_probabilities[0].top_logprobs:
            if rival.id == token:
                return bytes(rival.octets)
        if not frame.completion_probabilities[0].octets and not frame.content:
            return b""
        return (await self._process.client.pieces([token], special=False))[0].octets


def _call_reader(plan: Plan) -> EnforcedCalls | FoundCalls | None:
    if plan.enforced:
        return EnforcedCalls()
    return FoundCalls(plan.tool_names) if plan.tool_names else None


def _call_id() -> str:
    return "call_" + "".join(secrets.choice(CALL_ID_LETTERS) for _ in range(24))
