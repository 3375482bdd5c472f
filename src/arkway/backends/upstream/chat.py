"""One chat call at an upstream: the answer's bytes in, events out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from arkway.backends.upstream.exchange import Carried
from arkway.backends.upstream.keys import TemporaryKeys
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed, InternalError
from arkway.core.events import Event
from arkway.core.model import ModelCard
from arkway.ports import Sink
from arkway.wire.openai_shape.faults import error_of
from arkway.wire.openai_shape.incoming import Possible, StreamReader, reply_events

ERROR_MAX_BYTES = 64 * 1024
WHOLE_MAX_BYTES = 32 << 20
TOKEN_MAX_BYTES = 4096
AFTERMATH_MAX_BYTES = 64 * 1024
SPARE_TOKENS = 4096
"""So many more than can be are still believed: templates and images have tokens that nobody here counts."""

log = logging.getLogger("arkway.upstream")


class Model(Protocol):
    """What a call needs of the model that is to answer it: its ``name`` there, and what no message may show."""

    name: str
    hidden: tuple[str, ...]
    hidden_but_name: tuple[str, ...]
    """The same for a caller who named the model so."""

    def send(self, call: Carried, key: str, request_id: str, body: bytes) -> None: ...


def most_bytes(card: ModelCard, request: ChatRequest) -> int:
    """How long a whole stream may be at most: room for every token that may come, and then some."""
    return WHOLE_MAX_BYTES + TOKEN_MAX_BYTES * (request.max_tokens or card.max_output_tokens) * request.n


@lru_cache(256)
def possible(context_tokens: int, answer_tokens: int, answers: int) -> Possible:
    """The most that a call can have used, of so many answers of so many tokens at most."""
    context = context_tokens + SPARE_TOKENS
    return Possible(context, answers * answer_tokens + SPARE_TOKENS, answers * context)


class ChatCall(Carried):
    """Hears an upstream's answer, and implements `arkway.ports.Running`.

    ``over`` from the last word to the sink, or from `cancel`, on.
    """

    __slots__ = (
        "_asked",
        "_card",
        "_headers",
        "_limit",
        "_model",
        "_pieces",
        "_reader",
        "_sink",
        "_size",
        "_status",
        "over",
    )

    at_once = True

    def __init__(
        self, model: Model, card: ModelCard, asked: ChatRequest, sink: Sink, request: tuple[bytes, ...] = ()
    ) -> None:
        self.request = request
        self.place = None
        self.received = self.paused = self.repeated = self.over = False
        self._model, self._card, self._asked, self._sink = model, card, asked, sink

    def pause(self) -> None:
        if not self.over:
            super().pause()

    def cancel(self) -> None:
        if not self.over:
            self.over = True
            self.abort()

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        if self._asked.stream or headers.get("content-type", "").startswith("text/") or len(body) > WHOLE_MAX_BYTES:
            self.on_head(200, headers)
            if not self.over:
                self.on_body(body)
            self.on_end()
        else:
            self._reply(body)

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._reader: StreamReader | None = None
        self._pieces: list[bytes] = []
        self._status, self._headers, self._size = status, headers, 0
        if status != 200:
            self._limit = ERROR_MAX_BYTES
            return
        kind = headers.get("content-type", "")
        if headers.get("content-encoding", "identity") != "identity" or kind.startswith("text/html"):
            self._fail(BackendFailed("the model's server sent an answer in a form that was not asked for"))
        elif kind.startswith("text/event-stream") or (self._asked.stream and not kind.startswith("application/json")):
            self._limit = most_bytes(self._card, self._asked)
            self._reader = StreamReader(self._asked.n, self._hidden(), self._possible())
        else:
            self._limit = WHOLE_MAX_BYTES

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self.over:
            self._after()
        elif self._size > self._limit:
            self._too_long()
        elif (reader := self._reader) is None:
            self._pieces.append(data)
        else:
            events = reader.feed(data)
            if events:
                self._sink.events(events)
            if reader.failure is not None:
                self._fail(reader.failure)
            elif reader.done:
                self._end()

    def on_end(self) -> None:
        if self.over:
            return
        body = b"".join(self._pieces)
        if self._status != 200:
            if not self._once_more():
                self._fail(error_of(self._status, self._headers, body, self._hidden()))
        elif self._reader is None:
            self._reply(body)
        else:
            self._rest(self._reader)

    def on_failed(self, error: ArkwayError) -> None:
        if not self.over:
            self.over = True
            self._sink.failed(error)

    def _reply(self, body: bytes) -> None:
        """All of an answer that is no stream."""
        try:
            events = reply_events(body, self._asked, self._hidden(), self._possible())
        except ArkwayError as error:
            self._fail(error)
        except Exception:
            self._defect()
        else:
            self._last(events)

    def _rest(self, reader: StreamReader) -> None:
        """What the end of a stream itself brings."""
        try:
            events = reader.end()
        except ArkwayError as error:
            self._fail(error)
        except Exception:
            self._defect()
        else:
            self._last(events)

    def _last(self, events: list[Event]) -> None:
        if events:
            self._sink.events(events)
        if not self.over:
            self.over = True
            self._sink.ended()

    def _defect(self) -> None:
        log.exception("internal error at the end of an upstream's answer")
        self._fail(InternalError())

    def _possible(self) -> Possible:
        card, asked = self._card, self._asked
        return possible(card.context_tokens, asked.max_tokens or card.max_output_tokens, asked.n)

    def _hidden(self) -> tuple[str, ...]:
        """What no message may show; the model's name there may be another one than the caller's."""
        model = self._model
        return model.hidden if model.name != self._asked.asked else model.hidden_but_name

    def _once_more(self) -> bool:
        """An answer of failure has come whole; whether another one is waited for."""
        return False

    def _too_long(self) -> None:
        if self._status != 200:  # an error that goes on and on: what there is will do
            self._fail(error_of(self._status, self._headers, b"".join(self._pieces), self._hidden()))
        else:
            self._fail(BackendFailed("the model's server sent more than this call's answer can hold"))

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        self._size = 0
        if self.paused:
            self.resume()  # to the end of the message, so that the connection can be used again
        self._sink.ended()

    def _after(self) -> None:
        """Behind the end of the answer: a little is waited for, no more."""
        if self._size > AFTERMATH_MAX_BYTES:
            self.abort()

    def _fail(self, error: ArkwayError) -> None:
        if self.over:
            return
        self.over = True
        self.abort()
        self._sink.failed(error)


class KeyedCall(ChatCall):
    """A chat call that is shown a temporary key, which it may have to wait for."""

    __slots__ = ("_again", "_body", "_call_off", "_key", "_keys", "_request_id")

    def __init__(
        self, model: Model, card: ModelCard, asked: ChatRequest, sink: Sink, keys: TemporaryKeys, request_id: str
    ) -> None:
        super().__init__(model, card, asked, sink)
        self._keys, self._request_id = keys, request_id
        self._call_off: Callable[[], None] | None = None
        self._body = b""
        self._key = ""
        self._again = False

    def begin(self, body: bytes) -> None:
        self._body = body
        key = self._keys.get(self._model.name)
        if key is None:
            self._call_off = self._keys.when_got(self._model.name, self.keyed)
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

    def cancel(self) -> None:
        call_off, self._call_off = self._call_off, None
        if call_off is not None:
            call_off()
        super().cancel()

    def _send(self, key: str) -> None:
        self._key = key
        self._model.send(self, key, self._request_id, self._body)

    def _once_more(self) -> bool:
        """A temporary key that was refused may have been called back: another one is tried, once."""
        if self._status != 401 or self._again:
            return False
        self._again = True
        self._keys.drop(self._model.name, self._key)
        self.received = self.repeated = False
        self.begin(self._body)
        return True
