"""What all connections of one server share at its edge: their limits, their number, one clock, one sweeping timer.

A deadline is a number on the connection; the timer looks at every connection a few times a second. A timer per
connection would cost each request two heap operations for a deadline that is hardly ever met.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from arkway.core.errors import ArkwayError
from arkway.core.raw import ErrorReply
from arkway.http.asgi import Limits
from arkway.outbox import Outbox

if TYPE_CHECKING:
    from arkway.http.edge_exchange import Hot

TICK_MAX_S = 1.0
TICK_MIN_S = 0.02
TICKS_PER_DEADLINE = 4
# Descriptors that are not for clients: the database, the journal, engines, listeners; and a fifth for upstreams.
DESCRIPTORS_KEPT = 64
CONNECTIONS_MIN = 16
# Those that hear of it; more are dropped unheard, so that they do not take what is kept.
SURPLUS_SHARE, SURPLUS_MIN, SURPLUS_MAX = 8, 4, 256
# Those that are shaking hands; beyond them the oldest gives way to the newest.
HANDSHAKE_SHARE, HANDSHAKE_MIN = 4, 4

Fields = list[tuple[bytes, bytes]]
Refuse = Callable[[bytes, bytes, Fields, str, ArkwayError, int], ErrorReply]
"""``(method, target, fields, peer, error, status)``, each as far as it is known (else empty): the answer in the form of
the dialect that the target belongs to. The status is what is sent."""


class EdgeLimits(Limits, frozen=True, kw_only=True):
    """`arkway.http.asgi.Limits` and what is limited below a request; times in seconds, sizes in bytes.

    ``connections``: open at a time, all together; ``per_address``: from one peer's address, 0 = no limit of its own.
    ``first_byte_s``: after connecting; ``head_s``: from the first byte of a request line to the end of the headers;
    ``keep_alive_s``: between requests. A body is judged in windows of ``body_window_s``: in each at least
    ``body_bytes_per_s`` on average while the server reads. ``pipelined``: requests that may wait on one connection
    for their turn; the connection ends after the last one. ``extension_bytes``: chunk extensions and trailers.
    ``bodies_max_bytes``: what has come of the bodies of all requests that are not answered yet, together.
    """

    connections: int = 10_000
    per_address: int = 0
    first_byte_s: float = 10.0
    head_s: float = 10.0
    keep_alive_s: float = 75.0
    body_window_s: float = 10.0
    body_bytes_per_s: int = 1024
    pipelined: int = 64
    extension_bytes: int = 1024
    bodies_max_bytes: int = 256 * 1024 * 1024

    @property
    def head_bytes(self) -> int:
        """A whole head on the wire: what its parts may have, and what separates them."""
        return self.target_bytes + self.header_bytes + 4 * self.header_count + 256


class Refusal(Exception):
    """A request that is taken no further: what is wrong, and the status that says it best (RFC 9110 §15)."""

    def __init__(self, status: int, error: ArkwayError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


class Swept(Protocol):
    """A connection as the sweep sees it; both deadlines in the edge's own time (`Edge.now_s`)."""

    due_s: float
    write_due_s: float

    def expire(self) -> None:
        """One of the deadlines has passed."""


class Edge:
    """The edge of one server. ``refuse`` words refusals; ``surplus`` counts connections that only hear one.

    ``now_s`` is a clock that stands still while the process does: a deadline measures how long a client kept a server
    waiting that was there. It is read without a call, and is up to ``tick_s`` old.
    """

    def __init__(self, limits: EdgeLimits, refuse: Refuse, hot: Hot | None = None) -> None:
        self.limits = limits
        self.refuse = refuse
        self.hot = hot
        self.outbox = Outbox()
        self.capacity = limits.connections
        self.open = 0
        self.surplus = 0
        self.refused = 0
        self.bodies_bytes = 0
        self.now_s = 0.0
        self.tick_s = _tick_s(limits)
        self.lines = b""
        self.lines_of: list[tuple[bytes, bytes]] | None = None
        self._addresses: dict[str, int] = {}
        self._seen_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._set_dues()

    def change(self, limits: EdgeLimits) -> None:
        """Other limits from now on, for open connections too; a deadline that is set stays as it is."""
        self.limits = limits
        self.capacity = capacity(limits.connections)
        self.tick_s = _tick_s(limits)
        self._set_dues()

    def admit(self, address: str) -> bool:
        """Counts one more connection, unless it is one too many."""
        limits = self.limits
        if self.open >= self.capacity:
            return False
        held = self._addresses.get(address, 0)
        if limits.per_address and address and held >= limits.per_address:
            return False
        self._addresses[address] = held + 1
        self.open += 1
        return True

    @property
    def surplus_max(self) -> int:
        """How many connections that are too many are told so at a time."""
        return min(max(self.capacity // SURPLUS_SHARE, SURPLUS_MIN), SURPLUS_MAX)

    @property
    def handshakes_max(self) -> int:
        """How many TLS handshakes may be under way at a time, each of which has its place among the connections."""
        return max(self.capacity // HANDSHAKE_SHARE, HANDSHAKE_MIN)

    def leave(self, address: str) -> None:
        """One that was admitted has ended."""
        self.open -= 1
        held = self._addresses[address] - 1
        if held:
            self._addresses[address] = held
        else:
            del self._addresses[address]

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Swept]) -> None:
        """Sweeps these connections from now on, until there are none."""
        if self._timer is None:
            self.capacity = capacity(self.limits.connections)
            self._seen_s = loop.time()
            self._timer = loop.call_later(self.tick_s, self._sweep, loop, connections)

    def after(self, seconds: float) -> float:
        """The deadline that is that far away, rather late than early."""
        return self.now_s + seconds + self.tick_s

    def _sweep(self, loop: asyncio.AbstractEventLoop, connections: Collection[Swept]) -> None:
        now_s = loop.time()
        self.now_s += min(now_s - self._seen_s, 2 * self.tick_s)
        self._seen_s = now_s
        self._set_dues()
        self._timer = loop.call_later(self.tick_s, self._sweep, loop, connections) if connections else None
        now_s = self.now_s
        for each in [each for each in connections if each.due_s <= now_s or each.write_due_s <= now_s]:
            each.expire()

    def _set_dues(self) -> None:
        """The deadlines that every request sets, ready to be read."""
        self.head_due_s = self.after(self.limits.head_s)
        self.idle_due_s = self.after(self.limits.keep_alive_s)


def capacity(connections: int) -> int:
    """How many connections this process takes, so that there are descriptors left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return min(connections, max((soft - DESCRIPTORS_KEPT) * 4 // 5, CONNECTIONS_MIN))


def raise_descriptors(connections: int) -> None:
    """Lifts this process's own limit of descriptors as far as it is let, for a client and an upstream each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tick_s(limits: EdgeLimits) -> float:
    times = (limits.first_byte_s, limits.head_s, limits.keep_alive_s, limits.body_window_s)
    shortest_s = min(*times, limits.body_s, limits.write_stall_s, limits.linger_s)
    return min(max(shortest_s / TICKS_PER_DEADLINE, TICK_MIN_S), TICK_MAX_S)
