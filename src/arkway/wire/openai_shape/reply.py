"""Answers in the OpenAI-like shape. Keys are in alphabetical order, as the vendor writes them (protocol §7.3)."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable
from typing import Any

import orjson

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
from arkway.wire import json
from arkway.wire.openai_shape.bots import bot_usage, references

LOGPROB_MIN = -9999.0

_quoted = orjson.dumps
_ONLY_TEXT = (
    b'{%b"choices":[{"finish_reason":%b,"index":%d,"logprobs":null,"message":{"content":%b,"role":"assistant"}}],'
    b'"created":%d,"id":%b,%b"model":%b,"object":"chat.completion",%b"usage":{"completion_tokens":%d,'
    b'"completion_tokens_details":{"reasoning_tokens":%d},"prompt_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d},"total_tokens":%d}}'
)
"""What `_completion` makes of one answer that is nothing but a text, as nearly every answer is."""
_NO_BOT = (b"", b"", b"")


def completion(reply: ChatReply, tag: ReplyTag, *, legacy_functions: bool = False) -> bytes:
    """A whole ``chat.completion`` object in JSON."""
    choice = reply.choices[0] if len(reply.choices) == 1 and not legacy_functions else None
    if choice is None or choice.reasoning or choice.tool_calls or choice.logprobs is not None or choice.moderation_hit:
        return json.dumps(_completion(reply, tag, legacy_functions))
    counts = reply.usage
    try:
        used, metadata, sources = _bot_parts(reply) if _of_bot(reply) else _NO_BOT
        return _ONLY_TEXT % (
            used,
            _quoted(choice.finish_reason),
            choice.index,
            _quoted(choice.text),
            tag.created,
            _quoted(tag.id),
            metadata,
            _quoted(tag.model),
            sources,
            counts.completion_tokens,
            counts.reasoning_tokens,
            counts.prompt_tokens,
            counts.cached_tokens,
            counts.prompt_tokens + counts.completion_tokens,
        )
    except TypeError:  # a lone surrogate
        return json.dumps(_completion(reply, tag, legacy_functions))


def _of_bot(reply: ChatReply) -> bool:
    return reply.bot_usage is not None or bool(reply.references)


def _bot_parts(reply: ChatReply) -> tuple[bytes, bytes, bytes]:
    """What a bot's answer has besides, each where the alphabet puts it."""
    used = b"" if reply.bot_usage is None else b'"bot_usage":%b,' % json.dumps(bot_usage(reply.bot_usage))
    return used, b'"metadata":{},', b'"references":%b,' % json.dumps(references(reply.references))


def _completion(reply: ChatReply, tag: ReplyTag, legacy_functions: bool) -> dict[str, Any]:
    body = {
        "choices": [_choice(choice, legacy_functions) for choice in reply.choices],
        "created": tag.created,
        "id": tag.id,
        "model": tag.model,
        "object": "chat.completion",
        "usage": usage(reply.usage),
    }
    if not _of_bot(reply):
        return body
    body |= {"metadata": {}, "references": references(reply.references)}
    if reply.bot_usage is not None:
        body["bot_usage"] = bot_usage(reply.bot_usage)
    return dict(sorted(body.items()))


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
    shown = {
        "finish_reason": finish_reason(choice.finish_reason, legacy_functions=legacy_functions),
        "index": choice.index,
        "logprobs": None if choice.logprobs is None else logprobs(choice.logprobs),
        "message": _message(choice, legacy_functions),
    }
    return {**shown, "moderation_hit_type": choice.moderation_hit} if choice.moderation_hit else shown


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
