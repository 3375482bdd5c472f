"""One admitted chat call while its answer passes through: counted, held to its deadlines, settled before it ends.

No coroutine takes part: a backend pushes events in, they go on to the receiver in the same step, and every way for the
call to end, ours, the backend's or the client's, settles it first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

import msgspec

from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, BackendFailed, BackendTimeout, CallerError, InternalError, Refused
from arkway.core.events import Event
from arkway.core.transient import Transient
from arkway.flow import leaving
from arkway.flow.meter import Meter
from arkway.flow.vigil import Vigil
from arkway.ports import Outcome, Running

log = logging.getLogger("arkway")


class Deadlines(msgspec.Struct, frozen=True):
    """How long a backend may be silent before the first event of its answer, between those, and altogether; seconds.

    What it tells of its progress before the answer makes the first of these begin anew.
    """

    first_event_s: float = 120.0
    next_event_s: float = 60.0
    total_s: float = 1800.0


class Receiver(Protocol):
    """Where a call's answer goes. No method waits; exactly one of ``ended`` and ``failed`` comes, last.

    By then the call is settled. Neither comes after `Passage.leave`.
    """

    def events(self, batch: Sequence[Event]) -> None: ...

    def ended(self, usage: Usage) -> None: ...

    def failed(self, error: ArkwayError) -> None: ...


class Nobody:
    """The receiver of a call that has ended."""

    def events(self, batch: Sequence[Event]) -> None: ...
    def ended(self, usage: Usage) -> None: ...
    def failed(self, error: ArkwayError) -> None: ...


NOBODY = Nobody()


class Passage(Transient):
    """Implements `arkway.ports.Sink`, for one call. ``open`` until it is settled, ``running`` once begun.

    ``_end_s`` is when it has to be over altogether, ``due_s`` when the next event has to be here; on the monotonic
    clock.
    """

    _meter: Meter
    _receiver: Receiver
    _deadlines: Deadlines
    _vigil: Vigil
    _end_s: float
    due_s: float
    open: bool = True
    running: Running | None = None
    _paused: bool = False

    # The backend's side

    def events(self, batch: Sequence[Event]) -> None:
        if not self.open:
            return
        try:
            self._meter.observe_all(batch)
            self.due_s = self._end_s if self._paused else self._next_due_s()
            self._receiver.events(batch)
        except Exception:
            # Whatever it was: the backend hears that nobody wants the rest, the client that it broke off.
            log.exception("internal error in a stream")
            self._stop("upstream_error", InternalError())

    def ended(self) -> None:
        if not self._meter.whole.reached():
            self.failed(BackendFailed("the model's answer broke off before its end"))
        elif self._settle("done"):
            self._parted().ended(self._meter.spent)

    def failed(self, error: ArkwayError) -> None:
        outcome: Outcome = "refused" if isinstance(error, CallerError | Refused) else "upstream_error"
        if self._settle(outcome, error):
            self._parted().failed(error)

    # The client's side

    def pause(self) -> None:
        """The client reads too slowly; how long it may do so is the transport's to say."""
        if self.open and not self._paused and self.running is not None:
            self._paused = True
            self.due_s = self._end_s
            self.running.pause()

    def resume(self) -> None:
        if self.open and self._paused and self.running is not None:
            self._paused = False
            self.due_s = self._next_due_s()
            self.running.resume()

    def leave(self) -> None:
        """The client is gone: the backend stops, nobody is told."""
        if self._settle("client_abort"):
            self._cancel()
            self._parted()

    # Ours

    def cut(self) -> None:
        """The server stops: the client is told."""
        self._stop("interrupted", leaving.stopping())

    def expire(self) -> None:
        """The backend was silent for too long, or took too long altogether; one that can learn from that is told."""
        error = BackendTimeout("the model did not answer in time")
        if self._settle("upstream_error", error):
            running, self.running = self.running, None
            if running is not None:
                getattr(running, "expire", running.cancel)()
            self._parted().failed(error)

    def _next_due_s(self) -> float:
        """Reading a prompt, or that something is looked up for it, is not an answer yet."""
        deadlines = self._deadlines
        due_s = monotonic() + (deadlines.next_event_s if self._meter.whole.opened else deadlines.first_event_s)
        return due_s if due_s < self._end_s else self._end_s

    def _stop(self, outcome: Outcome, error: ArkwayError) -> None:
        if self._settle(outcome, error):
            self._cancel()
            self._parted().failed(error)

    def _settle(self, outcome: Outcome, error: ArkwayError | None = None) -> bool:
        """True for whoever ends the call."""
        if not self.open:
            return False
        self.open = False
        self._vigil.watched.discard(self)
        try:
            self._meter.settle(outcome, error)
        except Exception:
            log.exception("a call could not be settled")
        return True

    def _parted(self) -> Receiver:
        """The receiver, and nothing is held any more: calls that hold each other would be left to the collector."""
        receiver, self._receiver, self.running = self._receiver, NOBODY, None
        return receiver

    def _cancel(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.cancel()
