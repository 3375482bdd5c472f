"""Upstreams that go wrong: a TCP proxy in front of a scripted one, with every fault that an upstream can have.

::

    with scripted_upstream() as upstream, fault_proxy(upstream) as proxy:
        proxy.fault = Fault.CUT_IN_FRAME
        ...  # whatever calls proxy.url now meets that fault

Both run in threads of their own and never end of themselves: what they were told to hold back they hold back until
their client has gone or the block ends.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from arkway.wire import json

RETRY_AFTER_S = 7
TRICKLE_S = 0.05


class Fault(enum.Enum):
    """What a proxy does with an answer."""

    NONE = "none"
    REFUSE = "refuses connections"
    SILENT = "takes the request and says nothing"
    RESET = "resets the connection before the head"
    GARBAGE = "answers something that is not HTTP"
    SLOW_HEAD = "begins a head and goes no further"
    ERROR = "answers 500"
    UNAVAILABLE = "answers 503 with Retry-After"
    LIMITED = "answers 429 with Retry-After"
    CUT_HEAD = "hangs up within the head"
    ENDLESS_HEAD = "sends headers without end"
    TRICKLE = "sends a byte at a time"
    CUT_AFTER_FRAME = "hangs up after the first frame"
    CUT_IN_FRAME = "hangs up within a frame"
    HALF_CLOSE = "ends its half of the connection after the first frame, and keeps the other"
    STALL = "sends the first frame and no more"


FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
IN_THE_ANSWER = (Fault.CUT_AFTER_FRAME, Fault.CUT_IN_FRAME, Fault.HALF_CLOSE, Fault.STALL)
"""Those that let a stream begin."""

L = TypeVar("L", bound="Listener")


class Listener:
    """A TCP server on a free loopback port, in a thread."""

    def __init__(self) -> None:
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """New connections are refused, until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def aclose(self) -> None:
        await self.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Does this in the listener's thread, and waits for it."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


class ScriptedUpstream(Listener):
    """Answers every chat with ``pieces``, streamed if that is asked for; ``requests`` are the bodies that came.

    Ends the connection where the request asks for it, as HTTP has it.
    """

    def __init__(self, pieces: tuple[str, ...]) -> None:
        super().__init__()
        self.pieces = pieces
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await _request(reader)
            request = json.loads(body)
            self.requests.append(request)
            self.keys.append(_field(head, b"authorization").decode())
            for piece in self._streamed() if request.get("stream") else self._whole():
                writer.write(piece)
                await writer.drain()
            if _field(head, b"connection") == b"close":
                return

    def _whole(self) -> list[bytes]:
        message = {"role": "assistant", "content": "".join(self.pieces)}
        body = json.dumps({**_COMMON, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **_USAGE})
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return [head, body]

    def _streamed(self) -> list[bytes]:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        deltas = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in self.pieces]
        chunks = [{**_COMMON, "choices": [delta]} for delta in deltas]
        last = {**_COMMON, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {**_COMMON, "choices": [], **_USAGE}
        frames = [b"data: " + json.dumps(chunk) + b"\n\n" for chunk in (*chunks, last, usage)]
        return [head, *(b"%x\r\n%b\r\n" % (len(f), f) for f in (*frames, b"data: [DONE]\n\n")), b"0\r\n\r\n"]


class FaultProxy(Listener):
    """Hands requests on to ``upstream`` and its answers back, with whatever ``fault`` makes of them.

    The fault is looked up for each request; `break_` and `mend` also take and give back the port of a proxy that
    refuses. ``met`` counts requests, ``spoiling`` those whose fault still goes on.
    """

    def __init__(self, upstream: ScriptedUpstream) -> None:
        super().__init__()
        self._upstream = upstream
        self.fault = Fault.NONE
        self.met = self.spoiling = 0

    def break_(self, fault: Fault) -> None:
        self.fault = fault
        if fault is Fault.REFUSE:
            self.run(self.refuse())

    def mend(self) -> None:
        if self.fault is Fault.REFUSE:
            self.run(self.listen())
        self.fault = Fault.NONE

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await _request(reader)
            self.met += 1
            if self.fault is Fault.NONE:
                await self._pass_on(head + body, writer)
                continue
            self.spoiling += 1
            try:
                await self._spoil(self.fault, await self._answer(head, body), reader, writer)
            finally:
                self.spoiling -= 1
            return

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        async with self._connected() as (reader, upstream):
            upstream.write(request)
            writer.write(await _one_answer(reader))
            await writer.drain()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        """All of what the upstream says."""
        async with self._connected() as (reader, upstream):
            upstream.write(head[:-2] + b"connection: close\r\n\r\n" + body)
            return await reader.read()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _spoil(
        self, fault: Fault, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match fault:
            case Fault.REFUSE | Fault.RESET:
                _reset(writer)
            case Fault.SILENT:
                await _gone(reader)
            case Fault.TRICKLE:
                for place in range(len(answer)):
                    writer.write(answer[place : place + 1])
                    await writer.drain()
                    await asyncio.sleep(TRICKLE_S)
            case Fault.ENDLESS_HEAD:
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"x-more: %b\r\n" % (b"y" * 1000))
                    await writer.drain()
            case _:
                writer.write(_spoilt(fault, answer))
                await writer.drain()
                if fault is Fault.HALF_CLOSE:
                    writer.write_eof()
                if fault in (Fault.HALF_CLOSE, Fault.STALL, Fault.SLOW_HEAD):
                    await _gone(reader)


def _spoilt(fault: Fault, answer: bytes) -> bytes:
    """What is sent of, or in the place of, an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, mark, _ = body.partition(b"\n\n\r\n")
    if not mark:  # not a stream: half of the text
        first = body[: len(body) // 2]
    match fault:
        case Fault.GARBAGE:
            return b"\x16\x03\x01\x02\x00\x01\x00 this is not HTTP\r\n\r\n" + body
        case Fault.SLOW_HEAD:
            return b"HTTP/1.1 200 OK\r\ncontent-"
        case Fault.ERROR:
            return _error(500, "Internal Server Error")
        case Fault.UNAVAILABLE:
            return _error(503, "Service Unavailable", b"retry-after: %d\r\n" % RETRY_AFTER_S)
        case Fault.LIMITED:
            return _error(429, "Too Many Requests", b"retry-after: %d\r\n" % RETRY_AFTER_S)
        case Fault.CUT_HEAD:
            return head[: len(head) // 2]
        case Fault.CUT_IN_FRAME:
            return head + b"\r\n\r\n" + first + mark + body[len(first + mark) :][:40]
    return head + b"\r\n\r\n" + first + mark


def _error(status: int, reason: str, fields: bytes = b"") -> bytes:
    body = json.dumps({"error": {"message": f"{reason} at http://10.1.2.3:8000/v1", "type": "server_error"}})
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + fields + b"\r\n" + body


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request's head and body. Raises IncompleteReadError where the client has gone."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(_field(head, b"content-length") or 0))


async def _one_answer(reader: asyncio.StreamReader) -> bytes:
    """An answer's head and its body, of a length that is told, or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    if length := _field(head, b"content-length"):
        return head + await reader.readexactly(int(length))
    chunks = [head]
    while chunks[-1] != b"0\r\n\r\n":
        size = await reader.readuntil(b"\r\n")
        chunks.append(size + await reader.readexactly(int(size, 16) + 2))
    return b"".join(chunks)


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


async def _gone(reader: asyncio.StreamReader) -> None:
    """Until the client hangs up."""
    while await reader.read(65536):
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    """Hang up with RST: close() does so on a socket that lingers for no time."""
    handle = writer.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


_COMMON = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1719792000, "model": "m"}
_USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


@contextmanager
def scripted_upstream(*pieces: str) -> Generator[ScriptedUpstream]:
    with _running(ScriptedUpstream(pieces or ("春", "眠", "不觉晓"))) as upstream:
        yield upstream


@contextmanager
def fault_proxy(upstream: ScriptedUpstream) -> Generator[FaultProxy]:
    with _running(FaultProxy(upstream)) as proxy:
        yield proxy


@contextmanager
def _running(listener: L) -> Generator[L]:
    thread = threading.Thread(target=listener.loop.run_forever, name=type(listener).__name__)
    thread.start()
    try:
        listener.run(listener.listen())
        yield listener
    finally:
        listener.run(listener.aclose())
        listener.loop.call_soon_threadsafe(listener.loop.stop)
        thread.join(60)
        listener.loop.close()
