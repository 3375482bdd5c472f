"""One chat call at an upstream: the answer's bytes in, events out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from arkway.backends.upstream.exchange import Exchange
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed, InternalError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Sink
from arkway.wire.openai_shape.faults import error_of
from arkway.wire.openai_shape.incoming import Possible, StreamReader, reply_events

ERROR_MAX_BYTES = 64 * 1024
WHOLE_MAX_BYTES = 32 << 20
TOKEN_MAX_BYTES = 4096
AFTERMATH_MAX_BYTES = 64 * 1024
TELLING = 4
"""A model's name of fewer characters tells nobody anything, and is part of other words."""
SPARE_TOKENS = 4096
"""So many more than can be are still believed: templates and images have tokens that nobody here counts."""

log = logging.getLogger("arkway.upstream")


class Server(Protocol):
    """What a call needs of its server."""

    hidden: tuple[str, ...]

    def send(self, chat: ChatCall, key: str) -> Exchange: ...

    def key(self, chat: ChatCall) -> str | None:
        """The key to show; None: `wait_for_key` gets one."""
        ...

    def wait_for_key(self, chat: ChatCall) -> Callable[[], None]:
        """Ends in `ChatCall.keyed`; the result calls it off."""
        ...

    def refused(self, chat: ChatCall, key: str) -> bool:
        """The key was refused; whether another one can be had."""
        ...


def most_bytes(deployment: Deployment, request: ChatRequest) -> int:
    """How long a whole stream may be at most: room for every token that may come, and then some."""
    tokens = request.max_tokens or deployment.card.max_output_tokens
    return WHOLE_MAX_BYTES + TOKEN_MAX_BYTES * tokens * request.n


def possible(deployment: Deployment, request: ChatRequest) -> Possible:
    """The most that the call can have used."""
    card = deployment.card
    context = card.context_tokens + SPARE_TOKENS
    answer = request.n * (request.max_tokens or card.max_output_tokens) + SPARE_TOKENS
    return Possible(context, answer, request.n * context)


class ChatCall:
    """Implements `arkway.backends.upstream.exchange.Answer` and `arkway.ports.Running`.

    ``over`` from the last word to the sink, or from `cancel`, on.
    """

    __slots__ = (
        "_again",
        "_call_off",
        "_exchange",
        "_headers",
        "_key",
        "_limit",
        "_most",
        "_paused",
        "_pieces",
        "_possible",
        "_reader",
        "_server",
        "_sink",
        "_size",
        "_status",
        "body",
        "lines",
        "model",
        "over",
        "request",
    )

    def __init__(
        self,
        server: Server,
        model: str,
        deployment: Deployment,
        request: ChatRequest,
        lines: bytes,
        body: bytes,
        sink: Sink,
    ) -> None:
        self._server, self._sink = server, sink
        self._limit = self._most = most_bytes(deployment, request)
        self._possible = possible(deployment, request)
        self.model, self.request, self.lines, self.body = model, request, lines, body
        self._exchange: Exchange | None = None
        self._call_off: Callable[[], None] | None = None
        self._reader: StreamReader | None = None
        self._pieces: list[bytes] = []
        self._headers: Mapping[str, str] = {}
        self._key = ""
        self._status = self._size = 0
        self._paused = self._again = self.over = False

    def begin(self) -> None:
        key = self._server.key(self)
        if key is None:
            self._call_off = self._server.wait_for_key(self)
        else:
            self._send(key)

    def keyed(self, key: str | ArkwayError) -> None:
        """The key has come, or will not."""
        self._call_off = None
        if self.over:
            return
        if isinstance(key, ArkwayError):
            self._fail(key)
        else:
            self._send(key)

    def _send(self, key: str) -> None:
        self._key = key
        self._exchange = self._server.send(self, key)
        if self._paused:
            self._exchange.pause()

    def pause(self) -> None:
        self._paused = True
        if self._exchange is not None and not self.over:
            self._exchange.pause()

    def resume(self) -> None:
        self._paused = False
        if self._exchange is not None:
            self._exchange.resume()

    def cancel(self) -> None:
        if self.over:
            return
        self.over = True
        if self._call_off is not None:
            self._call_off()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abort()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers
        if status != 200:
            self._limit = ERROR_MAX_BYTES
            return
        kind = headers.get("content-type", "")
        if headers.get("content-encoding", "identity") != "identity" or kind.startswith("text/html"):
            self._fail(BackendFailed("the model's server sent an answer in a form that was not asked for"))
        elif kind.startswith("text/event-stream") or (self.request.stream and not kind.startswith("application/json")):
            self._reader = StreamReader(self.request.n, self._hidden(), self._possible)
        else:
            self._limit = WHOLE_MAX_BYTES

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self.over:
            self._after(data)
        elif self._size > self._limit:
            self._too_long()
        elif self._reader is None:
            self._pieces.append(data)
        else:
            self._read(self._reader, data)

    def _read(self, reader: StreamReader, data: bytes) -> None:
        events = reader.feed(data)
        if events:
            self._sink.events(events)
            if self.over:
                return
        if reader.failure is not None:
            self._fail(reader.failure)
        elif reader.done:
            self._end()

    def on_end(self) -> None:
        self._exchange = None  # it holds this call, too: nothing is to be left to the collector
        if self.over:
            return
        try:
            events = self._rest()
        except ArkwayError as error:
            if self._status != 401 or not self._once_more():
                self._fail(error)
            return
        except Exception:
            log.exception("internal error at the end of an upstream's answer")
            self._fail(InternalError())
            return
        if events:
            self._sink.events(events)
        if not self.over:
            self._end()

    def on_failed(self, error: ArkwayError) -> None:
        self._exchange = None
        if not self.over:
            self.over = True
            self._sink.failed(error)

    def _rest(self) -> list[Event]:
        """What the end itself brings. Raises what the answer says."""
        if self._reader is not None:
            return self._reader.end()
        body = b"".join(self._pieces)
        if self._status != 200:
            raise error_of(self._status, self._headers, body, self._hidden())
        return reply_events(body, self.request, self._hidden(), self._possible)

    def _hidden(self) -> tuple[str, ...]:
        """What no message may show; the model's name there may be another one than the caller's."""
        hidden, model = self._server.hidden, self.model
        return hidden if len(model) < TELLING or model == self.request.asked else (*hidden, model)

    def _once_more(self) -> bool:
        """A temporary key that was refused may have been called back: another one is tried, once."""
        if self._again or not self._server.refused(self, self._key):
            return False
        self._again = True
        self._pieces, self._size, self._status, self._exchange = [], 0, 0, None
        self._limit = self._most
        self.begin()
        return True

    def _too_long(self) -> None:
        if self._status != 200:  # an error that goes on and on: what there is will do
            self._fail(error_of(self._status, self._headers, b"".join(self._pieces), self._hidden()))
        else:
            self._fail(BackendFailed("the model's server sent more than this call's answer can hold"))

    def _end(self) -> None:
        self.over = True
        self._size = 0
        if self._exchange is not None:
            self._exchange.resume()  # to the end of the message, so that the connection can be used again
        self._sink.ended()

    def _after(self, data: bytes) -> None:
        """Behind the end of the answer: a little is waited for, no more."""
        if self._size > AFTERMATH_MAX_BYTES and self._exchange is not None:
            self._exchange.abort()

    def _fail(self, error: ArkwayError) -> None:
        self.over = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abort()
        self._sink.failed(error)
