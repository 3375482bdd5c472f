"""What an upstream server answers, in the OpenAI-like shape, to events: streams and whole answers.

Nearly all frames of one stream are the same but for the string of their content. Once one of them has been parsed, what
stands around that string is known, and a frame that has the same around it and one plain JSON string between is not
parsed any more. Every other frame is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import ArkwayError, BackendFailed
from arkway.core.events import Delta, Event, Finished, Quoted, UsageReport
from arkway.wire.openai_shape.faults import fault_in, is_fault
from arkway.wire.openai_shape.pieces import (
    CallPositions,
    Choice,
    Chunk,
    Ordinary,
    counted,
    ending,
    entries,
    finish,
    reasoning,
    text,
    tool_deltas,
    usage,
)

FRAME_MAX_BYTES = 8 << 20
CHOICES_MAX = 128
_LEARNT_MAX = 4096

_LITERAL = rb'"[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+"'
_is_said = re.compile(rb'(?!"")' + _LITERAL).fullmatch
_CONTENT = re.compile(rb'"content"\s*:\s*(' + _LITERAL + rb")")
_NEVER = b"\xff"
"""No frame begins with it: it is not UTF-8."""
_BOM = b"\xef\xbb\xbf"

_chunk = msgspec.json.Decoder(Chunk).decode
_ordinary = msgspec.json.Decoder(Ordinary).decode

BROKE_OFF = "the model's answer broke off before its end"
UNREADABLE = "the model's server sent an answer that cannot be read"


class Possible(msgspec.Struct, frozen=True):
    """The most tokens that a call can have used. A report of more than that is not believed."""

    prompt_tokens: int
    answer_tokens: int
    thought_tokens: int

    def believed(self, counts: Usage | None) -> Usage | None:
        """The counts, unless they cannot be. What was thought may be beside the answer's own limit."""
        if counts is None or counts.prompt_tokens > self.prompt_tokens:
            return None
        thought, whole = counts.reasoning_tokens, counts.completion_tokens
        return None if thought > self.thought_tokens or whole - thought > self.answer_tokens else counts


ANYTHING = Possible(2**63, 2**63, 2**63)


class StreamReader:
    """One stream. Takes its bytes in any pieces; no method waits.

    ``choices`` is how many answers were asked for, ``hidden`` what no message may show (see `error_of`). Counts that
    are not ``possible`` are as good as none.

    ``done``: the stream has ended as it should, and what comes after does not count. ``failure``: it has broken, and
    why; nothing is read any more. An end of the stream that is not its proper one is found by `end`.
    """

    __slots__ = (
        "_after",
        "_before",
        "_calls",
        "_choices",
        "_event",
        "_finished",
        "_hidden",
        "_index",
        "_learnt",
        "_opened",
        "_partial",
        "_pieces",
        "_possible",
        "_size",
        "_usage",
        "done",
        "failure",
    )

    def __init__(self, choices: int = 1, hidden: Sequence[str] = (), possible: Possible = ANYTHING) -> None:
        self._choices = choices
        self._hidden = hidden
        self._possible = possible
        self._before, self._after, self._index, self._learnt = _NEVER, b"", 0, 0
        self._event = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._partial: list[bytes] = []
        self._opened: set[int] = set()
        self._finished: dict[int, Finished] = {}
        self._calls: dict[int, CallPositions] = {}
        self._usage: UsageReport | None = None
        self.done = False
        self.failure: ArkwayError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """What the next bytes bring, possibly nothing; never raises (see ``failure``)."""
        if self.done or self.failure is not None:
            return []
        events: list[Event] = []
        cut = data.rfind(b"\n") + 1
        try:
            if cut:
                whole = data[: cut - 1]
                if self._pieces:
                    whole = b"".join((*self._pieces, whole))
                    self._pieces, self._size = [], 0
                self._lines(whole.split(b"\n"), events)
            if cut < len(data):
                self._keep(data[cut:])
        except ArkwayError as error:
            self.failure = error
        return events

    def end(self) -> list[Event]:
        """The bytes have ended. Raises BackendFailed, or what the stream said, unless the answer is whole."""
        events = self.feed(b"\n\n") if self._pieces or self._partial else []
        if self.failure is not None:
            raise self.failure
        if not self.done:
            if len(self._finished) < self._choices:
                raise BackendFailed(BROKE_OFF)
            self._close(events)
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > FRAME_MAX_BYTES:
            raise BackendFailed(f"the model's server sent a line longer than {FRAME_MAX_BYTES} bytes")
        self._pieces.append(piece)

    def _lines(self, lines: list[bytes], events: list[Event]) -> None:
        for line in lines:
            if not line:
                if self._event or self._partial:
                    self._blank()
                continue
            if line.startswith(self._before) and line.endswith(self._after):
                literal = line[len(self._before) : len(line) - len(self._after)]
                if _is_said(literal) and (literal.isascii() or _is_utf8(literal)):
                    self._usage = None
                    events.append(Quoted(literal, self._index))
                    continue
            self._line(line, events)
            if self.done:
                return

    def _line(self, line: bytes, events: list[Event]) -> None:
        """Any line but those of the short way."""
        if len(line) > FRAME_MAX_BYTES:
            raise BackendFailed(f"the model's server sent a line longer than {FRAME_MAX_BYTES} bytes")
        line = line.removeprefix(_BOM)
        name, _, value = line.rstrip(b"\r").partition(b":")
        if name == b"data":
            self._data(value.strip(), line, events)
        elif not name and not value:
            self._blank()
        elif name == b"event":
            self._event = value.strip()
            if self._event == b"error":
                self._before = _NEVER
        elif name == b"error":
            raise fault_in(value.strip(), self._hidden)
        elif name[:1] == b"{" and is_fault(line):
            raise fault_in(line, self._hidden)

    def _blank(self) -> None:
        """The end of a frame: what it left open stays so."""
        if self._partial:
            raise BackendFailed(UNREADABLE)
        self._event = b""

    def _data(self, payload: bytes, line: bytes, events: list[Event]) -> None:
        if self._event == b"error":
            raise fault_in(payload, self._hidden)
        if payload == b"[DONE]":
            self._close(events)
            return
        if self._partial:
            payload, line = b"\n".join((*self._partial, payload)), b""
        if not payload:
            return
        chunk = self._parsed(payload)
        if chunk is not None:
            before = len(events)
            self._chunk(chunk, payload, events)
            if line and len(events) > before:
                self._learn(chunk, line)

    def _parsed(self, payload: bytes) -> Chunk | None:
        """A frame's JSON; None where more of it has to come in the frame's next ``data`` line."""
        try:
            chunk = _chunk(payload)
        except (ValueError, RecursionError) as error:
            if str(error) != "Input data was truncated" or len(payload) > FRAME_MAX_BYTES:
                raise BackendFailed(UNREADABLE) from None
            self._partial = [payload]
            self._before = _NEVER
            return None
        self._partial = []
        return chunk

    def _chunk(self, chunk: Chunk, payload: bytes, events: list[Event]) -> None:
        if chunk.failed():
            raise fault_in(payload, self._hidden)
        counts = self._possible.believed(usage(chunk.usage))
        prompt, completion = (counts.prompt_tokens, counts.completion_tokens) if counts else (0, 0)
        for choice in chunk.choices or ():
            if self._choice(choice, events, completion, prompt):
                self._usage = None
        if counts is not None:
            self._usage = UsageReport(counts)

    def _choice(self, choice: Choice, events: list[Event], completion: int, prompt: int) -> bool:
        """One choice of a chunk; whether it brought anything."""
        index = choice.index
        if not 0 <= index < CHOICES_MAX:
            raise BackendFailed(UNREADABLE)
        before = len(events)
        if (piece := choice.delta or choice.message) is not None:
            self._opened.add(index)
            said, thought, scores = text(piece), reasoning(piece), entries(choice.logprobs)
            if said or thought or scores:
                events.append(Delta(said, index, thought, scores, completion, prompt))
            if piece.tool_calls or piece.function_call:
                known = self._calls.setdefault(index, CallPositions())
                events.extend(tool_deltas(piece, known, index, completion, prompt))
        reason = finish(choice.finish_reason)
        if reason is not None and index not in self._finished:
            self._finished[index] = ending(choice, reason)
        return len(events) > before

    def _close(self, events: list[Event]) -> None:
        """The end, if it is one: every choice that was opened is finished, and one was."""
        if self._partial or not self._finished or not self._opened <= self._finished.keys():
            raise BackendFailed(BROKE_OFF)
        events.extend(self._finished[index] for index in sorted(self._finished))
        if self._usage is not None:
            events.append(self._usage)
        self.done = True

    def _learn(self, chunk: Chunk, line: bytes) -> None:
        """What stands around the content of a chunk that has nothing else to say."""
        content = chunk.plain()
        if content is None or self._learnt == _LEARNT_MAX:
            return
        found = _CONTENT.findall(line)
        if len(found) != 1 or _text_of(found[0]) != content or self._event:
            return
        span = _CONTENT.search(line)
        assert span is not None
        self._learnt += 1
        self._before, self._after = line[: span.start(1)], line[span.end(1) :]
        self._index = chunk.choices[0].index if chunk.choices else 0


def reply_events(
    body: bytes, request: ChatRequest, hidden: Sequence[str] = (), possible: Possible = ANYTHING
) -> list[Event]:
    """A whole answer as events. Raises BackendFailed for what cannot be read, and what an answer of failure says."""
    try:
        answer = _ordinary(body)
    except (ValueError, RecursionError):
        return _whole_events(body, hidden, possible, logprobs=request.logprobs)
    choice = answer.choices[0]
    said, finished = choice.message.content, Finished(choice.finish_reason)
    events: list[Event] = [Delta(said), finished] if said else [finished]
    if answer.usage is not None and (counts := possible.believed(counted(answer.usage))) is not None:
        events.append(UsageReport(counts))
    return events


def _whole_events(body: bytes, hidden: Sequence[str], possible: Possible, *, logprobs: bool) -> list[Event]:
    """Any whole answer."""
    try:
        answer = _chunk(body)
    except (ValueError, RecursionError):
        raise BackendFailed(UNREADABLE) from None
    if answer.failed():
        raise fault_in(body, hidden)
    if not answer.choices:
        raise BackendFailed(UNREADABLE)
    counts = possible.believed(usage(answer.usage))
    events: list[Event] = []
    for choice in answer.choices:
        _whole_choice(choice, events, logprobs=logprobs)
    if counts is not None:
        events.append(UsageReport(counts))
    return events


def _whole_choice(choice: Choice, events: list[Event], *, logprobs: bool) -> None:
    index, message = choice.index, choice.message or choice.delta
    if message is None or not 0 <= index < CHOICES_MAX:
        raise BackendFailed(UNREADABLE)
    said, thought, scores = text(message), reasoning(message), entries(choice.logprobs) if logprobs else ()
    if said or thought or scores:
        events.append(Delta(said, index, thought, scores))
    if message.tool_calls or message.function_call:
        for position, call in enumerate(message.tool_calls or ()):
            call.index = position
        events.extend(tool_deltas(message, CallPositions(), index))
    # A whole answer is framed by its length, so that it cannot break off: without a reason it just ended.
    events.append(ending(choice, finish(choice.finish_reason) or "stop"))


def _text_of(literal: bytes) -> str | None:
    try:
        return msgspec.json.decode(literal, type=str)
    except ValueError:
        return None


def _is_utf8(literal: bytes) -> bool:
    try:
        literal.decode()
    except UnicodeDecodeError:
        return False
    return True
