"""Signs of life on silent streams: one timer for all of them, so that an idle stream costs no timer and no task."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol

log = logging.getLogger("arkway")

TICK_S = 1.0


class Beating(Protocol):
    """A stream that may fall silent. ``last_s`` is when something was last sent on it, on the monotonic clock."""

    last_s: float

    def beat(self) -> None:
        """Sends a heartbeat; does not wait. The stream may leave its pulse by this, or make another one leave."""


class Pulse:
    """Sends a heartbeat on every stream that was silent for ``every_s`` (clients give up after 60 s, protocol §2)."""

    def __init__(self, every_s: float = 15.0) -> None:
        self._every_s = every_s
        self._streams: set[Beating] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, stream: Beating) -> None:
        self._streams.add(stream)
        if self._timer is None and not self._closed:
            self._wait()

    def remove(self, stream: Beating) -> None:
        self._streams.discard(stream)

    def close(self) -> None:
        """No heartbeat follows."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(min(TICK_S, self._every_s), self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = monotonic()
        for stream in [stream for stream in self._streams if stream.last_s <= now_s - self._every_s]:
            if stream in self._streams:
                stream.last_s = now_s
                try:
                    stream.beat()
                except Exception:
                    log.exception("internal error in a heartbeat")
        if self._streams and self._timer is None:
            self._wait()
