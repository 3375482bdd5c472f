"""One connection to an upstream: requests out, answers in, one after the other."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from arkway.backends.upstream.exchange import Carried
from arkway.backends.upstream.plain import CHUNKED, START, Head, plain_head
from arkway.core.errors import ArkwayError, BackendFailed, BackendTimeout, BackendUnavailable

HEAD_BYTES_MAX = 65_536
"""Of an answer's head (with the 1xx answers before it and the trailers after it), and of what brings no body."""

HEADERS_MAX = 256

STALE_S = 5.0
"""A pooled connection that is lost this soon after a request was stale; one that is lost later broke while serving."""

_EMPTY_STATUSES = (204, 304)


class Home(Protocol):
    """Where a connection comes from and goes back to."""

    first_byte_s: float
    idle_s: float
    idle_connection_s: float

    def now(self) -> float: ...

    def send(self, transport: asyncio.Transport, request: tuple[bytes, ...]) -> None:
        """Write it, soon."""

    def made(self, connection: Connection) -> None:
        """It is open."""

    def put(self, connection: Connection) -> None:
        """It is free."""

    def gone(self, connection: Connection) -> None:
        """It is closed."""

    def repeat(self, exchange: Carried) -> None:
        """Send this again, on a new connection."""


class _Unreadable(Exception):
    """Ends the parser's work; the reason is the connection's ``_fault``."""


class Connection(asyncio.Protocol):
    """The parser calls `on_header`, `on_headers_complete`, `on_body` and so on while it is fed, and these only take
    notes: the answer is told after each read, so that it may abort, pause or send again from its callbacks.

    The parser is not asked about an ordinary answer that one read has brought whole, and of an ordinary head it is told
    nothing but where the answer ends."""

    __slots__ = (
        "_barren",
        "_due",
        "_exchange",
        "_extra",
        "_fault",
        "_feed",
        "_head_bytes",
        "_headers",
        "_headers_count",
        "_heard",
        "_home",
        "_keep",
        "_parser",
        "_parsing",
        "_parts",
        "_paused",
        "_status",
        "_told",
        "_transport",
        "_until_eof",
        "_used",
        "_whole",
        "closed",
        "on_body",
    )

    _transport: asyncio.Transport

    def __init__(self, home: Home) -> None:
        self._home = home
        self._exchange: Carried | None = None
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._used = self._paused = self._parsing = self._told = self._whole = self.closed = False
        self._heard = True
        self._due = 0.0

    # -- what the pool and the exchange call -----------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Not closed, nor about to be."""
        return not (self.closed or self._transport.is_closing())

    def carry(self, exchange: Carried) -> bool:
        """Send a request and wait for its answer. False, and nothing is sent, where `is_usable` is."""
        transport = self._transport
        if self.closed or transport.is_closing():
            return False
        self._exchange = exchange
        self._heard = True
        exchange.place = self
        self._home.send(transport, exchange.request)
        if not self._used:
            exchange.request = ()
        if exchange.paused:
            self.pause()
        return True

    def pause(self) -> None:
        if not self._paused and self.is_usable():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self.is_usable():
            self._paused = False
            self._transport.resume_reading()

    def abandon(self, exchange: Carried) -> None:
        if self._exchange is exchange:
            self._release() if self._whole else self.close()

    def close(self) -> None:
        """Hang up now; who waits for an answer is not told."""
        self._exchange = None
        self._parts.clear()
        if not self.closed:
            self.closed = True
            self._transport.abort()

    def end(self, error: ArkwayError) -> None:
        """Hang up now; who waits for an answer is told why."""
        exchange = self._exchange
        self.close()
        if exchange is not None:
            exchange.fail(error)

    def sweep(self, now: float) -> None:
        """End what is over its deadline: an answer's head, its next piece, or the rest in the pool."""
        exchange = self._exchange
        if exchange is None:
            limit_s = self._home.idle_connection_s
        else:
            limit_s = self._home.idle_s if self._told else self._home.first_byte_s
            if exchange.paused:
                self._heard = True
        if self._heard:
            self._heard = False
            self._due = now + limit_s
        elif now >= self._due:
            part = "go on" if self._told else "begin"
            self.end(BackendTimeout(f"the model's server did not {part} to answer within {limit_s:g} seconds"))

    # -- what the event loop calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._home.made(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
            return
        exchange.received = True
        read_bytes = len(data)
        if not self._parsing:
            head = plain_head(data)
            if head is not None and exchange.at_once and head[0] + head[1] == read_bytes:
                exchange.place = None
                self._let_go()
                exchange.on_whole(head[2], data[head[0] :])
                return
            data = self._begin(head, data)
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stumble(error)
        if not self._told and not self._tell_head(exchange, read_bytes):
            return
        self._heard = True
        parts = self._parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._barren = 0
            exchange.on_body(body)
            if exchange.place is not self:
                return
        elif not self._whole:
            self._count_barren(read_bytes)
        if self._whole:
            self._finish(exchange)
        elif self._fault:
            self.end(_unreadable(self._fault))

    def eof_received(self) -> None:
        exchange = self._exchange
        if exchange is not None and self._until_eof and self._told:
            self._finish(exchange)
        else:
            self._cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._cut()
        self._home.gone(self)
        del self._parser, self._feed, self.on_body

    # -- what the parser calls -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._whole:
            self._refuse("another answer came behind it")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_count += 1
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX or self._headers_count > HEADERS_MAX:
            self._refuse(f"its head is over {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} headers")
        if self._status:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip()
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        headers = self._headers
        if status < 200:
            if status < 100 or status == 101:
                self._refuse("its status is not one of an answer")
            headers.clear()
            return
        if not parser.get_http_version().startswith("1."):
            self._refuse("it is not HTTP/1.1")
        transfer = headers.get("transfer-encoding")
        if transfer is not None and transfer.lower() != "chunked":
            self._refuse("its Transfer-Encoding is not `chunked`")
        if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            self._refuse("it is compressed, which was not asked for")
        self._keep = parser.should_keep_alive()
        self._until_eof = transfer is None and "content-length" not in headers and status not in _EMPTY_STATUSES
        self._status = status

    def on_message_complete(self) -> None:
        if self._status:
            self._whole = True

    # -- the rest --------------------------------------------------------------------------------------------------

    def _begin(self, head: Head | None, data: bytes) -> bytes:
        """The parser is at a new answer: what it is to be fed. Of a head that has been read already it gets a short one
        of the same meaning."""
        self._parsing = True
        self._headers: dict[str, str] = {}
        self._status = self._head_bytes = self._headers_count = self._barren = 0
        self._fault = ""
        self._extra = self._keep = self._until_eof = False
        if head is None:
            return data
        start, length, headers = head
        framing = b"transfer-encoding: chunked" if length == CHUNKED else b"content-length: %d" % length
        self._feed(b"%b%b\r\n\r\n" % (START, framing))
        self._headers = headers
        return data[start:]

    def _refuse(self, why: str) -> None:
        self._fault = why
        raise _Unreadable

    def _stumble(self, error: Exception) -> None:
        """The parser takes no more. What comes after a whole answer spoils the connection, not the answer."""
        self._extra = True
        if not self._fault:
            self._fault = f"it is not HTTP ({error})"

    def _tell_head(self, exchange: Carried, read_bytes: int) -> bool:
        """Whether the head is complete and told, and the exchange goes on."""
        if self._status:
            self._told = True
            exchange.request = ()
            exchange.on_head(self._status, self._headers)
            return exchange.place is self
        self._count_barren(read_bytes)
        if self._fault:
            self.end(_unreadable(self._fault))
        return False

    def _count_barren(self, read_bytes: int) -> None:
        """Bytes that are neither a head nor a body: of an endless header, chunk extension or trailer."""
        self._barren += read_bytes
        if self._barren > HEAD_BYTES_MAX and not self._fault:
            self._fault = f"its head or a chunk's is over {HEAD_BYTES_MAX} bytes"

    def _finish(self, exchange: Carried) -> None:
        """The answer is whole: the connection is free for others before the caller hears of it."""
        exchange.place = None
        self._release()
        exchange.on_end()

    def _release(self) -> None:
        if self._keep and self._whole and not self._extra:
            self._parsing = self._told = self._whole = False
            self._parts.clear()
            self._let_go()
        else:
            self.close()

    def _let_go(self) -> None:
        """Free for the next one, unless it is about to close, or the request is still being sent."""
        transport = self._transport
        if self.closed or transport.is_closing() or transport.get_write_buffer_size():
            self.close()
            return
        self._exchange = None
        self._used = self._heard = True
        if self._paused:
            self.resume()
        self._home.put(self)

    def _cut(self) -> None:
        """The other side has hung up."""
        exchange = self._exchange
        self.close()
        if exchange is None:
            return
        if exchange.received:
            exchange.fail(BackendFailed("the model's server broke off its answer"))
        elif self._used and not exchange.repeated and self._is_fresh():
            self._home.repeat(exchange)
        else:
            exchange.fail(BackendUnavailable("the model's server closed the connection without an answer"))

    def _is_fresh(self) -> bool:
        """Whether the request was sent a short time ago."""
        return self._heard or self._home.now() < self._due - self._home.first_byte_s + STALE_S


def _unreadable(why: str) -> BackendFailed:
    return BackendFailed(f"the model's server sent an answer that cannot be read: {why}")
