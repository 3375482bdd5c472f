"""Streams in the MaaS shape.

Every frame holds a message whose ``content`` is the increment. The last one has the finish reason and the usage too,
and a message still, since the vendor's own samples read one from every frame (protocol §4.3). Calls of functions leave
whole, on the last frame: this shape has no way to say which call a piece belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from arkway.core.chat import ChatRequest, FinishReason, ReplyTag, ToolCall, Usage
from arkway.core.errors import ArkwayError, OutputBlocked
from arkway.core.events import Delta, Event, Finished, Quoted, ToolDelta
from arkway.ports import StreamEncoder
from arkway.wire import json, sse
from arkway.wire.maas_shape.reply import LogprobArrays, ReplyStyle, Seal, finish_reason, message, shown_id, usage

_MARKER = "\ue000"


class FrameEncoder:
    """One stream; implements `arkway.ports.StreamEncoder`.

    A frame of plain text, which is nearly every frame, costs one JSON string and two joins: everything around the text
    is made once. Finish reasons are held back until ``close``, so that nothing that looks like an end leaves before the
    call is settled.
    """

    def __init__(
        self,
        request: ChatRequest,
        tag: ReplyTag,
        style: ReplyStyle,
        error_payload: Callable[[ArkwayError], bytes],
        seal: Seal | None,
    ) -> None:
        self._request = request
        self._style = style
        self._error_payload = error_payload
        self._seal = seal
        self._id = shown_id(request, tag)
        self._calls: dict[int, dict[int, list[str]]] = {}
        self._logprobs: dict[int, LogprobArrays] = {}
        self._finished: dict[int, FinishReason] = {}
        self._blocked = False
        # The caller's own id stands before the content and may hold the marker: the last one counts.
        frame = self._frame([self._choice(0, _MARKER)])
        self._before, _, self._after = frame.rpartition(json.dumps(_MARKER))

    def feed(self, event: Event) -> bytes:
        match event:
            case Quoted():
                return self._quoted(event)
            case Delta():
                return self._text(event)
            case ToolDelta():
                self._hold(event)
            case Finished():
                self._finished[event.index] = event.reason
                self._blocked = self._blocked or bool(event.hit)
        return b""

    def heartbeat(self) -> bytes:
        return sse.PING

    def fail(self, error: ArkwayError) -> bytes:
        payload = self._error_payload(error)
        if self._seal:
            # The Python SDK decrypts a content out of every frame before it looks for an error.
            payload = json.dumps({**json.load_object(payload), **self._style.chosen([self._choice(0, "")])})
        return sse.tight(payload) + sse.TIGHT_DONE

    def close(self, usage_total: Usage) -> bytes:
        """An answer that moderation has stopped ends as error 1709814: this shape has no finish reason for it."""
        if self._blocked:
            return self.fail(OutputBlocked())
        ends = [self._end(index, reason) for index, reason in sorted(self._finished.items())]
        last = self._frame(ends, usage(usage_total)) if ends else b""
        return last + sse.TIGHT_DONE

    def _text(self, event: Delta) -> bytes:
        entries = event.logprobs if self._request.logprobs else ()
        if event.text and not entries and event.index == 0:
            return self._before + json.dumps(self._seal(event.text) if self._seal else event.text) + self._after
        choice = self._said(event)
        return self._frame([choice]) if choice else b""

    def _said(self, event: Delta) -> dict[str, Any] | None:
        """The choice with this piece of it; None where tokens were spent and there is nothing to show yet."""
        entries = event.logprobs if self._request.logprobs else ()
        if not event.text and not entries:
            return None
        choice = self._choice(event.index, self._seal(event.text) if self._seal and event.text else event.text)
        if entries:
            arrays = self._logprobs.setdefault(event.index, LogprobArrays(rivals=self._style.rivals))
            choice["logprobs"] = arrays.add(entries)
        return choice

    def _quoted(self, event: Quoted) -> bytes:
        if event.index or self._seal:
            return self._text(event.delta())
        return b"" if event.literal == b'""' else self._before + event.literal + self._after

    def _hold(self, event: ToolDelta) -> None:
        call = self._calls.setdefault(event.index, {}).setdefault(event.position, ["", "", ""])
        call[0] = call[0] or event.id
        call[1] = call[1] or event.name
        call[2] += event.arguments

    def _end(self, index: int, reason: FinishReason) -> dict[str, Any]:
        held = self._calls.get(index, {})
        choice = self._choice(index, "", (ToolCall(*held[position]) for position in sorted(held)))
        choice["finish_reason"] = finish_reason(reason, self._request, self._style)
        return choice

    def _choice(self, index: int, text: str, calls: Iterable[ToolCall] = ()) -> dict[str, Any]:
        return {"index": index, "message": message(text, calls, self._request, self._style)}

    def _frame(self, choices: list[dict[str, Any]], counts: dict[str, Any] | None = None) -> bytes:
        body = self._style.chosen(choices)
        if counts is not None:
            body["usage"] = counts
        return sse.tight(json.dumps(self._style.headed(self._id, body)))


class AsciiFrames:
    """A stream whose every character is ASCII, for a client that decodes what arrives piece by piece."""

    def __init__(self, frames: StreamEncoder) -> None:
        self._frames = frames

    def feed(self, event: Event) -> bytes:
        return json.escaped(self._frames.feed(event))

    def heartbeat(self) -> bytes:
        return self._frames.heartbeat()

    def fail(self, error: ArkwayError) -> bytes:
        return json.escaped(self._frames.fail(error))

    def close(self, usage_total: Usage) -> bytes:
        return json.escaped(self._frames.close(usage_total))
