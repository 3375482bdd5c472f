"""The parts that answers in the OpenAI-like shape are made of, as servers really send them.

Only what is used is declared; everything else is skipped without being built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from arkway.core.chat import FinishReason, LogprobEntry, TokenLogprob, Usage
from arkway.core.errors import BackendFailed
from arkway.core.events import Finished, ToolDelta
from arkway.wire import json

TOKENS_MAX = 2**31 - 1
CALLS_MAX = 128
UNREADABLE = "the model's server sent an answer that cannot be read"
_LOGPROB_MIN = -9999.0
_NULL = msgspec.Raw(b"null")

_STOPPED = "the model's server gave the answer up"
_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "function_call": "tool_calls",
}
_BROKEN = ("abort", "aborted", "cancel", "cancelled", "canceled", "error", "timeout", "insufficient_system_resource")
_hit = re.compile(rb'"([A-Za-z][\w.-]{0,63})"').fullmatch


class Function(msgspec.Struct):
    """What is called; some servers send ``arguments`` as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(msgspec.Struct):
    """Of a content that is a list: text, or thoughts, which are parts again."""

    type: str = "text"
    text: str | None = None
    thinking: Any = None


class Piece(msgspec.Struct):
    """``delta`` of a chunk, ``message`` of a whole answer."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    """Of a chunk or of a whole answer."""

    index: int = 0
    delta: Piece | None = None
    message: Piece | None = None
    finish_reason: str | dict[str, Any] | None = None
    logprobs: msgspec.Raw = _NULL
    moderation_hit_type: msgspec.Raw = _NULL


class Chunk(msgspec.Struct):
    """One frame of a stream, or a whole answer: both have the same fields."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    object: str | None = None

    def failed(self) -> bool:
        """Whether it is an error in the place of an answer."""
        return bytes(self.error) != b"null" or self.object == "error"

    def plain(self) -> str | None:
        """The text, where this is text of one choice and nothing else."""
        if self.choices is None or len(self.choices) != 1 or bytes(self.usage) != b"null":
            return None
        choice = self.choices[0]
        piece = choice.delta
        if piece is None or choice.message is not None or choice.finish_reason or bytes(choice.logprobs) != b"null":
            return None
        if piece.reasoning_content or piece.reasoning or piece.refusal or piece.tool_calls or piece.function_call:
            return None
        return piece.content if isinstance(piece.content, str) else None


class Details(msgspec.Struct):
    """Parts of a count."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    """``usage``; ``prompt_cache_hit_tokens`` is DeepSeek's word for cached tokens."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    prompt_cache_hit_tokens: int | None = None


class Said(msgspec.Struct, gc=False):
    """``message`` of an ordinary answer: a text, and nothing in the place of anything else."""

    content: str
    reasoning_content: Literal["", None] = None
    reasoning: Literal["", None] = None
    refusal: Literal["", None] = None
    tool_calls: Annotated[list[None], msgspec.Meta(max_length=0)] | None = None
    function_call: None = None


class Only(msgspec.Struct, gc=False):
    """The only choice of an ordinary answer."""

    message: Said
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]
    index: Literal[0] = 0
    delta: None = None
    logprobs: None = None
    moderation_hit_type: Literal["", None] = None


class Ordinary(msgspec.Struct, gc=False):
    """An ordinary whole answer. It is a `Chunk` of which everything is known: what is none cannot be decoded as one."""

    choices: tuple[Only]
    usage: Counts | None = None
    error: None = None
    object: Literal["chat.completion"] = "chat.completion"


class Candidate(msgspec.Struct):
    """A token at one position."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class Position(Candidate):
    """The chosen token of one position and its rivals."""

    top_logprobs: list[Candidate] | None = None


class Scores(msgspec.Struct):
    """``logprobs``."""

    content: list[Position] | None = None


_counts = msgspec.json.Decoder(Counts).decode
_scores = msgspec.json.Decoder(Scores).decode


def text(piece: Piece) -> str:
    """What is said, a refusal included."""
    content = piece.content
    if isinstance(content, list):
        content = "".join(part.text or "" for part in content if part.type == "text")
    return content or piece.refusal or ""


def reasoning(piece: Piece) -> str:
    """What was thought; some servers send it under both names."""
    thought = piece.reasoning_content or piece.reasoning
    if not thought and isinstance(piece.content, list):
        return "".join(_thoughts(part.thinking) for part in piece.content)
    return thought or ""


def _thoughts(thinking: Any) -> str:
    if isinstance(thinking, str):
        return thinking
    parts = thinking if isinstance(thinking, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def finish(reason: str | dict[str, Any] | None) -> FinishReason | None:
    """Why a choice has ended; None while it goes on. Raises BackendFailed for an answer that was given up."""
    if not reason:
        return None
    if reason == "stop":
        return "stop"
    word = reason.get("type") if isinstance(reason, dict) else reason
    word = word.lower() if isinstance(word, str) else ""
    if word in _BROKEN:
        raise BackendFailed(_STOPPED)
    return _FINISH.get(word, "stop")


def ending(choice: Choice, reason: FinishReason) -> Finished:
    """The end of a choice, with what the server's own moderation has found where that is why it ended.

    What is no plain word is as good as none. An answer that ended otherwise has no hit: it is whole, and a hit would
    have it refused in the dialects that have no other word for one.
    """
    hit = _hit(bytes(choice.moderation_hit_type)) if reason == "content_filter" else None
    return Finished(reason, choice.index, hit[1].decode() if hit else "")


def usage(raw: msgspec.Raw) -> Usage | None:
    """The counts, unless there are none or they cannot be true (negative, fractions, more than an int32)."""
    if bytes(raw) == b"null":
        return None
    try:
        return counted(_counts(raw))
    except (ValueError, RecursionError):
        return None


def counted(counts: Counts) -> Usage | None:
    """As `usage`, of counts that have been read."""
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    if not (0 <= prompt <= TOKENS_MAX and 0 <= completion <= TOKENS_MAX and prompt + completion > 0):
        return None
    read, spent = counts.prompt_tokens_details, counts.completion_tokens_details
    cached = (read and read.cached_tokens) or counts.prompt_cache_hit_tokens or 0
    thought = (spent and spent.reasoning_tokens) or 0
    return Usage(
        prompt, completion, cached if 0 <= cached <= prompt else 0, thought if 0 <= thought <= completion else 0
    )


def entries(raw: msgspec.Raw) -> tuple[LogprobEntry, ...]:
    """The positions of a ``logprobs`` object; the older form of completions (``tokens``, …) has none."""
    if bytes(raw) == b"null":
        return ()
    try:
        found = _scores(raw).content or ()
        return tuple(
            LogprobEntry(_candidate(entry), tuple(_candidate(rival) for rival in entry.top_logprobs or ()))
            for entry in found
        )
    except (ValueError, RecursionError):
        raise BackendFailed(UNREADABLE) from None


def _candidate(entry: Candidate) -> TokenLogprob:
    octets = entry.token.encode() if entry.bytes is None else bytes(entry.bytes)
    return TokenLogprob(entry.token, _LOGPROB_MIN if entry.logprob is None else entry.logprob, octets)


class CallPositions:
    """The tool calls of one choice, told apart as servers really number them.

    Some leave ``index`` out, some give every call the index 0, some repeat id and name with every piece, some make a
    new id for every piece. A piece begins a new call when its index is new, or when it has a name and another id.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[tuple[int | None, str]] = []

    def place(self, call: Call) -> tuple[int, bool]:
        """The call's number, from 0, and whether this piece is its first."""
        index, call_id = call.index, call.id or ""
        named = bool(call.function and call.function.name)
        for position in range(len(self._calls) - 1, -1, -1):
            known, known_id = self._calls[position]
            if index is not None and known != index:
                continue
            if named and call_id and known_id and call_id != known_id:
                if index is None:
                    continue
                break
            return position, False
        if len(self._calls) == CALLS_MAX:
            raise BackendFailed(UNREADABLE)
        self._calls.append((index, call_id))
        return len(self._calls) - 1, True


def tool_deltas(
    piece: Piece, known: CallPositions, index: int, completion: int = 0, prompt: int = 0
) -> Iterator[ToolDelta]:
    """The pieces of tool calls, the older form included; id and name only with the first of each call."""
    calls = piece.tool_calls or ([Call(0, None, piece.function_call)] if piece.function_call else ())
    for call in calls:
        position, first = known.place(call)
        function = call.function or Function()
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments).decode()
        call_id, name = (call.id or f"call_{index}_{position}", function.name or "") if first else ("", "")
        if first or arguments:
            yield ToolDelta(position, arguments, index, call_id, name, completion, prompt)
