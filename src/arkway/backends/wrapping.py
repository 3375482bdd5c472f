"""What stands between a call and the backend under it: told to wait, to go on and to stop, whatever runs just then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed, InternalError
from arkway.ports import Running, Sink

log = logging.getLogger("arkway")


def expire(running: Running) -> None:
    """As `Running.cancel`, when the caller has waited for too long: what runs may want to know why."""
    getattr(running, "expire", running.cancel)()


class Passing:
    """The part of a `arkway.ports.Running` that passes pauses on, to what runs and to what begins meanwhile."""

    __slots__ = ("_paused", "_running")

    def __init__(self) -> None:
        self._running: Running | None = None
        self._paused = False

    def pause(self) -> None:
        self._paused = True
        if self._running is not None:
            self._running.pause()

    def resume(self) -> None:
        self._paused = False
        if self._running is not None:
            self._running.resume()

    def began(self, running: Running) -> None:
        """From now on this is what runs."""
        self._running = running
        if self._paused:
            running.pause()


class Awaiting(Passing):
    """Implements `arkway.ports.Running` for a call whose request is not ready yet.

    ``ready`` makes the request, in a task of its own; ``begin`` begins with it. What either raises is how the call
    fails; ``broken_off`` is said of one whose task was ended by others.
    """

    __slots__ = ("_over", "_task")

    def __init__(
        self,
        ready: Callable[[], Coroutine[Any, Any, ChatRequest]],
        begin: Callable[[ChatRequest], Running],
        sink: Sink,
        request_id: str,
        broken_off: str,
    ) -> None:
        super().__init__()
        self._over = False
        work = self._wait(ready, begin, sink, request_id, broken_off)
        self._task = asyncio.get_running_loop().create_task(work)

    def cancel(self) -> None:
        self._over = True
        if self._running is None:
            self._task.cancel()
        else:
            self._running.cancel()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long."""
        if self._running is None:
            self.cancel()
        else:
            self._over = True
            expire(self._running)

    async def _wait(
        self,
        ready: Callable[[], Coroutine[Any, Any, ChatRequest]],
        begin: Callable[[ChatRequest], Running],
        sink: Sink,
        request_id: str,
        broken_off: str,
    ) -> None:
        error: ArkwayError
        try:
            request = await ready()
            if not self._over:
                self.began(begin(request))
            return
        except ArkwayError as refused:
            error = refused
        except asyncio.CancelledError:
            self._fail(sink, BackendFailed(broken_off))
            raise
        except Exception:
            log.exception("internal error before a call", extra={"request_id": request_id})
            error = InternalError()
        self._fail(sink, error)

    def _fail(self, sink: Sink, error: ArkwayError) -> None:
        if not self._over:
            self._over = True
            sink.failed(error)
