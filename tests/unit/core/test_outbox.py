"""Writes of one turn of the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import pytest

from arkway.outbox import HELD_BYTES, Outbox


class Transport(asyncio.Transport):
    """Keeps what is written, in one list with all others."""

    def __init__(self, name: str, written: list[tuple[str, bytes]], *, broken: bool = False) -> None:
        super().__init__()
        self.name, self.written, self.broken = name, written, broken
        self.closing = self.aborted = False

    def is_closing(self) -> bool:
        return self.closing

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self.broken:
            raise RuntimeError("a defect")
        self.written.append((self.name, b"".join(list_of_data)))

    def abort(self) -> None:
        self.aborted = True


async def test_what_is_written_in_one_turn_leaves_at_its_end_in_order() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, loop = Outbox(), asyncio.get_running_loop()
    one, other = Transport("one", written), Transport("other", written)
    outbox.add(loop, one, b"a", b"b")
    outbox.add(loop, other, b"c")
    outbox.add(loop, one, b"d")
    assert written == []
    await asyncio.sleep(0)
    assert written == [("one", b"ab"), ("other", b"c"), ("one", b"d")]
    outbox.add(loop, one, b"e")
    await asyncio.sleep(0)
    assert written[3:] == [("one", b"e")]


async def test_whoever_closes_flushes_first_and_nothing_is_written_twice() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, loop = Outbox(), asyncio.get_running_loop()
    outbox.add(loop, Transport("one", written), b"a")
    outbox.flush()
    assert written == [("one", b"a")]
    await asyncio.sleep(0)
    assert len(written) == 1


async def test_one_transport_that_is_closing_or_breaks_does_not_hold_up_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written: list[tuple[str, bytes]] = []
    outbox, loop = Outbox(), asyncio.get_running_loop()
    closing, broken, well = Transport("a", written), Transport("b", written, broken=True), Transport("c", written)
    closing.closing = True
    with caplog.at_level(logging.ERROR, "arkway"):
        for transport in (closing, broken, well):
            outbox.add(loop, transport, b"x")
        await asyncio.sleep(0)
    assert written == [("c", b"x")]
    assert broken.aborted
    assert len(caplog.records) == 1


async def test_much_does_not_wait_for_the_end_of_the_turn() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, loop = Outbox(), asyncio.get_running_loop()
    one = Transport("one", written)
    outbox.add(loop, one, bytes(HELD_BYTES))
    assert written == []
    outbox.add(loop, one, b"x")
    assert [len(data) for _, data in written] == [HELD_BYTES, 1]
