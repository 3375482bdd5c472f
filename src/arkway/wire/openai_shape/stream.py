"""Streams in the OpenAI-like shape.

A chunk of plain text, which is nearly every chunk, costs one JSON string and two joins: everything around the text is
made once per stream. Finish reasons are held back until ``close``, so that nothing that looks like an end leaves before
the call is settled.

A bot's stream names its sources on the first chunk with content and on the last one of the choice. What it used stands
beside the usage, or, where no usage was asked for, on the latter, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from arkway.core.bot import BotUsage
from arkway.core.chat import ChatRequest, ReplyTag, Usage
from arkway.core.errors import ArkwayError
from arkway.core.events import BotReport, Cited, Delta, Event, Finished, Intention, Quoted, ToolDelta
from arkway.core.reference import Reference
from arkway.wire import json, sse
from arkway.wire.openai_shape.bots import bot_usage, references
from arkway.wire.openai_shape.reply import finish_reason, logprobs, usage


class ChunkStyle(msgspec.Struct, frozen=True):
    """What differs between dialects of this shape.

    ``role_everywhere``: every delta says ``role``, not only the first. ``usage_always``: chunks carry ``usage: null``
    even when no usage was asked for (as the real v3 does, protocol §7.4). ``nulls``: open choices say
    ``finish_reason: null`` and ``logprobs: null``. ``tight``: there is no space after ``data:``.
    """

    role_everywhere: bool
    usage_always: bool
    nulls: bool
    tight: bool = False

    def frame(self, payload: bytes) -> bytes:
        return sse.tight(payload) if self.tight else sse.spaced(payload)

    @property
    def done(self) -> bytes:
        return sse.TIGHT_DONE if self.tight else sse.SPACED_DONE

    def open_choice(self, index: int, delta: dict[str, Any], entries: dict[str, Any] | None = None) -> dict[str, Any]:
        """A choice that goes on."""
        if self.nulls:
            return {"delta": delta, "finish_reason": None, "index": index, "logprobs": entries}
        choice: dict[str, Any] = {"delta": delta, "index": index}
        if entries is not None:
            choice["logprobs"] = entries
        return choice


class ChunkEncoder:
    """One stream; implements `arkway.ports.StreamEncoder`."""

    def __init__(
        self,
        request: ChatRequest,
        tag: ReplyTag,
        style: ChunkStyle,
        error_payload: Callable[[ArkwayError], bytes],
    ) -> None:
        self._request = request
        self._style = style
        self._error_payload = error_payload
        self._tail = {"created": tag.created, "id": tag.id, "model": tag.model, "object": "chat.completion.chunk"}
        self._usage_key = style.usage_always or request.wants_usage or request.wants_running_usage
        self._role_sent: set[int] = set()
        self._finished: dict[int, Finished] = {}
        self._running = Usage()
        self._references: tuple[Reference, ...] | None = None
        self._due = False  # the next chunk with content is the first, and names the references
        self._bot_usage: BotUsage | None = None
        self._bare = self._is_bare()
        self._before, self._after = self._plain_chunk()

    def feed(self, event: Event) -> bytes:
        match event:
            case Quoted():
                return self._quoted(event)
            case Delta():
                self._count(event.prompt_tokens, event.completion_tokens)
                return self._text(event)
            case ToolDelta():
                self._count(event.prompt_tokens, event.completion_tokens)
                return self._chunk(self._tool_delta(event), event.index)
            case Finished():
                self._finished[event.index] = event
            case Intention():
                return self._chunk({"content": ""}, 0, beside={"metadata": {"intention": event.text}})
            case Cited():
                self._due = self._due or (self._references is None and bool(event.references))
                self._references, self._bare = event.references, self._is_bare()
            case BotReport():
                self._bot_usage = event.usage
        return b""

    def heartbeat(self) -> bytes:
        # Comments and blank lines break the Java and Go SDKs; an empty delta is the only safe sign of life on v3
        # (protocol §0 rule 3).
        return self._before + b'""' + self._after

    def fail(self, error: ArkwayError) -> bytes:
        return self._style.frame(self._error_payload(error)) + self._style.done

    def close(self, usage_total: Usage) -> bytes:
        self._running = usage_total
        used: dict[str, Any] = {} if self._bot_usage is None else {"bot_usage": bot_usage(self._bot_usage)}
        ends = [self._end(self._finished[index]) for index in sorted(self._finished)]
        if ends and self._references is not None:
            ends[-1] = _along(ends[-1], {"references": references(self._references)})
        if self._request.wants_usage:
            ends.append(_along({"choices": [], **self._tail, "usage": usage(usage_total)}, used))
        elif ends:
            ends[-1] = _along(ends[-1], used)
        return b"".join(map(self._frame, ends)) + self._style.done

    def _is_bare(self) -> bool:
        """Whether a chunk of plain text needs nothing but the text."""
        led = self._style.role_everywhere or 0 in self._role_sent
        return led and not self._due and not self._request.wants_running_usage

    def _plain_chunk(self) -> tuple[bytes, bytes]:
        marker = "\ue000"
        delta = {"content": marker, "role": "assistant"} if self._style.role_everywhere else {"content": marker}
        body: dict[str, Any] = {"choices": [self._style.open_choice(0, delta)], **self._tail}
        if self._usage_key:
            body["usage"] = None
        before, _, after = self._style.frame(json.dumps(body)).partition(json.dumps(marker))
        return before, after

    def _text(self, event: Delta) -> bytes:
        plain = event.index == 0 and not event.reasoning and not event.logprobs
        if plain and not event.text:
            return b""  # tokens were spent and there is nothing to show yet
        if plain and self._bare:
            return self._before + json.dumps(event.text) + self._after
        delta: dict[str, Any] = {"content": event.text}
        if event.reasoning:
            delta["reasoning_content"] = event.reasoning
        return self._chunk(delta, event.index, logprobs(event.logprobs) if event.logprobs else None)

    def _quoted(self, event: Quoted) -> bytes:
        if event.index or not self._bare:
            return self._text(event.delta())
        return b"" if event.literal == b'""' else self._before + event.literal + self._after

    def _tool_delta(self, event: ToolDelta) -> dict[str, Any]:
        function: dict[str, str] = {"arguments": event.arguments}
        if event.name:
            function["name"] = event.name
        if self._request.legacy_functions:
            return {"function_call": function}
        call: dict[str, Any] = {"function": function, "index": event.position}
        if event.id:
            call |= {"id": event.id, "type": "function"}
        return {"tool_calls": [call]}

    def _chunk(
        self,
        delta: dict[str, Any],
        index: int,
        entries: dict[str, Any] | None = None,
        beside: dict[str, Any] | None = None,
    ) -> bytes:
        if self._style.role_everywhere or index not in self._role_sent:
            delta["role"] = "assistant"
            self._role_sent.add(index)
        if self._due and beside is None:
            self._due, beside = False, {"references": references(self._references or ())}
        self._bare = self._is_bare()
        body = self._body(self._style.open_choice(index, delta, entries))
        return self._frame(_along(body, beside) if beside else body)

    def _end(self, finished: Finished) -> dict[str, Any]:
        delta = {"content": "", "role": "assistant"} if self._style.role_everywhere else {}
        shown = finish_reason(finished.reason, legacy_functions=self._request.legacy_functions)
        choice: dict[str, Any] = {"delta": delta, "finish_reason": shown, "index": finished.index}
        if self._style.nulls:
            choice["logprobs"] = None
        if finished.hit:
            choice["moderation_hit_type"] = finished.hit
        return self._body(choice)

    def _body(self, choice: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"choices": [choice], **self._tail}
        if self._usage_key:
            body["usage"] = usage(self._running) if self._request.wants_running_usage else None
        return body

    def _frame(self, body: dict[str, Any]) -> bytes:
        return self._style.frame(json.dumps(body))

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        if self._request.wants_running_usage:
            self._running = Usage(
                max(prompt_tokens, self._running.prompt_tokens), max(completion_tokens, self._running.completion_tokens)
            )


def _along(body: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    """The body with what only bots say, in alphabetical order again."""
    return dict(sorted((body | beside).items()))
