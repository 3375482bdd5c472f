"""Answers in the OpenAI-like shape. Keys are in alphabetical order, as the vendor writes them (protocol §7.3)."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable
from typing import Any

from arkway.core.chat import (
    ChatReply,
    Choice,
    FinishReason,
    LogprobEntry,
    ReplyTag,
    TokenLogprob,
    ToolCall,
    Usage,
)
from arkway.core.embedding import EmbedReply, EmbedRequest

LOGPROB_MIN = -9999.0


def completion(reply: ChatReply, tag: ReplyTag, *, legacy_functions: bool = False) -> dict[str, Any]:
    """A whole ``chat.completion`` object."""
    return {
        "choices": [_choice(choice, legacy_functions) for choice in reply.choices],
        "created": tag.created,
        "id": tag.id,
        "model": tag.model,
        "object": "chat.completion",
        "usage": usage(reply.usage),
    }


def usage(counts: Usage) -> dict[str, Any]:
    """The ``usage`` object of a chat answer; every count an integer (a float kills the Go SDK)."""
    return {
        "completion_tokens": counts.completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "prompt_tokens": counts.prompt_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "total_tokens": counts.total_tokens,
    }


def logprobs(entries: Iterable[LogprobEntry]) -> dict[str, Any]:
    """The ``logprobs`` object of a choice."""
    return {"content": [{**_candidate(e.chosen), "top_logprobs": [_candidate(t) for t in e.top]} for e in entries]}


def embeddings(reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> dict[str, Any]:
    """An embeddings list. ``index`` stands on every entry, the first included (protocol §11, row 15)."""
    return {
        "created": tag.created,
        "data": [
            {"embedding": _vector(octets, request.encoding), "index": index, "object": "embedding"}
            for index, octets in enumerate(reply.vectors)
        ],
        "id": tag.id,
        "model": tag.model,
        "object": "list",
        "usage": {
            "completion_tokens": 0,
            "prompt_tokens": reply.usage.prompt_tokens,
            "total_tokens": reply.usage.prompt_tokens,
        },
    }


def tool_call(call: ToolCall) -> dict[str, Any]:
    """A finished tool call as it stands in a message."""
    return {"function": {"arguments": call.arguments, "name": call.name}, "id": call.id, "type": "function"}


def finish_reason(reason: FinishReason, *, legacy_functions: bool) -> FinishReason:
    """How the end is called on the wire: whoever sent ``functions`` knows no ``tool_calls``."""
    return "function_call" if legacy_functions and reason == "tool_calls" else reason


def _choice(choice: Choice, legacy_functions: bool) -> dict[str, Any]:
    return {
        "finish_reason": finish_reason(choice.finish_reason, legacy_functions=legacy_functions),
        "index": choice.index,
        "logprobs": None if choice.logprobs is None else logprobs(choice.logprobs),
        "message": _message(choice, legacy_functions),
    }


def _message(choice: Choice, legacy_functions: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"content": choice.text, "role": "assistant"}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["content"] = choice.text or None
        if legacy_functions:
            call = choice.tool_calls[0]
            message["function_call"] = {"arguments": call.arguments, "name": call.name}
        else:
            message["tool_calls"] = [tool_call(call) for call in choice.tool_calls]
    return message


def _candidate(entry: TokenLogprob) -> dict[str, Any]:
    # An impossible token has logprob -inf, which JSON cannot say; the field's own floor is -9999.
    value = entry.logprob if math.isfinite(entry.logprob) else LOGPROB_MIN
    return {"bytes": list(entry.octets), "logprob": value, "token": entry.token}


def _vector(octets: bytes, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(octets).decode()
    return list(struct.unpack(f"<{len(octets) // 4}f", octets))
