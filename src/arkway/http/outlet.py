"""The way back to one client that nobody waits on: what is written is on its way, and the writer hears when to stop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from arkway.core.raw import Writer
from arkway.flow import leaving
from arkway.http.visit import Headers

HIGH_BYTES = 64 * 1024
"""What may wait for a client that reads slowly before the backend is told to stop."""


class AnswerBroken(Exception):
    """An answer that cannot be ended: the connection has to break."""


class Source(Protocol):
    """Whoever answers, as the outlet sees them. Every method may come at any time, and more than once."""

    def pause(self) -> None:
        """The client reads too slowly: no more for now. What comes all the same is kept."""

    def resume(self) -> None: ...

    def leave(self) -> None:
        """The client is gone."""

    def cut(self) -> None:
        """The server stops: the answer is ended now, by an error."""


class Outlet(Protocol):
    """No method waits or raises; after the client has left they do nothing."""

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer at once."""

    def start(self, status: int, headers: Headers) -> None:
        """The head of a streamed answer."""

    def write(self, data: bytes) -> None:
        """More of a streamed answer."""

    def flush(self) -> None:
        """Nothing of the body comes for a while: what was started is to be seen."""

    def finish(self, last: bytes) -> None:
        """The end of a streamed answer, with its last bytes."""

    def abort(self) -> None:
        """The connection breaks, so that nobody takes what was sent for a whole answer."""


class QueuedOutlet:
    """An Outlet over a Writer that is waited for: `pump` writes until the answer is at its end."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._source: Source | None = None
        self._whole: tuple[int, Headers, bytes] | None = None
        self._head: tuple[int, Headers] | None = None
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._finished = self._over = self._broken = False
        self._news: asyncio.Future[None] | None = None

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._whole = (status, headers, body)
        self._tell()

    def start(self, status: int, headers: Headers) -> None:
        self._head = (status, headers)
        self._tell()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > HIGH_BYTES and self._source is not None:
            self._source.pause()
        self._tell()

    def flush(self) -> None:
        """The head is on its way."""

    def finish(self, last: bytes) -> None:
        self._parts.append(last)
        self._finished = True
        self._tell()

    def abort(self) -> None:
        self._broken = True
        self._tell()

    async def pump(self, source: Source) -> None:
        """Writes what is put here, until its end. Raises ClientGone, or CancelledError when the client has left."""
        self._source = source
        try:
            await self._until_over(source)
        except asyncio.CancelledError:
            if not leaving.cut():
                source.leave()
                raise
            source.cut()
            await self._until_over(source)
        except BaseException:  # the client has left, or the server below has failed: nobody reads on
            source.leave()
            raise
        finally:
            self._source = None

    async def _until_over(self, source: Source) -> None:
        while True:
            await self._write_all(source)
            if self._over:
                return
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None

    async def _write_all(self, source: Source) -> None:
        if self._broken:
            raise AnswerBroken
        if self._whole is not None:
            self._over = True
            await self._writer.reply(*self._whole)
            return
        if self._head is not None:
            await self._writer.start(*self._head)
            self._head = None
        while self._parts:
            count = len(self._parts)
            data = b"".join(self._parts)
            await self._writer.write(data)
            # Only now: a write that is cut off by the server's stop is not to leave a gap behind.
            for _ in range(count):
                self._parts.popleft()
            self._waiting_bytes -= len(data)
            if not self._parts:
                source.resume()
        if self._finished:
            self._over = True
            await self._writer.finish()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
