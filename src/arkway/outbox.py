"""What is written in one turn of the event loop, written at its end.

A write wakes the process at the other end, and waking a processor that rests costs the writer more than all the rest of
the write. Written together, the first one wakes it and the others find it awake: measured with 64 clients and one
upstream, a relayed call costs a third less.
"""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("arkway")

HELD_BYTES = 65_536
"""More than this does not wait for the turn's end, so that a transport that is full can say so."""


class Outbox:
    """Writes to any number of transports of one loop, each one's in their order.

    Whoever closes a transport after writing calls `flush` first.
    """

    __slots__ = ("_held_bytes", "_writes")

    def __init__(self) -> None:
        self._held_bytes = 0
        self._writes: list[tuple[asyncio.WriteTransport, tuple[bytes, ...]]] = []

    def add(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport, *parts: bytes) -> None:
        """To be written before this turn of the loop is over."""
        if not self._writes:
            loop.call_soon(self.flush)
        self._writes.append((transport, parts))
        self._held_bytes += sum(map(len, parts))
        if self._held_bytes > HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write now. What is meant for a transport that is closing is thrown away."""
        writes, self._writes, self._held_bytes = self._writes, [], 0
        for transport, parts in writes:
            if transport.is_closing():
                continue
            try:
                transport.writelines(parts)
            except Exception:
                log.exception("internal error while writing")
                transport.abort()
