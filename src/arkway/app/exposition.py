"""What ``/metrics`` answers: what this process has counted, or, where the server is several, what each of them has.

Whichever process is asked asks the others, over sockets that only they know the names of. Each one's series have the
label ``process``, and are not summed here: a process that starts again counts from nothing, which a scraper takes for
what it is in a series, and for calls that never were in a sum.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence

import msgspec

from arkway.app.workers import LONE, Seat
from arkway.telemetry.metrics import CONTENT_TYPE, Family, Metrics, of_processes

ASKED_S = 1.0
_CREDENTIALS = struct.Struct("3i")
_DECODER = msgspec.msgpack.Decoder(list[Family])


class Exposition:
    """Made for one process; `start` and `aclose` it in the loop that asks for `page`."""

    def __init__(self, metrics: Metrics, seat: Seat = LONE) -> None:
        self._metrics, self._seat = metrics, seat
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """From now on the other processes get an answer."""
        if self._seat.meeting:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(self._address(self._seat.number))
            self._server = await asyncio.start_unix_server(self._tell, sock=listener)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def page(self) -> tuple[int, str, bytes]:
        """Status, content type and text. A process that does not answer in time is left out, and told of."""
        if not self._seat.meeting:
            return 200, CONTENT_TYPE, self._metrics.render()
        numbers = range(1, self._seat.count + 1)
        found = dict(zip(numbers, await asyncio.gather(*map(self._of, numbers)), strict=True))
        return 200, CONTENT_TYPE, await asyncio.to_thread(of_processes, found)

    async def _of(self, number: int) -> Sequence[Family] | None:
        if number == self._seat.number:
            return self._metrics.families()
        try:
            async with asyncio.timeout(ASKED_S):
                return _DECODER.decode(await self._asked(number))
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None

    async def _asked(self, number: int) -> bytes:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self._address(number))
            _check_own(connection)
        except OSError:
            connection.close()
            raise
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.msgpack.encode(self._metrics.families()))
        writer.close()

    def _address(self, number: int) -> str:
        """In Linux's abstract namespace: no file, gone with its process."""
        return f"\0arkway-{self._seat.meeting}-{number}"


def _check_own(connection: socket.socket) -> None:
    """Raises PermissionError when it is another user's process that answers to the name."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(raw)[1] != os.geteuid():
        raise PermissionError
