"""A lean load generator: many HTTP/1.1 connections as callbacks on one event loop, every answer parsed by httptools.

Every load counts what failed: answers other than 200 and connections that broke while they waited for one.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import httptools
import msgspec

CONNECT_BATCH = 100
SPIN_S = 0.002
STAMP_MARK = b'"content":"'
STAMP_DIGITS = 20
TEXT = re.compile(rb'"content": ?"[^"]')


class Target(msgspec.Struct, frozen=True):
    """Where a load goes: a TCP address, or a Unix socket if there is one. ``key`` is sent as a bearer token."""

    host: str
    port: int
    key: str = "none"
    socket_path: str = ""

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """A whole request, ready to be written."""
        payload = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload


class Connection(asyncio.Protocol):
    """One connection of a load; it has at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self.busy = False
        self.sent_ns = 0
        self.spoke = False

    def send(self, request: bytes, sent_ns: int = 0) -> None:
        self.busy, self.spoke = True, False
        self.sent_ns = sent_ns or time.monotonic_ns()
        self._transport.write(request)

    def close(self) -> None:
        self.busy = False
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._load.failures["connection lost"] += 1
            self._load.lost(self)

    # Called by the parser

    def on_body(self, piece: bytes) -> None:
        self._load.received(self, piece)

    def on_message_complete(self) -> None:
        self.busy = False
        status = self._parser.get_status_code()
        if status != 200:
            self._load.failures[f"status {status}"] += 1
        self._load.answered(self)


class Load:
    """Connections to one target and what becomes of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.connections: list[Connection] = []
        self.failures: Counter[str] = Counter()

    async def connect(self, count: int) -> None:
        """Opens this many more connections."""
        for first in range(0, count, CONNECT_BATCH):
            batch = range(min(CONNECT_BATCH, count - first))
            self.connections += await asyncio.gather(*(self._connected() for _ in batch))

    def close(self) -> None:
        """Breaks every connection. Raises RuntimeError when anything had failed before."""
        for connection in self.connections:
            connection.close()
        if self.failures:
            raise RuntimeError(f"the load met failures: {dict(self.failures)}")

    def received(self, connection: Connection, piece: bytes) -> None:
        """A piece of an answer's body, as the sender chunked it."""

    def answered(self, connection: Connection) -> None:
        """An answer is complete."""

    def lost(self, connection: Connection) -> None:
        """A connection broke before its answer was complete."""

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self.target.socket_path:
            _, connection = await loop.create_unix_connection(lambda: Connection(self), self.target.socket_path)
        else:
            _, connection = await loop.create_connection(lambda: Connection(self), self.target.host, self.target.port)
        return connection


class ClosedLoop(Load):
    """Every connection sends its next request as soon as it has its answer. ``answers`` counts them."""

    def __init__(self, target: Target, request: bytes) -> None:
        super().__init__(target)
        self._request = request
        self._running = False
        self.answers = 0

    def start(self) -> None:
        self._running = True
        for connection in self.connections:
            connection.send(self._request)

    def stop(self) -> None:
        self._running = False
        self.close()

    def answered(self, connection: Connection) -> None:
        self.answers += 1
        if self._running:
            connection.send(self._request)


class OpenLoop(Load):
    """Requests arrive at random moments (Poisson), whether the server keeps up or not.

    ``latencies_ns`` run from the moment a request was due, so a queue before the connections counts too.
    """

    def __init__(self, target: Target, request: bytes) -> None:
        super().__init__(target)
        self._request = request
        self._free: list[Connection] = []
        self._waiting: deque[int] = deque()
        self.latencies_ns: list[int] = []

    async def run(self, rate_per_s: float, seconds: float, *, spin: bool) -> None:
        """``spin``: wait for the last 2 ms before an arrival in a busy loop, because timers are too coarse."""
        self._free = list(self.connections)
        gap_s = secrets.SystemRandom().expovariate
        due_ns = time.monotonic_ns()
        end_ns = due_ns + round(seconds * 1e9)
        while (due_ns := due_ns + round(gap_s(rate_per_s) * 1e9)) < end_ns:
            await _until(due_ns, spin=spin)
            self._waiting.append(due_ns)
            self._send()
        while self._waiting or any(connection.busy for connection in self.connections):
            await asyncio.sleep(0.01)

    def answered(self, connection: Connection) -> None:
        self.latencies_ns.append(time.monotonic_ns() - connection.sent_ns)
        self._free.append(connection)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(self._request, self._waiting.popleft())


class Streams(Load):
    """Streams that are asked for again when they end. While ``counting``, frames with a stamp are counted.

    ``transits_ns`` is how long each took from the moment it was due.
    """

    def __init__(self, target: Target, request: bytes) -> None:
        super().__init__(target)
        self._request = request
        self._running = False
        self.counting = False
        self.transits_ns: list[int] = []

    async def start(self, spread_s: float) -> None:
        """Starts one stream on each connection, evenly over the time given."""
        self._running = True
        for connection in self.connections:
            connection.send(self._request)
            await asyncio.sleep(spread_s / len(self.connections))

    def stop(self) -> None:
        self._running = False
        self.close()

    def received(self, connection: Connection, piece: bytes) -> None:
        if not self.counting:
            return
        now_ns = time.monotonic_ns()
        place = piece.find(STAMP_MARK)
        while place >= 0:
            place += len(STAMP_MARK)
            stamp = piece[place : place + STAMP_DIGITS]
            if len(stamp) == STAMP_DIGITS and stamp.isdigit():
                self.transits_ns.append(now_ns - int(stamp))
            place = piece.find(STAMP_MARK, place)

    def answered(self, connection: Connection) -> None:
        if self._running:
            connection.send(self._request)


class Held(Load):
    """Requests that are sent once. ``spoken`` counts connections that got something, ``ended`` those that got all."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.spoken = self.ended = 0

    async def send(self, request: bytes, seconds: float = 60.0) -> None:
        """Sends on every connection, a few at a time, and waits for the first piece. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            for count, connection in enumerate(self.connections, 1):
                connection.send(request)
                while count - self.spoken > CONNECT_BATCH:
                    await asyncio.sleep(0.001)
            while self.spoken < len(self.connections):
                await asyncio.sleep(0.01)

    def received(self, connection: Connection, piece: bytes) -> None:
        if not connection.spoke:
            connection.spoke = True
            self.spoken += 1

    def answered(self, connection: Connection) -> None:
        self.ended += 1


class Reply(Load):
    """One request on a connection of its own: the whole body, and when its text came (monotonic nanoseconds)."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.body = b""
        self.started_ns = self.first_text_ns = self.last_text_ns = self.ended_ns = 0
        self._done = asyncio.Event()

    async def ask(self, request: bytes) -> Reply:
        """Raises RuntimeError when it is not answered with 200."""
        self.started_ns = time.monotonic_ns()
        await self.connect(1)
        self.connections[0].send(request)
        try:
            await self._done.wait()
        finally:
            if self.failures:
                self.failures[self.body[:300].decode(errors="replace")] += 1
            self.close()
        return self

    def received(self, connection: Connection, piece: bytes) -> None:
        self.body += piece
        if TEXT.search(piece):
            self.last_text_ns = time.monotonic_ns()
            self.first_text_ns = self.first_text_ns or self.last_text_ns

    def answered(self, connection: Connection) -> None:
        self.ended_ns = time.monotonic_ns()
        self._done.set()

    def lost(self, connection: Connection) -> None:
        self._done.set()


T = TypeVar("T")


async def over(seconds: float, read: Callable[[], T]) -> tuple[float, T, T]:
    """Seconds that really passed, and a reading before and after."""
    started_s = time.monotonic()
    before = read()
    await asyncio.sleep(seconds)
    after = read()
    return time.monotonic() - started_s, before, after


async def _until(due_ns: int, *, spin: bool) -> None:
    while (left_ns := due_ns - time.monotonic_ns()) > 0:
        await asyncio.sleep(max(0.0, left_ns / 1e9 - (SPIN_S if spin else 0.0)))
