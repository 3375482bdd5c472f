"""Waiting for what has to happen, without saying how fast: a deadline that only what never happens meets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

# Of what takes milliseconds on a machine at rest: one that stands still for half a minute breaks no test.
PATIENCE_S = 45.0


def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Blocks until the condition holds; fails after ``patience_s`` seconds."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"it has not happened within {patience_s:g} seconds"
        time.sleep(0.005)


async def soon(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """As `until`, on an event loop that goes on meanwhile."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"it has not happened within {patience_s:g} seconds"
        await asyncio.sleep(0.005)


def ends(work: Callable[[], T]) -> T:
    """The result of what must not block for ever; fails when it has not ended after `PATIENCE_S`."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(PATIENCE_S)
