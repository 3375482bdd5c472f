"""Chat calls without a task: from the connection's callbacks to the server's steps and back, in the same turn.

What is out of the ordinary (no or bad credentials, a body of unknown length, ``Expect``, encodings, HTTP/1.0, other
routes) is left to the ASGI application, which takes the same steps with coroutines.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from time import time_ns

from arkway.core.errors import ArkwayError
from arkway.core.ids import REQUEST_ID_ENTROPY_BYTES, request_id
from arkway.core.raw import RawRequest, Tap
from arkway.flow import leaving
from arkway.flow.identify import Proof
from arkway.http.edge import Fields
from arkway.http.outlet import Source
from arkway.http.protocol import EdgeProtocol
from arkway.http.serve import Server
from arkway.http.surface import Route
from arkway.http.visit import Headers, Visit
from arkway.ports import Refusing

STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
LENGTH_DIGITS = 12
HELD_IDS = 256
# What clients make up for every request, and what makes a signature another one each time.
MADE_UP = frozenset((b"idempotency-key", b"traceparent", b"tracestate", b"x-client-request-id", b"x-request-id"))
SIGNED = MADE_UP | {b"authorization", b"x-content-sha256", b"x-date"}
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class HotPath:
    """Implements `arkway.http.edge_exchange.Hot` for the chat routes. ``server()`` is the one that serves just now."""

    def __init__(self, server: Callable[[], Server], entropy: Callable[[int], bytes]) -> None:
        self.server = server
        self._entropy = entropy
        self._held: list[bytes] = []

    def __call__(self, protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields, /) -> HotChat | None:
        server = self.server()
        route = server.chat_route(method, target) if not protocol.closing else None
        if route is None:
            return None
        named = _named(headers)
        if named is None or not _ordinary(named, route.body_max_bytes):
            return None
        familiar = Familiar(self, server, route, target, headers, named)
        exchange = familiar.begin(protocol)
        if exchange is not None:
            protocol.again = familiar
        return exchange

    def request_id(self, now_ms: int) -> str:
        """Entropy is fetched for many ids at a time: asking the kernel costs more than all the rest of an id."""
        if not self._held:
            size = REQUEST_ID_ENTROPY_BYTES
            entropy = self._entropy(HELD_IDS * size)
            self._held = [entropy[start : start + size] for start in range(0, len(entropy), size)]
        return request_id(now_ms, self._held.pop())


class Familiar:
    """What a head has been found to say, for this request and the next with such a head.

    Implements `arkway.http.edge_repeats.Again`.
    """

    __slots__ = (
        "_dialect",
        "_hot",
        "_named",
        "_path",
        "_proof",
        "_query",
        "_route",
        "_server",
        "body_max_bytes",
        "fields",
        "varying",
    )

    def __init__(
        self, hot: HotPath, server: Server, route: Route, target: bytes, headers: Fields, named: dict[str, str]
    ) -> None:
        self._hot, self._server, self._route = hot, server, route
        self._path, _, self._query = target.decode("latin-1").partition("?")
        self._named, self.fields = named, tuple(headers)
        self._dialect: Refusing | None = None
        self._proof: Proof | None = None
        self.body_max_bytes = route.body_max_bytes
        self.varying = MADE_UP

    def change(self, values: dict[int, bytes]) -> None:
        fields, named = list(self.fields), dict(self._named)
        for place, value in values.items():
            name = fields[place][0]
            fields[place] = (name, value)
            named[name.decode("latin-1")] = value.decode("latin-1")
        self.fields, self._named = tuple(fields), named

    def begin(self, protocol: EdgeProtocol) -> HotChat | None:
        hot, server, path = self._hot, self._server, self._path
        if hot.server() is not server:
            return None
        now_ms = time_ns() // 1_000_000
        peer = protocol.client[0] if protocol.client else ""
        raw = RawRequest(
            "POST", path, self._query, self._named, hot.request_id(now_ms), now_ms, _given, peer, path, self.fields
        )
        try:
            visit, proof = server.begin(raw, self._route, self._dialect, self._proof)
        except Exception:
            return None  # refused with all that belongs to it, such as a body that is still on its way
        if proof.tap is not None:
            self.varying = SIGNED
        # Where the credentials may vary between heads that count as the same, each of them proves itself.
        self._dialect, self._proof = visit.dialect, proof if self.varying is MADE_UP else None
        return HotChat(protocol, server, visit, proof)


class HotChat:
    """One chat request; implements `arkway.http.edge_exchange.HotExchange` and `arkway.http.outlet.Outlet`."""

    __slots__ = ("_body", "_head", "_over", "_proof", "_protocol", "_server", "_source", "_tap", "_visit")

    def __init__(self, protocol: EdgeProtocol, server: Server, visit: Visit, proof: Proof) -> None:
        self._protocol, self._server = protocol, server
        self._visit, self._proof = visit, proof
        self._tap: Tap | None = proof.tap
        self._body: list[bytes] = []
        self._head = b""
        self._source: Source | None = None
        self._over = False

    # The connection's side

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        if self._tap is not None:
            self._tap(data)

    def on_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        source = self._server.answer(self._visit, self._proof, body, self)
        if source is not None and not self._over:
            self._source = source
            if self._protocol.paused:
                source.pause()

    def on_refused(self, error: ArkwayError) -> None:
        if self._source is None and not self._over:
            self._server.turn_away(self._visit, error, self)

    def on_disconnect(self) -> None:
        over, self._over = self._over, True
        source, self._source = self._source, None
        if source is not None:
            source.leave()
        elif not over:
            self._server.left(self._visit)

    def on_stop(self) -> None:
        if self._source is not None:
            self._source.cut()
        elif not self._over:
            self._server.turn_away(self._visit, leaving.stopping(), self)

    def on_pause(self) -> None:
        if self._source is not None:
            self._source.pause()

    def on_writable(self) -> None:
        if self._source is not None:
            self._source.resume()

    # The answer's side

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        if not self._over:
            self._over, self._source = True, None
            head = self._lines(status, headers)
            self._protocol.send(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
            self._protocol.finished()

    def start(self, status: int, headers: Headers) -> None:
        # Kept for the first piece of the body, which comes in the same turn: one write less.
        self._head = self._lines(status, headers) + CHUNKED

    def write(self, data: bytes) -> None:
        if self._over:
            return
        if self._head:
            self._protocol.send(b"%b%x\r\n%b\r\n" % (self._head, len(data), data))
            self._head = b""
        else:
            self._protocol.send(b"%x\r\n%b\r\n" % (len(data), data))

    def flush(self) -> None:
        if self._head and not self._over:
            self._protocol.send(self._head)
            self._head = b""

    def finish(self, last: bytes) -> None:
        if not self._over:
            self._over, self._source = True, None
            self._protocol.send(b"%b%x\r\n%b\r\n%b" % (self._head, len(last), last, LAST_CHUNK))
            self._protocol.finished()

    def abort(self) -> None:
        if not self._over:
            self._over, self._source = True, None
            self._protocol.break_off()

    def _lines(self, status: int, headers: Headers) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        closing = b"connection: close\r\n" if self._protocol.closing else b""
        return STATUS_LINES[status] + self._protocol.head_lines + lines.encode("latin-1") + closing


def _named(headers: Fields) -> dict[str, str] | None:
    """The header fields by name; None where one was sent twice."""
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return named if len(named) == len(headers) else None


def _ordinary(named: dict[str, str], body_max_bytes: int) -> bool:
    """A body of a known and allowed length, not encoded, sent without asking first."""
    length = named.get("content-length", "")
    if not length.isdecimal() or len(length) > LENGTH_DIGITS or int(length) > body_max_bytes:
        return False
    return "expect" not in named and "content-encoding" not in named and "transfer-encoding" not in named


async def _given(_limit_bytes: int, _tap: Tap | None) -> bytes:
    raise AssertionError("the body of a hot request is given, not received")
