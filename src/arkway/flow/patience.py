"""A deadline that is moved at every step and hardly ever met: one timer per call, not one per step.

``asyncio.timeout`` sets and cancels a timer each time, which on a stream costs more than everything else that is done
to an event. Here a step only notes when it has to be over; the one timer looks, and goes back to sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """How long one call's steps may take: each its own time, all together at most ``total_s`` seconds from now."""

    __slots__ = ("_due", "_end", "_expired", "_loop", "_task", "_timer")

    def __init__(self, total_s: float = float("inf")) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + total_s
        self._due = self._end
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._expired = False

    async def wait(self, step: Awaitable[T], seconds: float) -> T:
        """The step's result. Raises TimeoutError when it takes longer, after cancelling it."""
        task = asyncio.current_task()
        assert task is not None
        self._due = min(self._loop.time() + seconds, self._end)
        self._task = task
        if self._timer is None or self._timer.when() > self._due:
            self._set_timer()
        try:
            return await step
        except asyncio.CancelledError:
            if not self._expired:
                raise
            self._expired = False
            if task.uncancel() > 0:
                raise  # somebody else wants the task gone as well
            raise TimeoutError from None
        finally:
            if self._task is task:
                self._task = None

    def close(self) -> None:
        """No step follows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due:
            self._set_timer()
            return
        self._expired = True
        self._task.cancel()
