"""Signs of life on silent streams: one task for all of them, so that an idle stream costs no timer and no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from arkway.core.raw import ClientGone, Writer

TICK_S = 1.0


class Beat:
    """One stream's heartbeat: what to send, to whom, and when something was last sent."""

    __slots__ = ("busy", "heartbeat", "last_s", "writer")

    def __init__(self, writer: Writer, heartbeat: Callable[[], bytes]) -> None:
        self.writer = writer
        self.heartbeat = heartbeat
        self.last_s = monotonic()
        self.busy = False

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

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._beats:
            await asyncio.sleep(min(TICK_S, self._every_s))
            due_s = monotonic() - self._every_s
            for beat in [b for b in self._beats if b.last_s <= due_s]:
                # Sending to an earlier one may have taken a while: this one may have spoken or ended meanwhile.
                if beat in self._beats and beat.last_s <= due_s and not beat.busy:
                    await self._send(beat)

    async def _send(self, beat: Beat) -> None:
        # A stream that cannot take a heartbeat is being watched by its own task, which will notice.
        beat.last_s = monotonic()
        try:
            async with asyncio.timeout(TICK_S):
                await beat.writer.write(beat.heartbeat())
        except (TimeoutError, ClientGone):
            self.remove(beat)
