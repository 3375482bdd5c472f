"""Who may use the engine next: a bounded line, fair by caller, over a fixed number of slots.

``Line`` is the arithmetic and knows no clock and no event loop; ``Gate`` lets coroutines wait in it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from arkway.core.errors import Overloaded

Key = tuple[str, str]
"""Account and API key: whom to be fair to."""


class Grant(msgspec.Struct, frozen=True):
    """A slot, and whether all it holds came from the same account (its prefix cache may then be used)."""

    slot: int
    same_account: bool


class Line:
    """Tickets wait in one queue per caller; callers take turns; a slot that holds the account's prefix is preferred."""

    def __init__(self, slots: int, limit: int) -> None:
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(slots))
        self._slots = slots
        self._limit = limit
        self._holders: dict[int, str] = {}
        self._waiting: OrderedDict[Key, deque[object]] = OrderedDict()
        self._preparing = 0

    def limit_to(self, limit: int) -> None:
        """Who waits already goes on waiting."""
        self._limit = limit

    @property
    def waiting(self) -> int:
        """Requests that hold no slot: in the line, or being prepared for it."""
        return self._preparing + sum(len(queue) for queue in self._waiting.values())

    @property
    def busy(self) -> int:
        return self._slots - len(self._free)

    def prepare(self, count: int = 1) -> None:
        """Announces requests that will join. Raises Overloaded when they would not fit."""
        if self.waiting + count > self._limit + len(self._free):
            raise Overloaded(f"{self.waiting} requests are waiting for the model already; try again shortly")
        self._preparing += count

    def prepared(self, count: int = 1) -> None:
        self._preparing -= count

    def join(self, key: Key, ticket: object) -> None:
        self._waiting.setdefault(key, deque()).append(ticket)

    def leave(self, key: Key, ticket: object) -> None:
        """Takes a waiting ticket out; one that is not there is no error."""
        queue = self._waiting.get(key)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self._waiting[key]

    def next(self) -> tuple[object, Grant] | None:
        """The ticket whose turn it is and its slot; None when nobody waits or no slot is free."""
        if not self._free or not self._waiting:
            return None
        key, queue = self._waiting.popitem(last=False)
        ticket = queue.popleft()
        if queue:
            self._waiting[key] = queue
        slot = self._slot_for(key[0])
        del self._free[slot]
        same = self._holders.pop(slot, None) == key[0]
        return ticket, Grant(slot, same)

    def hold(self, slot: int, account: str) -> None:
        """The engine reads this account's prompt into the slot. Until then a granted slot is nobody's."""
        self._holders[slot] = account

    def release(self, slot: int) -> None:
        """The slot is free again; the longest idle slot is the first to be given to somebody else."""
        self._free[slot] = None

    def forget_slots(self) -> None:
        """The engine was restarted: no slot holds anybody's prefix."""
        self._holders.clear()

    def _slot_for(self, account: str) -> int:
        """One of the account's own, most recently used first; else one that is nobody's; else the longest idle."""
        own = [slot for slot in self._free if self._holders.get(slot) == account]
        if own:
            return own[-1]
        return next((slot for slot in self._free if slot not in self._holders), next(iter(self._free)))


class _Ticket:
    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()


class Gate:
    """Lets coroutines wait for a slot. A coroutine that is cancelled while it waits is out of the line at once."""

    def __init__(self, slots: int, limit: int, wait_limit_s: float) -> None:
        self.line = Line(slots, limit)
        self._wait_limit_s = wait_limit_s

    def adjust(self, limit: int, wait_limit_s: float) -> None:
        """For those who come from now on."""
        self.line.limit_to(limit)
        self._wait_limit_s = wait_limit_s

    @contextmanager
    def preparing(self, count: int) -> Iterator[None]:
        """Counts requests that are not yet in the line. Raises Overloaded when the line has no room for them."""
        self.line.prepare(count)
        try:
            yield
        finally:
            self.line.prepared(count)

    async def enter(self, key: Key) -> Grant:
        """Waits for a slot. Raises Overloaded after the wait limit."""
        ticket = _Ticket()
        self.line.join(key, ticket)
        self._call_next()
        try:
            async with asyncio.timeout(self._wait_limit_s):
                return await ticket.turn
        except TimeoutError:
            self._withdraw(key, ticket)
            raise Overloaded(
                f"no slot became free within {self._wait_limit_s:g} seconds; try again later", 5.0
            ) from None
        except asyncio.CancelledError:
            self._withdraw(key, ticket)
            raise

    def leave(self, grant: Grant) -> None:
        """Gives a slot back."""
        self.line.release(grant.slot)
        self._call_next()

    def _withdraw(self, key: Key, ticket: _Ticket) -> None:
        """A turn that came in the same instant goes to the next in line."""
        if ticket.turn.done() and not ticket.turn.cancelled():
            self.leave(ticket.turn.result())
        else:
            self.line.leave(key, ticket)

    def _call_next(self) -> None:
        while (found := self.line.next()) is not None:
            ticket, grant = found
            assert isinstance(ticket, _Ticket)
            if ticket.turn.cancelled():
                self.line.release(grant.slot)
            else:
                ticket.turn.set_result(grant)
