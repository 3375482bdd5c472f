"""Ordinary chat bodies in the OpenAI-like shape, which are nearly all of them, by one typed decode.

Nothing is refused here: what is not ordinary is left to `arkway.wire.openai_shape.request`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from arkway.core.chat import ChatRequest, Message, Role, Sampling
from arkway.wire.fields import Table
from arkway.wire.limits import STOP_MAX_BYTES
from arkway.wire.messages import stops
from arkway.wire.openai_shape.request import MESSAGE, STREAM_OPTIONS
from arkway.wire.ordinary import NUL, ORDINARY_BYTES, body_type, list_of, text_of


class _Turn(msgspec.Struct, kw_only=True):
    role: Role
    content: str


class _Options(msgspec.Struct, kw_only=True):
    include_usage: bool | None = None
    chunk_include_usage: bool | None = None


class _Chat(msgspec.Struct, kw_only=True):
    model: str
    messages: list[_Turn]
    stream: bool | None = None
    stream_options: _Options | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    user: str | None = None


_TURN = body_type(_Turn, MESSAGE, {"role": Role, "content": str})
_OPTIONS = body_type(_Options, STREAM_OPTIONS, {})


class OrdinaryChats:
    """The ordinary ones among the chats of one dialect, whose fields these are."""

    __slots__ = ("_decode",)

    def __init__(self, fields: Table) -> None:
        own: dict[str, Any] = {
            "messages": list_of(_TURN, fields["messages"], least=1),
            "stream_options": _OPTIONS,
            "stop": text_of(STOP_MAX_BYTES) | list_of(text_of(STOP_MAX_BYTES), fields["stop"]),
        }
        self._decode = msgspec.json.Decoder(body_type(_Chat, fields, own)).decode

    def read(self, body: bytes) -> ChatRequest | None:
        """What `arkway.wire.openai_shape.request.chat_request` makes of it; None for what is not ordinary."""
        if len(body) > ORDINARY_BYTES or NUL in body:
            return None
        try:
            asked = self._decode(body)
        except (ValueError, RecursionError):
            return None
        options, limit, limit_field = asked.stream_options, asked.max_tokens, "max_tokens"
        if asked.max_completion_tokens is not None:
            if limit is not None:
                return None
            limit, limit_field = asked.max_completion_tokens, "max_completion_tokens"
        if (options and not asked.stream) or (asked.top_logprobs and not asked.logprobs):
            return None
        return ChatRequest(
            asked=asked.model,
            messages=tuple([Message(turn.role, turn.content) for turn in asked.messages]),
            sampling=Sampling(
                asked.temperature,
                asked.top_p,
                asked.top_k,
                asked.frequency_penalty,
                asked.presence_penalty,
                asked.repetition_penalty,
                asked.seed,
                stops(asked.stop) if asked.stop else (),
            ),
            max_tokens=limit,
            max_tokens_field=limit_field,
            logprobs=asked.logprobs or False,
            top_logprobs=asked.top_logprobs or 0,
            n=asked.n or 1,
            stream=asked.stream or False,
            wants_usage=options is not None and (options.include_usage or False),
            wants_running_usage=options is not None and (options.chunk_include_usage or False),
            user=asked.user or "",
        )
