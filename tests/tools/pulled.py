"""A pushing backend as one that is pulled from: an answer as an asynchronous generator, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Pushing, Running

HIGH_WATER_EVENTS = 256


async def pulled(
    pushing: Pushing, deployment: Deployment, request: ChatRequest, call: Call
) -> AsyncGenerator[Event, None]:
    """The answer as `arkway.ports.Backend.chat` gives it. Nothing starts before the first event is asked for.

    At most `HIGH_WATER_EVENTS` and what one read brought wait here; closing the generator cancels the call at once.
    """
    held = _Held()
    running = held.running = pushing.start(deployment, request, call, held)
    try:
        while batch := await held.take():
            for event in batch:
                yield event
    finally:
        running.cancel()


class _Held:
    """What has come and not been taken yet; implements `arkway.ports.Sink`."""

    running: Running

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._over = False
        self._failure: ArkwayError | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def events(self, batch: Sequence[Event]) -> None:
        self._events.extend(batch)
        if len(self._events) >= HIGH_WATER_EVENTS and not self._paused:
            self._paused = True
            self.running.pause()
        self._wake()

    def ended(self) -> None:
        self._over = True
        self._wake()

    def failed(self, error: ArkwayError) -> None:
        self._over, self._failure = True, error
        self._wake()

    async def take(self) -> list[Event]:
        """All that is there, once something is; empty at the end. Raises what the call failed with."""
        while not self._events and not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events, self._events = self._events, []
        if not events and self._failure is not None:
            raise self._failure
        if self._paused and not self._over:
            self._paused = False
            self.running.resume()
        return events

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
