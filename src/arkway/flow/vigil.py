"""Deadlines of the calls under way: one timer for all of them, so that a call costs none."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("arkway")

TICK_S = 0.25


class Watched(Protocol):
    """What has a deadline. ``due_s``: a moment of the loop's clock, seconds."""

    due_s: float

    def expire(self) -> None:
        """The deadline has passed. Called once for each time that it is found to have."""


class Vigil:
    """Looks every ``tick_s`` seconds who is late: a deadline is met at most that much too late."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        self._watched.add(watched)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def remove(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def watched(self) -> list[Watched]:
        return list(self._watched)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, self._timer = loop.time(), None
        for late in [watched for watched in self._watched if watched.due_s <= now_s]:
            try:
                late.expire()
            except Exception:
                log.exception("internal error at a deadline")
        if self._watched and self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._look)
