"""The connections to one upstream, the line of those that wait for one, and the one timer over all of them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from arkway.backends.upstream.connection import Connection
from arkway.backends.upstream.dialing import Dialer, why_not
from arkway.backends.upstream.exchange import Carried
from arkway.backends.upstream.target import Target
from arkway.core.errors import ArkwayError, BackendUnavailable, Overloaded
from arkway.core.upstream import Upstream
from arkway.outbox import Outbox

log = logging.getLogger("arkway.upstream")

LATE_S = 0.5
"""A sweep that comes this much too late lets the loop read first: what it would end may have been heard of."""


class Pool:
    """Last in, first out, so that what is not needed rests and is closed after ``idle_connection_s``.

    As many connections are being made as there are exchanges in the line, up to the upstream's ``connections_max``;
    whichever is free first, old or new, takes the oldest exchange.
    """

    def __init__(
        self,
        upstream: Upstream,
        target: Target,
        waiting_max: int,
        idle_connection_s: float,
        sweep_s: float,
        clock: Callable[[], float] | None,
    ) -> None:
        self.first_byte_s = upstream.first_byte_s
        self.idle_s = upstream.idle_s
        self.idle_connection_s = idle_connection_s
        self._upstream = upstream
        self._dialer = Dialer(target, upstream.ca_file, lambda: Connection(self))
        self._waiting_max = waiting_max
        self._sweep_s = sweep_s
        self._clock = clock
        self._free: list[Connection] = []
        self._open: set[Connection] = set()
        self._line: OrderedDict[Carried, None] = OrderedDict()
        self._dials: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._reached = True
        self._closing: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox = Outbox()

    def send(self, transport: asyncio.Transport, request: tuple[bytes, ...]) -> None:
        """Before this turn of the loop is over."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._outbox.add(self._loop, transport, *request)

    def now(self) -> float:
        """Seconds that only grow."""
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def start(self, exchange: Carried) -> None:
        """Send it over a free connection, or put it into the line."""
        free = self._free
        while free:
            if free.pop().carry(exchange):
                return
        exchange.place = self
        if self._closing is not None:
            self._fail_soon(exchange, _ended())
        elif len(self._line) - len(self._dials) >= self._waiting_max:
            self._fail_soon(exchange, Overloaded("every connection to the model's server is in use"))
        else:
            self._enqueue(exchange)

    def counts(self) -> tuple[int, int, int]:
        """Connections open, those of them that are idle, exchanges in the line."""
        return len(self._open), sum(1 for connection in self._free if connection.is_usable()), len(self._line)

    async def aclose(self) -> None:
        """End everything; no transport is left when this returns."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        while self._line:
            self._line.popitem(last=False)[0].fail(_ended())
        for connection in tuple(self._open):
            connection.end(_ended())
        dials = tuple(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        for connection in tuple(self._open):
            connection.close()
        if self._open:
            await asyncio.shield(self._closing)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- a place for exchanges: the line ---------------------------------------------------------------------------

    def pause(self) -> None:
        """Nothing is read yet."""

    def resume(self) -> None:
        """Nothing is read yet."""

    def abandon(self, exchange: Carried) -> None:
        self._line.pop(exchange, None)

    # -- a home for connections ------------------------------------------------------------------------------------

    def made(self, connection: Connection) -> None:
        self._open.add(connection)

    def put(self, connection: Connection) -> None:
        if self._closing is not None:
            connection.close()
        elif not self._line or not connection.carry(next(iter(self._line))):
            self._free.append(connection)
        else:
            self._line.popitem(last=False)

    def gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._dial()
        if self._closing is not None and not self._open and not self._closing.done():
            self._closing.set_result(None)

    def repeat(self, exchange: Carried) -> None:
        exchange.repeated = True
        if self._closing is not None:
            exchange.fail(_ended())
            return
        exchange.place = self
        self._enqueue(exchange)
        self._line.move_to_end(exchange, last=False)

    # -- the rest --------------------------------------------------------------------------------------------------

    def _fail_soon(self, exchange: Carried, error: ArkwayError) -> None:
        asyncio.get_running_loop().call_soon(exchange.fail, error)

    def _enqueue(self, exchange: Carried) -> None:
        exchange.due = self.now() + self._upstream.connect_s
        self._line[exchange] = None
        self._dial()
        self._watch()

    def _dial(self) -> None:
        """Make connections for those in the line."""
        room = self._upstream.connections_max - len(self._open)
        while len(self._dials) < min(len(self._line), room):
            dial = asyncio.ensure_future(self._connect())
            self._dials[dial] = self.now() + self._upstream.connect_s
            dial.add_done_callback(self._dialled)

    async def _connect(self) -> None:
        connection = await self._dialer.dial()
        if not connection.is_usable():
            raise ConnectionResetError
        self._note_reached()
        if (dial := asyncio.current_task()) is not None:
            self._dials.pop(dial, None)  # now, so that nobody is let into the line for it who comes before `_dialled`
        self.put(connection)

    def _dialled(self, dial: asyncio.Task[None]) -> None:
        """One attempt less; if it failed, the oldest in the line hears of it, and others are tried for."""
        self._dials.pop(dial, None)
        failure = None if dial.cancelled() else dial.exception()
        if failure is not None:
            self._note_unreached(failure)
            if self._line:
                error = BackendUnavailable(f"the model's server cannot be reached: {why_not(failure)}")
                self._line.popitem(last=False)[0].fail(error)
        self._dial()

    def _note_reached(self) -> None:
        if not self._reached:
            self._reached = True
            log.info("the upstream %s is reached again", self._upstream.name)

    def _note_unreached(self, failure: BaseException) -> None:
        if self._reached:
            self._reached = False
            log.warning("the upstream %s cannot be reached: %s (%r)", self._upstream.name, why_not(failure), failure)

    def _watch(self) -> None:
        """Sweep soon, if that is not planned yet."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._sweep_due = loop.time() + self._sweep_s
            self._timer = loop.call_at(self._sweep_due, self._sweep, False)

    def _sweep(self, was_late: bool) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if not was_late and loop.time() > self._sweep_due + LATE_S:
            self._timer = loop.call_later(0.001, self._sweep, True)
            return
        now = self.now()
        self._sweep_line(now)
        for dial, due in tuple(self._dials.items()):
            if now >= due:
                dial.cancel()
                self._note_unreached(TimeoutError())
        for connection in tuple(self._open):
            connection.sweep(now)
        self._free = [connection for connection in self._free if not connection.closed]
        if self._open or self._line or self._dials:
            self._watch()

    def _sweep_line(self, now: float) -> None:
        error: ArkwayError = BackendUnavailable("the model's server could not be reached in time")
        if not self._dials:
            error = Overloaded("every connection to the model's server stayed in use")
        for exchange in [exchange for exchange in self._line if now >= exchange.due]:
            self._line.pop(exchange, None)
            exchange.fail(error)


def _ended() -> BackendUnavailable:
    return BackendUnavailable("the connection to the model's server has been ended on this side")
