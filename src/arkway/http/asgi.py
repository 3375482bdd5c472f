"""The transport seam as an ASGI application: a thin adapter, so that the same handler runs under any ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from io import BytesIO
from time import time_ns
from typing import Any
from urllib.parse import unquote

import msgspec

from arkway.core.errors import ArkwayError, HeadTooLarge, RequestTimeout, TooLarge
from arkway.core.ids import REQUEST_ID_ENTROPY_BYTES, request_id
from arkway.core.raw import ClientGone, ErrorReply, RawRequest, Tap
from arkway.flow import leaving
from arkway.flow.patience import Patience
from arkway.http.serve import Server

LENGTH_DIGITS = 12

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Limits(msgspec.Struct, frozen=True):
    """What one request may take: header fields and their bytes, the target's bytes, and patience in seconds.

    ``body_s``: until the whole body is here. ``write_stall_s``: how long one write may wait for a client that does not
    read. ``linger_s``: how long the rest of a refused body is thrown away before the connection closes.
    """

    header_count: int = 100
    header_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    body_s: float = 120.0
    write_stall_s: float = 30.0
    linger_s: float = 3.0


FAILED = "arkway.failed"
"""Key of an ``http.disconnect`` message: why the body broke off whose sender is still there and can be answered."""


class AsgiApp:
    """``app(scope, receive, send)``. ``startup`` and ``shutdown`` run with the server's lifespan.

    ``entropy(count)`` gives random octets for request ids. ``server`` may be replaced at any time: a request ends on
    the one that it began on.
    """

    def __init__(
        self,
        server: Server,
        startup: Callable[[], Awaitable[None]],
        shutdown: Callable[[], Awaitable[None]],
        entropy: Callable[[int], bytes],
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self.server = server
        self._startup = startup
        self._shutdown = shutdown
        self._entropy = entropy
        self.limits = limits

    def refusal(
        self,
        method: bytes,
        target: bytes,
        fields: list[tuple[bytes, bytes]],
        peer: str,
        error: ArkwayError,
        status: int,
    ) -> ErrorReply:
        """The answer, all of it, to what the edge found wanting before it became a request; counted like any other.

        ``method``, ``target`` and ``fields`` as far as they are known: the dialect is the target's. ``status`` is what
        is sent.
        """
        raw_path, _, query = target.partition(b"?")
        scope = {
            "method": method.decode("latin-1"),
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "headers": fields,
            "client": (peer, 0),
        }
        kept = _Kept()
        refusing = self.server.refuse(self._raw(scope, _nothing), kept, error, status)
        try:
            refusing.send(None)  # writes one answer and waits for nothing
        except StopIteration:
            return kept.answer
        refusing.close()
        raise RuntimeError("a refusal waited for something")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send, self.limits)
        raw = self._raw(scope, exchange.body)
        exchange.expect(raw.headers)
        try:
            await self._answer(scope, raw, exchange)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            # Our own watcher cancels this task when the client leaves: that ends the request and nothing else.
            if not exchange.gone:
                raise
        finally:
            exchange.unwatch()

    async def _answer(self, scope: Message, raw: RawRequest, exchange: Exchange) -> None:
        server = self.server
        try:
            if problem := _oversized(scope, self.limits):
                await server.refuse(raw, exchange, problem)
            else:
                await server.handle(raw, exchange)
        except asyncio.CancelledError:
            # The server stops. A begun answer is left incomplete: the connection breaks, and nobody takes it for whole.
            if exchange.gone or exchange.started:
                raise
            await server.refuse(raw, exchange, leaving.stopping())

    def _raw(self, scope: Message, receive: Callable[[int, Tap | None], Awaitable[bytes]]) -> RawRequest:
        now_ns = time_ns()
        now_ms = now_ns // 1_000_000
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return RawRequest(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            request_id=request_id(now_ms, self._entropy(REQUEST_ID_ENTROPY_BYTES)),
            now_ms=now_ms,
            receive=receive,
            peer=scope["client"][0] if scope.get("client") else "",
            raw_path=_raw_path(scope),
            fields=tuple(scope["headers"]),
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._startup()
        except Exception as error:
            message = error.message if isinstance(error, ArkwayError) else repr(error)
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            # A server that is forced to exit says no word and cancels: what was started is ended all the same.
            await self._shutdown()
        await send({"type": "lifespan.shutdown.complete"})


class Exchange:
    """One request's body and its way back; implements `arkway.core.raw.Writer`.

    Once the body is read, a watcher waits for the client to leave and then cancels the task that serves it: without
    it, every upstream stream of a client that left would run on.
    """

    __slots__ = (
        "_announced",
        "_asked_to_go_on",
        "_limits",
        "_patience",
        "_receive",
        "_send",
        "_unread",
        "_watcher",
        "gone",
        "started",
    )

    def __init__(self, receive: Receive, send: Send, limits: Limits) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._watcher: asyncio.Task[None] | None = None
        self._patience = Patience()
        self._unread = False
        self._asked_to_go_on = False
        self._announced = 0
        self.gone = False
        self.started = False

    def expect(self, headers: Mapping[str, str]) -> None:
        """Notes whether a body is announced: until it is read, an answer ends the connection."""
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._asked_to_go_on = "expect" in headers
        length = headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() and len(length) < LENGTH_DIGITS else 0

    async def body(self, limit_bytes: int, tap: Tap | None = None) -> bytes:
        """The whole body, each piece shown to ``tap`` as it arrives. Raises TooLarge, RequestTimeout, ClientGone."""
        # Filled in place and handed over without a copy: joining 16 MiB at the end would hold everybody up. Room that
        # was announced and is not used costs no memory.
        whole = BytesIO(bytes(min(self._announced, limit_bytes)))
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise message.get(FAILED) or ClientGone
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > limit_bytes:
                        raise TooLarge(limit_bytes)
                    if tap is not None:
                        tap(piece)
                    whole.write(piece)
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise RequestTimeout(f"the request body did not arrive within {self._limits.body_s:g} seconds") from None
        self._unread = False
        self._watch()
        whole.truncate(size)
        return whole.getvalue()

    async def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        length = ("content-length", str(len(body)))
        await self.start(status, [*headers, length])
        if self._unread and not self._asked_to_go_on:
            await self.write(body)
            await self._linger()
            await self.finish()
        else:
            await self._put({"type": "http.response.body", "body": body})

    async def _linger(self) -> None:
        """Throws away what the client is still sending.

        A connection that closes while data arrives is reset, and the client sees that instead of the answer. Not after
        ``Expect: 100-continue``, where the client waits for the answer first.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while (message := await self._receive())["type"] == "http.request" and message.get("more_body"):
                    pass

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.started = True
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if self._unread:
            # The rest of the body would be read for nothing, for as long as the client cares to send.
            pairs.append((b"connection", b"close"))
        await self._put({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._put({"type": "http.response.body", "body": b""})

    def unwatch(self) -> None:
        self._patience.close()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()

    async def _put(self, message: Message) -> None:
        if self.gone:
            raise ClientGone
        try:
            await self._patience.wait(self._send(message), self._limits.write_stall_s)
        except TimeoutError:
            self.gone = True
            _abort(self._send)
            raise ClientGone from None
        except OSError:
            raise ClientGone from None

    def _watch(self) -> None:
        served = asyncio.current_task()
        if served is not None:
            self._watcher = asyncio.get_running_loop().create_task(self._wait_for_leave(served))

    async def _wait_for_leave(self, served: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.gone:
            self.gone = True
            leaving.leave(served)


class _Kept:
    """A writer that keeps the one answer it is given; implements `arkway.core.raw.Writer` for that much."""

    answer: ErrorReply

    async def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answer = ErrorReply(status, body, tuple(headers))

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        raise RuntimeError("a refusal is one whole answer")

    async def write(self, data: bytes) -> None:
        raise RuntimeError("a refusal is one whole answer")

    async def finish(self) -> None:
        raise RuntimeError("a refusal is one whole answer")


async def _nothing(*_: object) -> bytes:
    """The body of what never became a request."""
    return b""


def _oversized(scope: Message, limits: Limits) -> HeadTooLarge | None:
    headers = scope["headers"]
    if len(headers) > limits.header_count:
        return HeadTooLarge(f"at most {limits.header_count} header fields are taken, got {len(headers)}")
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes:
        return HeadTooLarge(f"the headers are larger than {limits.header_bytes} bytes")
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.target_bytes:
        return HeadTooLarge(f"the request line is larger than {limits.target_bytes} bytes")
    return None


def _raw_path(scope: Message) -> str:
    """The path as it was sent. A server that does not say gets its decoded one taken for it."""
    raw_path: bytes | None = scope.get("raw_path")
    return scope["path"] if raw_path is None else raw_path.partition(b"?")[0].decode("latin-1")


def _abort(send: Send) -> None:
    """Drops the connection of a client that does not read: closing would wait for ever for its buffer to drain.

    ASGI has no word for this, so uvicorn's own transport is asked where there is one.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
