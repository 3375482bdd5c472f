"""A server that says on each connection what a script says, byte by byte, and an answer that keeps what it was told."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType

from arkway.backends.upstream.client import Client
from arkway.core.errors import ArkwayError
from arkway.core.upstream import Upstream
from tests.tools.waiting import PATIENCE_S, soon

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"


class Peer:
    """The server's side of connection number ``number`` (from 0)."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request's bytes, body and all; empty when the client has hung up."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            return head + await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def say(self, *pieces: bytes) -> None:
        """Each piece by a write of its own, the loop going on in between."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Hang up with RST: what the client has not read is lost to it."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> bool:
        """Wait until the client hangs up."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True


Script = Callable[[Peer], Awaitable[None]]


class RawUpstream:
    """Listens on a free loopback port for as long as the block lasts. A script that returns hangs up."""

    def __init__(self, script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        self.ended = 0
        self._script = script
        self._host = host
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> RawUpstream:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, _: TracebackType | None) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen, on the port of before if there was one."""
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Hang up everywhere and listen no more."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str = "/v1") -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        task = asyncio.ensure_future(self._play(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            peer.writer.close()
            if not await _is_flushed(peer.writer):
                peer.writer.transport.abort()


async def open_on_one_port(first: RawUpstream, second: RawUpstream) -> None:
    """Have both listen on the same port of their two addresses, whatever else takes ports meanwhile."""
    for _ in range(50):
        first.port = 0
        await first.open()
        second.port = first.port
        try:
            return await second.open()
        except OSError:
            await first.close()
    raise AssertionError("no port is free on both addresses")


async def _is_flushed(writer: asyncio.StreamWriter) -> bool:
    if writer.transport.get_write_buffer_size():
        return False
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return True


def saying(*pieces: bytes) -> Script:
    """Answers every request with these pieces, and keeps the connection."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.say(*pieces)

    return script


def saying_once(*pieces: bytes) -> Script:
    """Answers one request with these pieces, and hangs up."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)

    return script


async def silent(peer: Peer) -> None:
    """Takes what comes and says nothing."""
    await peer.gone()


class Told:
    """An answer that writes down what it is told; what breaks the order of an answer is a failure at once."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []
        self.error: ArkwayError | None = None
        self.has_ended = False
        self.order_broken = False
        self.act: Callable[[str], None] = lambda _: None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def is_over(self) -> bool:
        return self.has_ended or self.error is not None

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.order_broken |= self.is_over or self.status != 0
        self.status, self.headers = status, dict(headers)
        self.act("head")

    def on_body(self, data: bytes) -> None:
        self.order_broken |= self.is_over or self.status == 0 or not data
        self.pieces.append(data)
        self.act("body")

    def on_end(self) -> None:
        self.order_broken |= self.is_over or self.status == 0
        self.has_ended = True
        self.act("end")

    def on_failed(self, error: ArkwayError) -> None:
        self.order_broken |= self.is_over
        self.error = error
        self.act("failed")

    async def over(self) -> Told:
        """Wait for the last word."""
        await soon(lambda: self.is_over)
        assert not self.order_broken
        return self


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        return self.now_s

    async def rest(self) -> None:
        """Until the client has looked at it often enough to have acted on it."""
        seen = self.readings
        await soon(lambda: self.readings >= seen + 3)


def upstream_at(
    url: str,
    *,
    connections_max: int = 4096,
    ca_file: str = "",
    connect_s: float = PATIENCE_S,
    first_byte_s: float = PATIENCE_S,
    idle_s: float = PATIENCE_S,
) -> Upstream:
    """An upstream whose deadlines only what never happens meets."""
    return Upstream(
        name="scripted",
        base_url=url,
        connections_max=connections_max,
        ca_file=ca_file,
        connect_s=connect_s,
        first_byte_s=first_byte_s,
        idle_s=idle_s,
    )


def post(client: Client, body: bytes = b"{}", told: Told | None = None) -> Told:
    """Send a body; what is told of the answer."""
    told = told or Told()
    client.send(b"POST", b"/chat/completions", b"content-type: application/json\r\n", body, told)
    return told
