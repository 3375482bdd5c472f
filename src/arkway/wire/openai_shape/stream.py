"""Streams in the OpenAI-like shape.

A chunk of plain text, which is nearly every chunk, costs one JSON string and two joins: everything around the text is
made once per stream. Finish reasons are held back until ``close``, so that nothing that looks like an end leaves before
the call is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from arkway.core.chat import ChatRequest, FinishReason, ReplyTag, Usage
from arkway.core.errors import ArkwayError
from arkway.core.events import Delta, Event, Finished, Progress, Quoted, ToolDelta, UsageReport
from arkway.wire import json, sse
from arkway.wire.openai_shape.reply import finish_reason, logprobs, usage


class ChunkStyle(msgspec.Struct, frozen=True):
    """What differs between dialects of this shape.

    ``role_everywhere``: every delta says ``role``, not only the first. ``usage_always``: chunks carry ``usage: null``
    even when no usage was asked for (as the real v3 does, protocol §7.4). ``nulls``: open choices say
    ``finish_reason: null`` and ``logprobs: null``.
    """

    role_everywhere: bool
    usage_always: bool
    nulls: bool

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
        self._finished: dict[int, FinishReason] = {}
        self._running = Usage()
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
                self._finished[event.index] = event.reason
            case UsageReport() | Progress():
                pass
        return b""

    def heartbeat(self) -> bytes:
        # Comments and blank lines break the Java and Go SDKs; an empty delta is the only safe sign of life on v3
        # (protocol §0 rule 3).
        return self._before + b'""' + self._after

    def fail(self, error: ArkwayError) -> bytes:
        return sse.spaced(self._error_payload(error)) + sse.SPACED_DONE

    def close(self, usage_total: Usage) -> bytes:
        self._running = usage_total
        frames = [self._end(index, reason) for index, reason in sorted(self._finished.items())]
        if self._request.wants_usage:
            frames.append(self._frame({"choices": [], **self._tail, "usage": usage(usage_total)}))
        return b"".join(frames) + sse.SPACED_DONE

    def _plain_chunk(self) -> tuple[bytes, bytes]:
        marker = "\ue000"
        delta = {"content": marker, "role": "assistant"} if self._style.role_everywhere else {"content": marker}
        body: dict[str, Any] = {"choices": [self._style.open_choice(0, delta)], **self._tail}
        if self._usage_key:
            body["usage"] = None
        before, _, after = sse.spaced(json.dumps(body)).partition(json.dumps(marker))
        return before, after

    def _text(self, event: Delta) -> bytes:
        plain = event.index == 0 and not event.reasoning and not event.logprobs
        if plain and not event.text:
            return b""  # tokens were spent and there is nothing to show yet
        if plain and not self._request.wants_running_usage and (self._style.role_everywhere or 0 in self._role_sent):
            return self._before + json.dumps(event.text) + self._after
        delta: dict[str, Any] = {"content": event.text}
        if event.reasoning:
            delta["reasoning_content"] = event.reasoning
        return self._chunk(delta, event.index, logprobs(event.logprobs) if event.logprobs else None)

    def _quoted(self, event: Quoted) -> bytes:
        if (
            event.index
            or self._request.wants_running_usage
            or not (self._style.role_everywhere or 0 in self._role_sent)
        ):
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

    def _chunk(self, delta: dict[str, Any], index: int, entries: dict[str, Any] | None = None) -> bytes:
        if self._style.role_everywhere or index not in self._role_sent:
            delta["role"] = "assistant"
            self._role_sent.add(index)
        return self._frame(self._body(self._style.open_choice(index, delta, entries)))

    def _end(self, index: int, reason: FinishReason) -> bytes:
        delta = {"content": "", "role": "assistant"} if self._style.role_everywhere else {}
        shown = finish_reason(reason, legacy_functions=self._request.legacy_functions)
        choice = {"delta": delta, "finish_reason": shown, "index": index}
        return self._frame(self._body(choice | {"logprobs": None} if self._style.nulls else choice))

    def _body(self, choice: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"choices": [choice], **self._tail}
        if self._usage_key:
            body["usage"] = usage(self._running) if self._request.wants_running_usage else None
        return body

    def _frame(self, body: dict[str, Any]) -> bytes:
        return sse.spaced(json.dumps(body))

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        if self._request.wants_running_usage:
            self._running = Usage(
                max(prompt_tokens, self._running.prompt_tokens), max(completion_tokens, self._running.completion_tokens)
            )
