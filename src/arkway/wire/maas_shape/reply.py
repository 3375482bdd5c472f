"""Answers in the MaaS shape. Nothing leaves but what the strictest client knows (protocol §4.2, §5.2, §5.3).

An answer that a filter cut short says ``content_filter``, which the documents do not list: every SDK takes any string,
and ``stop`` would call it whole. One that our own moderation has stopped (it has a hit) is error 1709814.
"""

from __future__ import annotations

import base64
import codecs
import math
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson

from arkway.core.chat import ChatReply, ChatRequest, Choice, FinishReason, LogprobEntry, ReplyTag, ToolCall, Usage
from arkway.core.classification import ClassifyReply
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import OutputBlocked
from arkway.wire import json

LOGPROB_MIN = -9999.0
"""An impossible token has log-probability −∞, which JSON cannot say."""

Seal = Callable[[str], str]

_quoted = orjson.dumps
_CHOICE = b'{"index":%d,"message":{"role":"assistant","content":%b},"finish_reason":%b}'
_USAGE = b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'
_ONLY_CHOICE = b'{%b"choice":' + _CHOICE + b"," + _USAGE + b"}"
_ONLY_OF_CHOICES = b'{%b"choices":[' + _CHOICE + b"]," + _USAGE + b"}"
"""What `_completion` makes of one answer that is nothing but a text, as nearly every answer is."""


class ReplyStyle(msgspec.Struct, frozen=True):
    """What differs between dialects of this shape, and between their clients.

    ``one_choice``: ``choice``, an object, rather than ``choices``, a list. ``request_id``: bodies say ``req_id``.
    ``rivals``: ``top_logprobs`` is filled. ``function_calls``: whoever sent ``functions`` is answered with a
    ``function_call``; else calls are ``tool_calls`` always. ``length``: how the end of an answer is called that was cut
    at its limit.
    """

    one_choice: bool
    request_id: bool = True
    rivals: bool = True
    function_calls: bool = True
    length: str = "length"

    def headed(self, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body, led by the request id where bodies say it."""
        return {"req_id": request_id, **body} if self.request_id else body

    def chosen(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The choices under their key."""
        return {"choice": choices[0]} if self.one_choice else {"choices": choices}


def shown_id(request: ChatRequest, tag: ReplyTag) -> str:
    """The ``req_id`` of a chat's answer: the caller's own where it gave one."""
    return request.client_request_id or tag.id


def completion(reply: ChatReply, request: ChatRequest, tag: ReplyTag, style: ReplyStyle, seal: Seal | None) -> bytes:
    """A whole answer in JSON; ``seal`` encrypts its texts. Raises OutputBlocked."""
    check_moderation(reply)
    choice = reply.choices[0] if len(reply.choices) == 1 and not seal and not request.legacy_functions else None
    if choice is None or choice.tool_calls or choice.logprobs is not None:
        return json.dumps(_completion(reply, request, tag, style, seal))
    counts = reply.usage
    try:
        return (_ONLY_CHOICE if style.one_choice else _ONLY_OF_CHOICES) % (
            b'"req_id":%b,' % _quoted(request.client_request_id or tag.id) if style.request_id else b"",
            choice.index,
            _quoted(choice.text),
            _quoted(choice.finish_reason),
            counts.prompt_tokens,
            counts.completion_tokens,
            counts.prompt_tokens + counts.completion_tokens,
        )
    except TypeError:  # a lone surrogate
        return json.dumps(_completion(reply, request, tag, style, seal))


def check_moderation(reply: ChatReply) -> None:
    """An answer that moderation has stopped is error 1709814 in this shape. Raises OutputBlocked."""
    for choice in reply.choices:
        if choice.moderation_hit:
            raise OutputBlocked


def _completion(
    reply: ChatReply, request: ChatRequest, tag: ReplyTag, style: ReplyStyle, seal: Seal | None
) -> dict[str, Any]:
    choices = [choice_of(choice, request, style, seal) for choice in reply.choices]
    return style.headed(shown_id(request, tag), {**style.chosen(choices), "usage": usage(reply.usage)})


def usage(counts: Usage) -> dict[str, int]:
    """The ``usage`` object: three integers, no more (protocol §5.3)."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
    }


def message(text: str, calls: Iterable[ToolCall], request: ChatRequest, style: ReplyStyle) -> dict[str, Any]:
    """An assistant's message. The content is a string always: the Python SDK's decryption knows no null."""
    found: dict[str, Any] = {"role": "assistant", "content": text}
    listed = list(calls)
    if listed and style.function_calls and request.legacy_functions:
        found["function_call"] = _called(listed[0])
    elif listed:
        found["tool_calls"] = [{"id": call.id, "type": "function", "function": _called(call)} for call in listed]
    return found


def finish_reason(reason: FinishReason, request: ChatRequest, style: ReplyStyle) -> str:
    """How the end is called: whoever sent ``functions`` knows no ``tool_calls``."""
    if reason == "length":
        return style.length
    legacy = style.function_calls and request.legacy_functions
    return "function_call" if legacy and reason == "tool_calls" else reason


class LogprobArrays:
    """Log-probabilities as parallel arrays, for one choice, piece by piece: offsets go on from piece to piece.

    An offset counts characters of the answer; a token that is only part of a character has that character's offset.
    """

    def __init__(self, *, rivals: bool) -> None:
        self._rivals = rivals
        self._characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, entries: Iterable[LogprobEntry]) -> dict[str, list[Any]]:
        """The arrays of the next tokens."""
        arrays: dict[str, list[Any]] = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        for entry in entries:
            arrays["text_offset"].append(self._characters)
            arrays["token_logprobs"].append(_finite(entry.chosen.logprob))
            arrays["tokens"].append(entry.chosen.token)
            if self._rivals:
                arrays["top_logprobs"].append(_candidates(entry))
            self._characters += len(self._decoder.decode(entry.chosen.octets))
        return arrays


def tokenization(reply: Tokenized, request: TokenizeRequest, request_id: str, style: ReplyStyle) -> dict[str, Any]:
    """The tokens of the one text, each as the characters it stands for, its id and its range of characters."""
    text = request.texts[0]
    body = {
        "total_tokens": len(reply.ids),
        "tokens": [text[start:end] for start, end in reply.offsets],
        "token_ids": reply.ids,
        "offset_mapping": reply.offsets,
    }
    return style.headed(request_id, body)


def classification(reply: ClassifyReply, request_id: str, style: ReplyStyle) -> dict[str, Any]:
    """The likeliest label, and the log-probabilities of all. ``label_logprobos`` is the vendor's spelling."""
    scores = {
        score.label: {"tokens": score.tokens, "token_logprobs": [_finite(value) for value in score.logprobs]}
        for score in reply.scores
    }
    return style.headed(request_id, {"label": reply.label, "label_logprobos": scores, "usage": usage(reply.usage)})


def embeddings(reply: EmbedReply, request: EmbedRequest, request_id: str, style: ReplyStyle) -> dict[str, Any]:
    """An embeddings list. No ``model``: where clients know that key, they want an object there."""
    data = [
        {"index": index, "embedding": _vector(octets, request.encoding), "object": "embedding"}
        for index, octets in enumerate(reply.vectors)
    ]
    counts = Usage(prompt_tokens=reply.usage.prompt_tokens)
    return style.headed(request_id, {"object": "list", "data": data, "usage": usage(counts)})


def choice_of(choice: Choice, request: ChatRequest, style: ReplyStyle, seal: Seal | None) -> dict[str, Any]:
    """One answer; ``seal`` encrypts its text."""
    text = seal(choice.text) if seal and choice.text else choice.text
    found: dict[str, Any] = {
        "index": choice.index,
        "message": message(text, choice.tool_calls, request, style),
        "finish_reason": finish_reason(choice.finish_reason, request, style),
    }
    if choice.logprobs is not None:
        found["logprobs"] = LogprobArrays(rivals=style.rivals).add(choice.logprobs)
    return found


def _called(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _candidates(entry: LogprobEntry) -> dict[str, float]:
    """Token to log-probability, the chosen one included; of tokens that look alike the likeliest."""
    found: dict[str, float] = {}
    for candidate in (*entry.top, entry.chosen):
        found.setdefault(candidate.token, _finite(candidate.logprob))
    return found


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LOGPROB_MIN


def _vector(octets: bytes, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(octets).decode()
    return list(struct.unpack(f"<{len(octets) // 4}f", octets))
