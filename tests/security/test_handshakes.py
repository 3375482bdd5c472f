"""TLS connections that never end their handshake: they are counted, so many and no more, and others are served."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from arkway.core.errors import ArkwayError
from arkway.core.raw import ErrorReply
from arkway.http.edge import EdgeLimits, Fields
from arkway.http.edge_exchange import HotExchange
from arkway.http.handshakes import Handshakes
from arkway.http.protocol import EdgeProtocol, edge_protocol
from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context
from tests.tools.tls import trusting
from tests.tools.waiting import PATIENCE_S, soon

GET = b"GET /hot HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
FAR_S = 1000.0
"""No deadline here ends anything within a test."""
ROOM = 40
HALF = ROOM // 4
"""Of them those that may be shaking hands."""
HELLO = b"\x16\x03\x01\x02\x00\x01"
"""The beginning of a client's first word."""


class Ok:
    """A hot exchange that answers at once."""

    def __init__(self, protocol: EdgeProtocol) -> None:
        protocol.send(ANSWER)
        protocol.finished()

    def on_body(self, data: bytes) -> None: ...

    def on_complete(self) -> None: ...

    def on_refused(self, error: ArkwayError) -> None: ...

    def on_disconnect(self) -> None: ...

    def on_stop(self) -> None: ...

    def on_pause(self) -> None: ...

    def on_writable(self) -> None: ...


class Place:
    """A listener with its edge, and connections to it."""

    def __init__(self, tls: Files, context: ssl.SSLContext, handshake_s: float = FAR_S, **limits: Any) -> None:
        def hot(protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields) -> HotExchange:
            return Ok(protocol)

        def refuse(
            method: bytes, target: bytes, fields: Fields, peer: str, error: ArkwayError, status: int
        ) -> ErrorReply:
            return ErrorReply(0, error.message.encode(), ())

        known = {"connections": ROOM, "first_byte_s": FAR_S, "head_s": FAR_S, "keep_alive_s": FAR_S, "linger_s": 0.1}
        kind = edge_protocol(EdgeLimits(**{**known, **limits}), refuse, hot)
        config = uvicorn.Config("unused:app", http=kind, log_config=None)
        self.edge, self.state = kind.edge, ServerState()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = self.listener.getsockname()
        self.trusted = trusting(tls.ca)
        self.taking = Handshakes(
            self.listener, context, lambda: kind(config, self.state, {}), handshake_s=handshake_s, goodbye_s=1
        )
        self.mute: list[socket.socket] = []

    async def half_open(self, number: int, said: bytes = b"") -> None:
        """So many more clients that connect, perhaps begin to speak, and never end their handshake."""
        for _ in range(number):
            client = socket.socket()
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, self.address)
            if said:
                await asyncio.get_running_loop().sock_sendall(client, said)
            self.mute.append(client)

    def closed(self) -> list[bool]:
        """Of each of these whether the server has ended it."""
        return [_is_closed(client) for client in self.mute]

    async def call(self, *, close: bool = True) -> tuple[bytes, asyncio.StreamWriter]:
        """What a client hears who shakes hands and asks."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(*self.address, ssl=self.trusted, server_hostname="localhost")
            writer.write(GET)
            answer = await reader.readuntil(b"ok") if close else await reader.read(65536)
        if close:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return answer, writer


def _is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home: Path = tmp_path_factory.mktemp("tls")
    initialise(home, [], int(time.time()))
    return files(home)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as running:
        yield running


@asynccontextmanager
async def taking(tls: Files, **options: Any) -> AsyncGenerator[Place]:
    place = Place(tls, server_context(tls.server, tls.server_key), **options)
    place.taking.begin()
    try:
        yield place
    finally:
        place.taking.close()
        for client in place.mute:
            client.close()
        for connection in list(place.state.connections):
            connection.shutdown()
        await soon(lambda: not place.state.connections)
        await soon(lambda: not place.edge.open)
        assert not place.edge.surplus


def run(runner: asyncio.Runner, tls: Files, work: Callable[[Place], Awaitable[None]], **options: Any) -> None:
    async def within() -> None:
        async with taking(tls, **options) as place:
            await work(place)

    runner.run(within())


@pytest.mark.parametrize("said", [b"", HELLO], ids=["silent", "half a hello"])
def test_so_many_handshakes_and_no_more_hold_a_place(runner: asyncio.Runner, tls: Files, said: bytes) -> None:
    async def work(place: Place) -> None:
        await place.half_open(3 * ROOM, said)
        await soon(lambda: sum(place.closed()) == 3 * ROOM - HALF)
        assert place.edge.open == HALF
        assert (await place.call())[0] == ANSWER
        # Each took the place of the one that had been at it longest.
        assert place.closed()[-HALF + 1 :] == [False] * (HALF - 1)

    run(runner, tls, work)


def test_a_half_open_one_is_counted_with_all_others_until_it_leaves(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        await place.half_open(3)
        await soon(lambda: place.edge.open == 3)
        assert (await place.call())[0] == ANSWER
        await soon(lambda: place.edge.open == 3)
        for client in place.mute[:2]:
            client.close()
        await soon(lambda: place.edge.open == 1)

    run(runner, tls, work)


def test_one_too_many_shakes_hands_and_hears_503(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        held = [(await place.call(close=False))[1] for _ in range(2)]
        answer, writer = await place.call(close=False)
        assert answer.startswith(b"HTTP/1.1 503 ")
        for each in (*held, writer):
            each.close()
        await soon(lambda: place.edge.open == 0)
        assert (await place.call())[0] == ANSWER

    run(runner, tls, work, connections=2)


def test_an_address_has_its_own_share_while_it_shakes_hands(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        await place.half_open(5)
        await soon(lambda: place.edge.open + place.edge.surplus == 5)
        assert place.edge.open == 2

    run(runner, tls, work, per_address=2)


def test_a_handshake_has_its_deadline(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        await place.half_open(2)
        await soon(lambda: all(place.closed()) and place.edge.open == 0)

    run(runner, tls, work, handshake_s=0.2)


def test_what_is_no_handshake_gives_its_place_back(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        await place.half_open(HALF, GET)
        await soon(lambda: all(place.closed()) and place.edge.open == 0)
        assert (await place.call())[0] == ANSWER

    run(runner, tls, work)


def test_a_stop_waits_for_no_handshake(runner: asyncio.Runner, tls: Files) -> None:
    async def work(place: Place) -> None:
        await place.half_open(3)
        await soon(lambda: place.edge.open == 3)
        place.taking.close()
        await soon(lambda: all(place.closed()) and place.edge.open == 0)
        with pytest.raises(ConnectionRefusedError):
            await place.half_open(1)

    run(runner, tls, work)


def _every_descriptor() -> Iterator[int]:
    """All that are left."""
    with suppress(OSError):
        while True:
            yield os.open(os.devnull, os.O_RDONLY)


def test_without_any_descriptor_a_client_is_not_left_hanging(runner: asyncio.Runner, tls: Files) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def work(place: Place) -> None:
        clients = [socket.socket() for _ in range(5)]
        hoard: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(each.fileno() for each in clients) + 20, limits[1]))
            hoard = list(_every_descriptor())
            assert hoard
            for client in clients:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, place.address)
            place.mute += clients
            await soon(lambda: all(place.closed()))
        finally:
            for descriptor in hoard:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (await place.call())[0] == ANSWER

    run(runner, tls, work)
