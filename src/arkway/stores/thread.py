"""The one thread that uses a database connection, and the line of work before it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from arkway.core.errors import StoreUnavailable

T = TypeVar("T")


class StoreThread:
    """Does jobs one after the other, and about every ``poll_s`` calls ``poll``, which must not raise."""

    def __init__(self, poll: Callable[[], None], poll_s: float) -> None:
        self._poll, self._poll_s = poll, poll_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._since_s = 0.0
        self._thread = threading.Thread(target=self._work, name="arkway-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def busy_s(self) -> float:
        """How long it has been at the job in hand; 0 between jobs."""
        since_s = self._since_s
        return time.monotonic() - since_s if since_s else 0.0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Start ``work`` without waiting for it. Raises StoreUnavailable after `close`."""
        done: Future[T] = Future()
        if self._closed:
            raise StoreUnavailable("the database is closed: the server is shutting down")
        self._jobs.put(lambda: _settle(done, work))
        return done

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish the work in hand and end the thread; False when that has been done before.

        After ``timeout_s`` the thread is left to itself: see `join`.
        """
        if self._closed:
            return False
        self._closed = True
        self._jobs.put(None)
        self.join(timeout_s)
        return True

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread's end; False when it has not come by then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        poll_at = time.monotonic() + self._poll_s
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, poll_at - time.monotonic()))
                if job is None:
                    return
                self._timed(job)
            except queue.Empty:
                pass
            if time.monotonic() >= poll_at:
                poll_at = time.monotonic() + self._poll_s
                self._timed(self._poll)

    def _timed(self, job: Callable[[], None]) -> None:
        self._since_s = time.monotonic()
        try:
            job()
        finally:
            self._since_s = 0.0


def _settle(done: Future[Any], work: Callable[[], Any]) -> None:
    """The outcome of ``work`` into the future; a future that its waiter has cancelled stays cancelled."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(result)
