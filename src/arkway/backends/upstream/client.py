"""The HTTP/1.1 client of an upstream: pooled, backpressured, and without a task, future or timer per request."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from arkway.backends.upstream.exchange import Answer, Carried, Exchange
from arkway.backends.upstream.fetching import Fetched, Fetching
from arkway.backends.upstream.pool import Pool
from arkway.backends.upstream.target import target_of
from arkway.core.upstream import Upstream

__all__ = ["Answer", "Client", "Exchange", "Fetched", "Stats"]

WHOLE_BYTES_MAX = 65_536
"""A larger body is not copied behind its head, but written after it."""


class Stats(msgspec.Struct, frozen=True):
    """Connections now: ``open`` ones (``idle`` among them), and requests ``waiting`` for one."""

    open: int
    idle: int
    waiting: int


def written(head: bytes, body: bytes) -> tuple[bytes, ...]:
    """What is written for a request."""
    return (head + body,) if len(body) <= WHOLE_BYTES_MAX else (head, body)


class Client:
    """The connections to one upstream. Belongs to one event loop; used from nowhere else.

    A connection is used again only after an answer that ended cleanly and kept it alive. A request that meets a pooled
    connection which the upstream had closed meanwhile, before a byte of the answer, is sent once more on a new one.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        waiting_max: int = 1024,
        idle_connection_s: float = 30.0,
        sweep_s: float = 0.2,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Opens nothing yet.

        At most ``waiting_max`` requests wait for a connection beyond those that one is being made for, none of them
        longer than the upstream's ``connect_s``. ``sweep_s``: how often deadlines are looked at, so how late at most
        one is noticed, twice over. ``clock``: seconds that only grow; the event loop's unless given.

        Raises Misconfigured: a ``base_url`` or ``ca_file`` that cannot be used.
        """
        target = target_of(upstream.base_url)
        self._pool = Pool(upstream, target, waiting_max, idle_connection_s, sweep_s, clock)
        self.start: Callable[[Carried], None] = self._pool.start
        """As `send`, for what carries its request itself."""
        self._path = f" {target.path}".encode()
        self._rest = f" HTTP/1.1\r\nhost: {target.authority}\r\naccept-encoding: identity\r\n".encode()

    def send(self, method: bytes, path: bytes, headers: bytes, body: bytes, answer: Answer) -> Exchange:
        """Start a request; ``answer`` is told what comes of it, never before this has returned. Must run in the loop.

        ``path`` (with its query) follows the base URL's path, such as ``b"/chat/completions"``. ``headers``: whole
        lines, each with its CRLF, such as ``b"authorization: Bearer k\\r\\ncontent-type: application/json\\r\\n"``;
        ``host``, ``content-length`` and ``accept-encoding`` are added here, so they must not be among them. ``method``
        is any but HEAD and CONNECT. Nothing of these is checked for line breaks: whoever makes them does.
        """
        length = b"content-length: %d\r\n\r\n" % len(body) if body or method != b"GET" else b"\r\n"
        exchange = Exchange(written(self.head(method, path, headers) + length, body), answer)
        self._pool.start(exchange)
        return exchange

    def head(self, method: bytes, path: bytes, headers: bytes) -> bytes:
        """The beginning of a request's head, as `send` makes it: further headers, and its end, are yet to come."""
        return b"".join((method, self._path, path, self._rest, headers))

    async def fetch(self, method: bytes, path: bytes, headers: bytes, body: bytes, max_bytes: int) -> Fetched:
        """A whole answer of at most ``max_bytes``, whatever its status. Parameters as of `send`.

        Raises BackendUnavailable, Overloaded, BackendTimeout and BackendFailed, as of `Answer.on_failed`; BackendFailed
        also for a body that is larger. Cancelled, it aborts the exchange.
        """
        fetching = Fetching(max_bytes)
        fetching.exchange = self.send(method, path, headers, body, fetching)
        try:
            return await fetching.result
        finally:
            fetching.exchange.abort()

    def stats(self) -> Stats:
        """What is open, idle and waiting now."""
        return Stats(*self._pool.counts())

    async def aclose(self) -> None:
        """End everything: what is under way fails with BackendUnavailable, connections are closed when this returns.
        Later sends fail the same way."""
        await self._pool.aclose()
