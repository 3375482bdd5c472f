"""Signs of life on silent streams: one task for all of them, so that an idle stream costs no timer and no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from arkway.core.raw import ClientGone, Writer

TICK_S = 1.0


class Beat:
    """One stream's heartbeat: what to send, to whom, and when something was last sent."""

    __slots__ = ("busy", "heartbeat", "last_s", "sending", "writer")

    def __init__(self, writer: Writer, heartbeat: Callable[[], bytes]) -> None:
        self.writer = writer
        self.heartbeat = heartbeat
        self.last_s = monotonic()
        self.busy = False
        self.sending: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Sends the stream's own bytes."""
        self.busy = True
        await self.writer.write(data)
        self.busy = False
        self.last_s = monotonic()


class Pulse:
    """Sends a heartbeat on every stream that was silent for ``every_s`` (clients give up after 60 s, protocol §2)."""

    def __init__(self, every_s: float = 15.0) -> None:
        self._every_s = every_s
        self._beats: set[Beat] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, beat: Beat) -> None:
        self._beats.add(beat)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, beat: Beat) -> None:
        self._beats.discard(beat)
        if beat.sending is not None:
            beat.sending.cancel()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._beats:
            await asyncio.sleep(min(TICK_S, self._every_s))
            due_s = monotonic() - self._every_s
            for beat in self._beats:
                if beat.last_s <= due_s and not beat.busy and beat.sending is None:
                    beat.sending = asyncio.create_task(self._send(beat))

    async def _send(self, beat: Beat) -> None:
        """One heartbeat, in a task of its own: a client that reads slowly delays nobody else's."""
        beat.last_s = monotonic()
        try:
            await beat.writer.write(beat.heartbeat())
        except ClientGone:
            self.remove(beat)
        finally:
            beat.sending = None
