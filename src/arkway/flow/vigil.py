"""Deadlines of the calls under way: one timer for all of them, so that a call costs none."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol

log = logging.getLogger("arkway")

TICK_S = 0.25


class Watched(Protocol):
    """What has a deadline. ``due_s``: a moment of the monotonic clock, seconds."""

    due_s: float

    def expire(self) -> None:
        """The deadline has passed. Called once for each time that it is found to have."""


class Vigil:
    """Looks every ``tick_s`` seconds who is late: a deadline is met at most that much too late.

    Whoever has no deadline any more takes itself out of ``watched``.
    """

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self.watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        self.watched.add(watched)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def _look(self) -> None:
        now_s, self._timer = monotonic(), None
        for late in [watched for watched in self.watched if watched.due_s <= now_s]:
            try:
                late.expire()
            except Exception:
                log.exception("internal error at a deadline")
        if self.watched and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)
