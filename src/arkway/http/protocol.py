"""Our HTTP/1.1 connection, given to uvicorn in the place of its own: the edge that strangers meet.

It keeps uvicorn's contract (``server_state``, `shutdown`, one ASGI call per request) and adds what uvicorn leaves out:
limits on the head before it is parsed, the grammar of what servers read differently, deadlines for every state, a cap
on connections, and refusals in the form of the dialect that was called.

A request goes one of two ways, decided when its headers are complete: to the *hot* handler, with plain callbacks, no
task and no coroutine (`Hot`, `HotExchange`); or, when that handler does not want it, into an ordinary ASGI call.
"""

from __future__ import annotations

import asyncio
from collections import deque

from arkway.core.errors import BadRequest, HeadTooLarge, RequestTimeout
from arkway.flow.leaving import stopping
from arkway.http import edge_repeats
from arkway.http.edge import Edge, EdgeLimits, Fields, Refusal, Refuse
from arkway.http.edge_asgi import asgi_exchange
from arkway.http.edge_connection import BODY, DEAF, HEAD, IDLE, NEVER, SURPLUS
from arkway.http.edge_exchange import STARTING, Hot, HotExchange, Queued
from arkway.http.edge_head import BODIED, EXPECTS, examined, located, lowered, measured
from arkway.http.edge_reading import HEAD_END, Reading
from arkway.http.edge_refusals import crowded, full, last_answer, target_in
from arkway.http.edge_repeats import Repeated

SURPLUS_S = 1.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class EdgeProtocol(Reading):
    """One connection. What an exchange uses:

    ``send`` and `finished`; ``paused``: the client is behind, from before the exchange began perhaps (afterwards
    `HotExchange.on_pause` tells); ``closing``: the answer is the connection's last and has to say
    ``connection: close``; `head_lines` for every answer; `go_on` before it waits for a body; `pause_reading` and
    `resume_reading`; ``client``: the peer's address and port.
    """

    __slots__ = ()

    @classmethod
    def limit(cls, limits: EdgeLimits) -> None:
        """Other limits for all connections, those that are open too."""
        cls.edge.change(limits)
        cls.header_count = limits.header_count

    # What an exchange calls.

    def finished(self, keep_alive: bool = True) -> None:
        """The answer is complete. The connection goes on, or ends if the exchange or somebody else wants that."""
        self.server_state.total_requests += 1
        unread = self._sink is self.exchange and self._phase == BODY and self._flags & BODIED
        if self._sink is self.exchange:
            self._sink = None
        self.exchange = None
        if self._held_bytes and not self._queue:
            self.edge.bodies_bytes -= self._held_bytes
            self._held_bytes = 0
        if self.transport.is_closing():
            self._silence()
        elif unread:
            self._linger()
        elif self.closing or not keep_alive:
            self._end()
        elif self._phase == IDLE and not self._queue and self._reading and self._refusal is None:
            self.due_s = self.edge.idle_due_s
        else:
            self._go_to_next()

    def go_on(self) -> None:
        """Lets a client send its body that waits to be asked (``Expect: 100-continue``)."""
        if self.expects:
            self.expects = False
            self.send(CONTINUE)
            self.edge.outbox.flush()  # the ASGI application, who asks for this, writes past the outbox
            if self._phase == BODY:
                self._await_body()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or was one: it may hold a place at the edge before that."""
        return self.transport is not None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        edge = self.edge
        self.transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = (str(peer[0]), int(peer[1]))
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        edge.watch(self.loop, self.server_state.connections)  # type: ignore[arg-type]
        entered = self._admitted or self._phase == SURPLUS
        if entered or self.enter(self.client[0] if self.client else ""):
            self.due_s = edge.after(edge.limits.first_byte_s if self._admitted else SURPLUS_S)
        else:
            self.transport.abort()

    def enter(self, address: str) -> bool:
        """Takes its place at the edge, before there is a connection where hands are to be shaken first.

        False: there is none, not even among those who are told so. Whoever calls this and makes no connection of it
        calls `leave`.
        """
        edge = self.edge
        self._address = address
        self._admitted = edge.admit(address)
        if not self._admitted:
            self._phase = SURPLUS
            edge.surplus += 1
        return self._admitted or edge.surplus <= edge.surplus_max

    def leave(self) -> None:
        """Gives its place back."""
        if self._admitted:
            self.edge.leave(self._address)
        else:
            self.edge.surplus -= 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self.leave()
        self._hold(-self._held_bytes)
        self.due_s = self.write_due_s = NEVER
        self._phase = DEAF
        exchange, self.exchange = self.exchange, None
        self._sink = self._queue = self._parser = self.again = self._before = None
        if exchange is not None:
            exchange.on_disconnect()

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == IDLE and self._before is not None and self._begin_again(self._before, data):
            return
        if phase == SURPLUS:
            self._url = target_in(data)
            self._refuse(crowded())
        elif phase == DEAF or (self._last and phase != BODY):
            self._dropped = True
        elif phase == BODY:
            if self._left:
                self._take_body(data)
            else:
                self._feed_body(data)
        else:
            self._feed_head(data)

    # What the server calls.

    def shutdown(self) -> None:
        """The server stops: what is being answered is the connection's last answer."""
        self._queue = self._refusal = None
        self.closing = self._last = True
        if self.exchange is None:
            self._silence()
            self.hang_up()

    def cut(self) -> None:
        """The server has waited for this long enough."""
        if self._phase == BODY and self._sink is not None and self._sink is self.exchange:
            self._fail(Refusal(503, stopping()))
        if self.exchange is not None:
            self.exchange.on_stop()

    def expire(self) -> None:
        """A deadline has passed (`arkway.http.edge.Swept`)."""
        phase, limits = self._phase, self.edge.limits
        if self.write_due_s <= self.edge.now_s or phase == DEAF:
            self.due_s = self.write_due_s = NEVER
            self.transport.abort()
        elif phase == SURPLUS:
            self._refuse(crowded())
        elif phase == HEAD:
            self._fail(Refusal(408, RequestTimeout(f"the headers did not arrive within {limits.head_s:g} seconds")))
        elif phase == BODY:
            self._judge_body()
        elif self.exchange is None:
            self._silence()
            self.hang_up()

    # What the parser calls.

    def on_message_begin(self) -> None:
        queue = self._queue
        if queue and len(queue) >= self.edge.limits.pipelined:
            queue[-1].keep_alive = False
            self._last = True
        if self._last or self._phase == DEAF:
            self._dropped = True
            raise Refusal(400, BadRequest("the connection has ended"))
        self._requests += 1
        self._phase = HEAD
        self._begin_line()
        self.again = self._before = None
        self._headers = []
        self._url = b""
        self._head_bytes = 0
        self.due_s = self.edge.head_due_s

    def on_url(self, url: bytes) -> None:
        self._url = url = self._url + url if self._url else url
        most = self.edge.limits.target_bytes
        if len(url) > most:
            raise self._refused(Refusal(414, HeadTooLarge(f"the request line is larger than {most} bytes")))

    def on_header(self, name: bytes, value: bytes) -> None:
        # Of trailers as well, which nobody reads: by then the exchange has a list of its own.
        headers = self._headers
        headers.append((name, value))
        if len(headers) > self.header_count:
            raise self._refused(Refusal(431, HeadTooLarge(f"at most {self.header_count} header fields are taken")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        version, method, target = parser.get_http_version(), parser.get_method(), self._url
        try:
            self._check_line(method, version)
            headers, flags = examined(self._headers, version)
            if target[:1] != b"/" or b"#" in target:
                target = located(target, method, headers)
            if self._head_bytes + len(self._data) > self.edge.limits.header_bytes:
                measured(headers, self.edge.limits)
        except Refusal as refusal:
            raise self._refused(refusal) from None
        keep_alive = version == "1.1" and parser.should_keep_alive()
        self._last = not keep_alive
        self._flags = flags
        self._phase = BODY
        self._body_bytes = self._carried = self._chunks = 0
        if flags & EXPECTS:
            self.due_s = NEVER  # until it is asked for the body
        elif flags & BODIED:
            self._await_body()
        if self.exchange is None:
            self._sink = STARTING
            self._begin(method, target, headers, flags, keep_alive, version)
        else:
            self._sink = request = Queued(self, method, target, headers, flags, keep_alive, version)
            if self._queue is None:
                self._queue = deque()
            self._queue.append(request)

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._sink is not None:
            if not self._hold(len(data)):
                raise self._refused(full())
            self._sink.on_body(data)

    def on_message_complete(self) -> None:
        if self._phase == DEAF:
            return
        self._phase = IDLE
        self.due_s = NEVER if self.exchange is not None else self.edge.idle_due_s
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_complete()

    def _hold(self, body_bytes: int) -> bool:
        """Counts what is kept of bodies until their requests are answered; False = there is no room for it."""
        edge = self.edge
        whole = edge.bodies_bytes + body_bytes
        if body_bytes > 0 and whole > edge.limits.bodies_max_bytes:
            return False
        edge.bodies_bytes = whole
        self._held_bytes += body_bytes
        return True

    # What a request's life consists of.

    def _begin(
        self, method: bytes, target: bytes, headers: Fields, flags: int, keep_alive: bool, version: str
    ) -> HotExchange | None:
        """Hands the request over; gives back who answers it, None when that is already done."""
        self.exchange = STARTING
        self.closing = not keep_alive
        self.expects = bool(flags & EXPECTS)
        self.again = None
        hot = self.edge.hot
        exchange = None if hot is None else hot(self, method, target, headers)
        if self.exchange is not STARTING:
            return None
        if exchange is None:
            exchange = asgi_exchange(self, method, target, headers, version, self.expects)
        self.exchange = exchange
        if self._sink is STARTING:
            self._sink = exchange
        return exchange

    def _go_to_next(self) -> None:
        self.resume_reading()
        if self._queue:
            self._begin_queued(self._queue.popleft())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._phase == IDLE:
            self.due_s = self.edge.idle_due_s

    def _begin_queued(self, request: Queued) -> None:
        if self._sink is request:
            self._sink = STARTING
        begun = self._begin(
            request.method, request.target, request.headers, request.flags, request.keep_alive, request.version
        )
        for piece in request.body:
            if self.exchange is begun is not None:
                begun.on_body(piece)
        if request.complete and self.exchange is begun is not None:
            begun.on_complete()
        self.again = None  # came of another head than the one that is read now, if any is

    # A head that came before: what it says is known, and the parser, which is between two messages, is not asked.

    def _keep_head(self, data: bytes) -> None:
        """Of a request whose head came in one piece, and nothing but content behind it."""
        again, self.again = self.again, None
        end = data.find(HEAD_END) + len(HEAD_END)
        plain = self._flags == BODIED and not self._last and self._phase in (BODY, IDLE)
        if (
            again is not None
            and plain
            and self._misses < edge_repeats.MISSES_MAX
            and end + self._body_bytes == len(data)
        ):
            self._before = Repeated(data[:end], again)

    def _begin_again(self, before: Repeated, data: bytes) -> bool:
        if self.exchange is not None or self._last:
            return False
        exchange = before.begin(self, data)
        if exchange is None:
            self._misses += 1
            return False
        self._misses = 0
        self._requests += 1
        self.exchange = exchange
        if len(data) == before.end + before.length and self._hold(before.length):
            self.due_s = NEVER
            exchange.on_body(data[before.end :])
            exchange.on_complete()
        else:
            self._phase, self._sink = BODY, exchange
            self._left, self._body_bytes = before.length, 0
            self._await_body()
            if len(data) > before.end:
                self._take_body(data[before.end :])
        return True

    def _take_body(self, data: bytes) -> None:
        left = self._left
        self._left = max(0, left - len(data))
        try:
            self.on_body(data[:left])
        except Refusal as refusal:
            self._fail(refusal)
            return
        if not self._left:
            self.on_message_complete()
            if len(data) > left:
                self.data_received(data[left:])

    # How a connection ends.

    def _await_body(self) -> None:
        limits = self.edge.limits
        self._judged_bytes = self._body_bytes
        self._deadline_s = self.edge.after(limits.body_s)
        self.due_s = min(self.edge.after(limits.body_window_s), self._deadline_s)

    def _judge_body(self) -> None:
        """Has enough of it come since the last time? While the server itself reads nothing, nobody is to blame."""
        edge, limits = self.edge, self.edge.limits
        got_bytes, self._judged_bytes = self._body_bytes - self._judged_bytes, self._body_bytes
        if not self._reading:
            self._deadline_s += limits.body_window_s
        elif edge.now_s >= self._deadline_s:
            self._fail(
                Refusal(408, RequestTimeout(f"the request body did not arrive within {limits.body_s:g} seconds"))
            )
            return
        elif got_bytes < limits.body_bytes_per_s * limits.body_window_s:
            self._fail(Refusal(408, RequestTimeout(f"the body came with less than {limits.body_bytes_per_s} bytes/s")))
            return
        self.due_s = min(edge.after(limits.body_window_s), self._deadline_s)

    def _fail(self, refusal: Refusal) -> None:
        """What comes in cannot be read any further; what was asked before that is still answered."""
        in_body, sink = self._phase == BODY, self._sink
        self._sink = None
        self._last = self._dropped = True
        self._phase = IDLE
        self.due_s = NEVER
        if in_body and sink is not None and sink is self.exchange:
            self.closing = True
            self.exchange.on_refused(refusal.error)
        elif self.exchange is None:
            self._refuse(refusal)
        else:
            if in_body and self._queue and sink is self._queue[-1]:
                self._queue.pop()
            self._refusal = refusal

    def _refuse(self, refusal: Refusal) -> None:
        """Answers and ends."""
        self._refusal = None
        self.edge.refused += 1
        method = self._parser.get_method() if self._url and self._admitted else b""
        fields = lowered(self._headers)
        reply = self.edge.refuse(method, self._url, fields, self._address, refusal.error, refusal.status)
        self.send(last_answer(refusal.status, self.head_lines, reply, with_body=method != b"HEAD"))
        self._linger()

    def _end(self) -> None:
        if self._dropped:
            self._linger()
        else:
            self._silence()
            self.hang_up()

    def _linger(self) -> None:
        """Throws away what the client is still sending, for a while, so that it sees the answer and not a reset."""
        self._silence()
        if self.expects:
            self.hang_up()
            return
        self.resume_reading()
        self.due_s = self.edge.after(self.edge.limits.linger_s)
        self.edge.outbox.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _silence(self) -> None:
        """Nothing that comes matters any more; what was written has its time to leave."""
        self._phase = DEAF
        self._queue = self._refusal = None
        self.due_s = self.edge.after(self.edge.limits.write_stall_s)


def edge_protocol(limits: EdgeLimits, refuse: Refuse, hot: Hot | None = None) -> type[EdgeProtocol]:
    """The class for ``uvicorn.Config(http=...)``: connections of one server, with these limits.

    ``refuse`` words an answer to what never became a request; ``hot`` is asked first about every request.
    """
    parts = {"__slots__": (), "edge": Edge(limits, refuse, hot), "header_count": limits.header_count}
    return type("EdgeProtocol", (EdgeProtocol,), parts)
