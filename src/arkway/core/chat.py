"""One chat request and one chat reply, free of any wire.

Dialects make a ``ChatRequest`` from bytes and bytes from a ``ChatReply``; backends take the one and yield events
(`arkway.core.events`) that add up to the other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from arkway.core.bot import Asker, BotUsage
from arkway.core.reference import Reference

Role = Literal["system", "user", "assistant", "tool", "function"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "function_call"]


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text in a message."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image_url"):
    """An image in a message, by ``data:`` or ``http(s):`` URL."""

    url: str
    detail: str = "auto"


Part = TextPart | ImagePart


class ToolCall(msgspec.Struct, frozen=True):
    """A call the model wants made. ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One turn. ``content`` is text, parts, or None (an assistant turn that only calls tools)."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def text(self) -> str:
        """The text of the turn, parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or () if isinstance(part, TextPart))

    def has_image(self) -> bool:
        return isinstance(self.content, tuple) and any(isinstance(part, ImagePart) for part in self.content)


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call; ``parameters`` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class ToolChoice(msgspec.Struct, frozen=True):
    """``auto`` | ``none`` | ``required`` | ``named`` (then ``name``)."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""


class ResponseFormat(msgspec.Struct, frozen=True):
    """``text`` | ``json_object`` | ``json_schema`` (then ``schema``, and what the caller calls it)."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: dict[str, Any] = {}
    name: str = ""
    strict: bool | None = None


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is drawn. None = the model's own default. ``logit_bias`` maps token ids to −100…100."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat call in canonical form.

    ``asked`` is the model or endpoint as the caller named it, ``asked_version`` the model version ("" = its default
    one). ``max_tokens`` is None when the caller set none; ``max_tokens_field`` is the wire name to blame when it is too
    large, ``parameter_prefix`` what stands before a sampling parameter's name in its path on the wire. ``top_logprobs``
    counts candidates beside the chosen token. ``wants_usage`` and ``wants_running_usage`` concern streams only.
    ``ignored`` lists wire fields that were accepted and have no effect, ``clamped`` those that took effect with a value
    nearer to what is possible. ``extras`` are the top-level fields among the ``ignored`` ones as they came: an upstream
    may know them.
    ``crypto_token`` is the caller's half of message encryption; the texts here are in clear. ``client_request_id`` is
    the id the caller gave the call in its body. ``clamp_max_tokens``: a limit above the model's own is to be lowered
    to it and reported in ``clamped``, not refused.
    ``asker`` and ``wants_intention`` concern bots only: where the user is, and whether a stream is to say that
    something is being looked up.
    """

    asked: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    logprobs: bool = False
    top_logprobs: int = 0
    n: int = 1
    stream: bool = False
    wants_usage: bool = False
    wants_running_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    legacy_functions: bool = False
    response_format: ResponseFormat = ResponseFormat()
    user: str = ""
    ignored: tuple[str, ...] = ()
    clamped: tuple[str, ...] = ()
    asked_version: str = ""
    crypto_token: str = ""
    client_request_id: str = ""
    clamp_max_tokens: bool = False
    parameter_prefix: str = ""
    extras: dict[str, Any] = {}
    asker: Asker = Asker()
    wants_intention: bool = False


def without_ignored(request: ChatRequest, names: Collection[str]) -> ChatRequest:
    """The request with these fields no longer among those without effect."""
    if not names or not request.ignored:
        return request
    return msgspec.structs.replace(request, ignored=tuple(name for name in request.ignored if name not in names))


class TokenLogprob(msgspec.Struct, frozen=True):
    """One candidate at one position. ``octets`` are the token's own bytes, possibly part of a character."""

    token: str
    logprob: float
    octets: bytes


class LogprobEntry(msgspec.Struct, frozen=True):
    """The chosen token of one position and its best rivals, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


Provenance = Literal["reported", "counted", "estimated"]


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one call. ``provenance``: the backend's own figures, our tokenizer's, or a guess."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    provenance: Provenance = "reported"

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Choice(msgspec.Struct, frozen=True):
    """One finished answer. ``moderation_hit``: ``violence`` or ``severe_violation``, empty = nothing was found."""

    index: int
    text: str
    finish_reason: FinishReason
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[LogprobEntry, ...] | None = None
    moderation_hit: str = ""


class ChatReply(msgspec.Struct, frozen=True):
    """A whole answer, for callers that do not stream. ``bot_usage`` is None where no bot has answered."""

    choices: tuple[Choice, ...]
    usage: Usage
    references: tuple[Reference, ...] = ()
    bot_usage: BotUsage | None = None


class ReplyTag(msgspec.Struct, frozen=True):
    """What every answer carries beside its content: its id, when (epoch seconds), and the served model's name."""

    id: str
    created: int
    model: str
