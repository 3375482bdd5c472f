"""A chat call's answer on its way to the client: events in, the dialect's bytes out, in one step.

An `Answering` is the receiver of a call and the source of an outlet. Whatever ends it, ``over`` hears of it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic

import msgspec

from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, InternalError
from arkway.core.events import Event, Fold
from arkway.core.transient import Transient
from arkway.flow.passage import Passage
from arkway.flow.road import ChatCall
from arkway.http.outlet import Outlet
from arkway.http.pulse import Pulse
from arkway.http.visit import JSON, Headers, Visit
from arkway.ports import Dialect, StreamEncoder

log = logging.getLogger("arkway")

STREAM = ("content-type", "text/event-stream; charset=utf-8")
NO_CACHE = ("cache-control", "no-cache, no-store")
NO_BUFFER = ("x-accel-buffering", "no")

Over = Callable[[Visit], None]


class Answering(Transient):
    """What whole and streamed answers have in common. ``_told_overhead``: answers carry what they cost here."""

    _visit: Visit
    _call: ChatCall
    _dialect: Dialect
    _outlet: Outlet
    _over: Over
    _told_overhead: bool
    _passage: Passage | None = None
    _ended: bool = False
    _asked_s: float = 0.0
    _heard_s: float = 0.0

    def run(self) -> None:
        """Begins. What the backend refuses at once is answered at once."""
        self._asked_s = monotonic()
        try:
            passage = self._call.run(self)
            self._passage = passage if passage.open else None
        except ArkwayError as error:
            self.failed(error)
        except Exception:
            log.exception("internal error", extra={"request_id": self._visit.raw.request_id})
            self.failed(InternalError())

    # The outlet's side

    def pause(self) -> None:
        if self._passage is not None:
            self._passage.pause()

    def resume(self) -> None:
        if self._passage is not None:
            self._passage.resume()

    def leave(self) -> None:
        if self._passage is not None:
            self._passage.leave()
        self._end()

    def cut(self) -> None:
        if self._passage is not None:
            self._passage.cut()

    # The call's side

    def events(self, batch: Sequence[Event]) -> None:
        raise NotImplementedError

    def ended(self, usage: Usage) -> None:
        raise NotImplementedError

    def failed(self, error: ArkwayError) -> None:
        """An error before anything was sent: an HTTP status."""
        self._visit.note(error)
        self._outlet.reply(*self._visit.refusal(error))
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended, self._passage = True, None
        self._over(self._visit)

    def _head(self, *headers: tuple[str, str]) -> Headers:
        head = self._visit.head(*headers)
        if self._told_overhead:
            # From the request's last byte to now, but for the time that the backend had.
            backend_s = self._heard_s - self._asked_s if self._heard_s else 0.0
            overhead_us = round((monotonic() - self._visit.heard_s - backend_s) * 1e6)
            head.append(("x-arkway-overhead-us", str(max(0, overhead_us))))
        return head


class WholeAnswer(Answering):
    """For a caller that does not stream."""

    _fold: Fold = msgspec.field(default_factory=Fold)

    def events(self, batch: Sequence[Event]) -> None:
        self._heard_s = monotonic()
        self._fold.add_all(batch)

    def ended(self, usage: Usage) -> None:
        request = self._call.request
        try:
            reply = self._fold.reply(usage, logprobs=request.logprobs)
            body = self._dialect.encode_chat(reply, request, self._call.tag())
        except ArkwayError as error:
            self.failed(error)
        except Exception:
            log.exception("internal error", extra={"request_id": self._visit.raw.request_id})
            self.failed(InternalError())
        else:
            self._visit.status = 200
            self._outlet.reply(200, self._head(JSON), body)
            self._end()


class StreamAnswer(Answering, kw_only=True):
    """For a caller that streams: nothing is sent before the first event, so that an error until then is a status."""

    _pulse: Pulse
    _encoder: StreamEncoder | None = None
    last_s: float = 0.0

    def events(self, batch: Sequence[Event]) -> None:
        encoder = self._encoder or self._begun()
        data = encoder.feed(batch[0]) if len(batch) == 1 else b"".join([encoder.feed(event) for event in batch])
        if data:
            self.last_s = monotonic()
            self._outlet.write(data)
        elif not self.last_s:
            self.last_s = self._heard_s
            self._outlet.flush()

    def ended(self, usage: Usage) -> None:
        try:
            last = (self._encoder or self._begun()).close(usage)
        except Exception:
            log.exception("internal error in a stream", extra={"request_id": self._visit.raw.request_id})
            self.failed(InternalError())
        else:
            self._finish(last)

    def failed(self, error: ArkwayError) -> None:
        if self._encoder is None:
            super().failed(error)
        else:
            self._visit.error = type(error).__name__
            try:
                self._finish(self._encoder.fail(error))
            except Exception:
                log.exception("internal error in a stream", extra={"request_id": self._visit.raw.request_id})
                self._pulse.remove(self)
                self._outlet.abort()
                self._end()

    def leave(self) -> None:
        self._pulse.remove(self)
        super().leave()

    def beat(self) -> None:
        if self._encoder is not None:
            self._outlet.write(self._encoder.heartbeat())

    def _begun(self) -> StreamEncoder:
        self._heard_s = monotonic()
        encoder = self._encoder = self._dialect.stream(self._call.request, self._call.tag())
        self._visit.status = 200
        self._outlet.start(200, self._head(STREAM, NO_CACHE, NO_BUFFER))
        self._pulse.add(self)
        return encoder

    def _finish(self, last: bytes) -> None:
        self._pulse.remove(self)
        self._outlet.finish(last)
        self._end()
