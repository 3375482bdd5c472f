"""A backend that is pulled, made to push: one task per call, which is what a coroutine needs anyway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from inspect import signature
from typing import cast

from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed, InternalError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Backend, Pushing, Running, Sink

log = logging.getLogger("arkway")


def pushing(backend: Backend | Pushing) -> Pushing:
    """The backend itself where it pushes, else one that pumps it. Raises TypeError where neither can be."""
    start = getattr(backend, "start", None)
    if start is None:
        return Pump(cast(Backend, backend))
    if "sink" not in signature(start).parameters:
        raise TypeError(f"{type(backend).__name__}.start is not that of a pushing backend")
    return cast(Pushing, backend)


class Pump:
    """Implements `arkway.ports.Pushing` over a backend that is pulled."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        return Pumped(self._backend.chat(deployment, request, call), call.request_id, sink)


class Pumped:
    """Implements `arkway.ports.Running` over an async generator, which is closed however the call ends."""

    __slots__ = ("_cancelled", "_room", "_sink", "_task")

    def __init__(self, source: AsyncGenerator[Event, None], request_id: str, sink: Sink) -> None:
        self._sink = sink
        self._cancelled = False
        self._room: asyncio.Future[None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._pump(source, request_id))

    def pause(self) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def cancel(self) -> None:
        self._cancelled = True
        self._task.cancel()

    async def _pump(self, source: AsyncGenerator[Event, None], request_id: str) -> None:
        failure: ArkwayError | None = None
        try:
            await self._pass_on(source)
        except ArkwayError as error:
            failure = error
        except asyncio.CancelledError:
            if self._cancelled:
                raise
            failure = BackendFailed("the model's answer was broken off")
        except Exception:
            log.exception("internal error in a backend", extra={"request_id": request_id})
            failure = InternalError()
        if self._cancelled:
            return
        if failure is not None:
            self._sink.failed(failure)
        else:
            self._sink.ended()

    async def _pass_on(self, source: AsyncGenerator[Event, None]) -> None:
        async with aclosing(source):
            async for event in source:
                if self._cancelled:
                    return
                self._sink.events((event,))
                while self._room is not None:
                    await self._room
