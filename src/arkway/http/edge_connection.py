"""A connection as its transport sees it: what is written, when reading and writing pause, and its place at the edge."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, ClassVar

import httptools
import uvicorn
from uvicorn.server import ServerState

from arkway.http.edge import Edge, Fields, Refusal
from arkway.http.edge_exchange import HotExchange, Queued
from arkway.http.edge_repeats import Again, Repeated

NEVER = float("inf")
# A connection's phase: nothing has come yet; between requests; in a head; in a body; one too many, to be told so; not
# listened to any more.
NEW, IDLE, HEAD, BODY, SURPLUS, DEAF = range(6)


class Connection(asyncio.Protocol):
    """The state of one connection, and the half of it that is not HTTP.

    ``send`` writes, or keeps what cannot be written yet; see ``paused``. It is the transport's own method.
    """

    __slots__ = (
        "_address",
        "_admitted",
        "_before",
        "_body_before",
        "_body_bytes",
        "_carried",
        "_chunks",
        "_content_at",
        "_data",
        "_deadline_s",
        "_dropped",
        "_flags",
        "_fresh",
        "_head_bytes",
        "_headers",
        "_held_bytes",
        "_judged_bytes",
        "_last",
        "_left",
        "_line",
        "_misses",
        "_parser",
        "_phase",
        "_queue",
        "_reading",
        "_refusal",
        "_requests",
        "_sink",
        "_start",
        "_url",
        "again",
        "app_state",
        "client",
        "closing",
        "config",
        "due_s",
        "exchange",
        "expects",
        "loop",
        "paused",
        "server_state",
        "transport",
        "write_due_s",
    )

    edge: ClassVar[Edge]
    header_count: ClassVar[int]

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.client: tuple[str, int] | None = None
        self.exchange: HotExchange | None = None
        self.paused = self.closing = self.expects = False
        self.due_s = self.write_due_s = self._deadline_s = NEVER
        self._address = ""
        self._parser: Any = httptools.HttpRequestParser(self)
        self._phase = NEW
        self._queue: deque[Queued] | None = None
        self._sink: HotExchange | Queued | None = None
        self._refusal: Refusal | None = None
        self.again: Again | None = None
        self._before: Repeated | None = None
        self._left = self._misses = self._held_bytes = 0
        self._reading = True
        self._admitted = self._last = self._dropped = False
        self._headers: Fields = []
        self._url = b""
        self._data, self._line, self._fresh = b"", bytearray(), False
        self._start = self._content_at = self._body_before = 0
        self._flags = self._requests = self._head_bytes = 0
        self._body_bytes = self._judged_bytes = self._carried = self._chunks = 0

    @property
    def head_lines(self) -> bytes:
        """The header lines of every answer, such as the date."""
        edge, headers = self.edge, self.server_state.default_headers
        if edge.lines_of is not headers:
            edge.lines_of, edge.lines = headers, b"".join(b"%b: %b\r\n" % field for field in headers)
        return edge.lines

    def send(self, data: bytes) -> None:
        """To the client, before this turn of the loop is over."""
        self.edge.outbox.add(self.loop, self.transport, data)

    def hang_up(self) -> None:
        """Once everything is written."""
        self.edge.outbox.flush()
        self.transport.close()

    def break_off(self) -> None:
        """At once; what is not written by now is lost."""
        self.edge.outbox.flush()
        self.transport.abort()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.paused = True
        self.write_due_s = self.edge.after(self.edge.limits.write_stall_s)
        if self.exchange is not None:
            self.exchange.on_pause()

    def resume_writing(self) -> None:
        self.paused = False
        self.write_due_s = NEVER
        if self.exchange is not None:
            self.exchange.on_writable()
