"""What a power cut or a kill leaves of a journal, and when it is synced."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.ports import Settlement
from arkway.stores.framing import SECTOR_BYTES, Opened, Settled, frame, used
from arkway.stores.journal import Durability, Journal
from arkway.stores.segment import segment_numbers, segment_path
from tests.tools.journals import ScriptedDisk, records, settled
from tests.tools.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement

DURABILITIES: tuple[Durability, ...] = get_args(Durability)


# Power cuts: what a sync has confirmed is what a power cut leaves


@pytest.mark.parametrize("allocates", [False, True])
def test_sync_leaves_every_settlement_on_the_disk(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, allocates: bool
) -> None:
    on_disk: dict[int, bytes] = {}

    class Remembering(ScriptedDisk):
        def sync(self, fd: int) -> None:
            on_disk[os.fstat(fd).st_ino] = used(os.pread(fd, 1 << 20, 0))

    disk = Remembering(allocates=allocates)
    journal = Journal(tmp_path / "journal", durability="sync", segment_bytes=1500, disk=disk)
    for number in range(20):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
        paths = [segment_path(tmp_path / "journal", n) for n in segment_numbers(tmp_path / "journal")]
        assert all(on_disk[path.stat().st_ino] == used(path.read_bytes()) for path in paths)
    journal.close()


def test_group_syncs_soon_after_a_write_and_not_when_idle(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", durability="group", group_s=0.1, disk=disk)
    before = disk.syncs
    for number in range(200):
        journal.reserve(make_attempt(number))
    until(lambda: disk.syncs > before and journal._waits_for_a_line)
    assert journal._active.synced == journal.position[1]
    assert disk.syncs < before + 100, "one sync is for many lines"
    after = disk.syncs
    time.sleep(0.3)
    assert disk.syncs == after
    journal.close()


def test_traffic_does_not_wake_the_keeper(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    """The first line after a time without any does, those that come while it is at work do not."""

    class Held(ScriptedDisk):
        let_go = threading.Event()

        def sync(self, fd: int) -> None:
            super().sync(fd)
            if self.syncs > 1:
                self.let_go.wait(PATIENCE_S)

    disk = Held(allocates=True)
    journal = Journal(tmp_path / "journal", durability="group", group_s=0.001, disk=disk)
    until(lambda: journal._waits_for_a_line)
    journal.reserve(make_attempt(0))
    until(lambda: disk.syncs == 2)
    for number in range(1, 100):
        journal.reserve(make_attempt(number))
        assert not journal._wake.is_set()
    disk.let_go.set()
    until(lambda: journal._waits_for_a_line)
    assert journal._active.synced == journal.position[1]
    journal.close()


def test_after_a_sync_the_next_line_is_merely_copied(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    """As long as lines keep coming, however far apart: the keeper has made room, and is not woken."""

    class Asked(ScriptedDisk):
        by_callers = 0

        def warm(self, mapped: mmap.mmap, start: int, length: int) -> None:
            super().warm(mapped, start, length)
            self.by_callers += threading.current_thread() is threading.main_thread()

    disk = Asked(allocates=True)
    journal = Journal(tmp_path / "journal", durability="group", group_s=0.001, disk=disk)
    before = disk.by_callers
    for number in range(100):
        journal.reserve(make_attempt(number))
        until(lambda: journal._active.synced == journal.position[1])
    assert disk.syncs > 100
    # A machine that stands still for a second makes the keeper rest, and then a caller has to ask.
    assert disk.by_callers - before < 20
    journal.close()


def leave(directory: Path, content: bytes) -> Path:
    """A journal of one segment, as a dead machine left it: content, then room that was not used."""
    directory.mkdir(parents=True)
    path = segment_path(directory, 1)
    path.write_bytes(content + bytes(64 << 10))
    return path


def test_room_that_was_not_used_is_no_damage_in_any_segment(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill can come before a full segment has been cut to its size."""
    first = leave(tmp_path / "journal", frame(Opened(make_attempt(1))))
    second = frame(Settled(make_attempt(1).id, make_settlement()))
    segment_path(first.parent, 2).write_bytes(second + bytes(8192))
    with caplog.at_level(logging.WARNING):
        Journal(first.parent).close()
    assert first.read_bytes() == frame(Opened(make_attempt(1)))
    assert segment_path(first.parent, 2).read_bytes() == second
    assert settled(first.parent) == {make_attempt(1).id: make_settlement()}
    assert caplog.messages == []
    assert not list(first.parent.glob("*.torn"))


def test_a_copy_that_a_kill_cut_off_is_torn(tmp_path: Path, written: Path) -> None:
    """A copy may put its last octets first: whatever part of the last line is there, all before it stands."""
    whole = written.read_bytes()
    begin = whole.rfind(b"\n", 0, len(whole) - 1) + 1
    for at in range(begin + 1, len(whole), 7):
        for part, content in (("front", whole[:at]), ("back", whole[:begin] + bytes(at - begin) + whole[at:])):
            path = leave(tmp_path / f"{part}-{at}" / "journal", content)
            Journal(path.parent).close()
            assert path.read_bytes() == whole[:begin]
            assert used(path.with_name("00000001.log.torn").read_bytes()).lstrip(b"\0") in whole[begin:]
            assert set(settled(path.parent)) == {"attempt-00000001", "attempt-00000002"}


def test_sectors_that_a_power_cut_left_out_do_not_stop_the_start(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    """What no sync has confirmed may be on the disk in any order; the lines that are whole all count."""
    lines = [
        frame(record)
        for number in range(12)
        for record in (Opened(make_attempt(number)), Settled(make_attempt(number).id, make_settlement()))
    ]
    whole = b"".join(lines)
    ends = [sum(map(len, lines[: place + 1])) for place in range(len(lines))]
    for sector in range(len(whole) // SECTOR_BYTES):
        start, end = sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES
        content = whole[:start] + bytes(SECTOR_BYTES) + whole[end:]
        path = leave(tmp_path / f"{sector}" / "journal", content)
        Journal(path.parent).close()
        untouched = [line for line, upto in zip(lines, ends, strict=True) if upto <= start or upto - len(line) >= end]
        assert path.read_bytes() == b"".join(untouched)
        assert path.with_name("00000001.log.torn").read_bytes() == content
        opened = {record.attempt.id for record in records(path.parent) if isinstance(record, Opened)}
        assert opened <= set(settled(path.parent))


def test_a_gap_beside_damage_is_left_as_it_is(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    first = whole.find(b"\n") + 1
    content = b"X" + whole[1:first] + whole[first:].ljust(2 * SECTOR_BYTES - first, b" ")[: SECTOR_BYTES - first]
    content = content.ljust(SECTOR_BYTES, b"y") + bytes(SECTOR_BYTES) + b"\n" + whole
    path = leave(tmp_path / "damaged" / "journal", content)
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="damaged at byte 0"):
        Journal(path.parent)
    assert path.read_bytes() == before


class Leaving:
    """A stream that nobody holds any more: the collector ends it, and so settles it, whenever it runs."""

    def __init__(self, journal: Journal, attempt_id: str, settlement: Settlement) -> None:
        self._settle: Callable[[], None] = partial(journal.settle, attempt_id, settlement)
        self._itself = self  # a cycle, which only the collector ends

    def __del__(self) -> None:
        self._settle()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_settlement_by_the_collector_in_the_middle_of_an_append_is_written_once(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, durability: Durability
) -> None:
    class Collecting(ScriptedDisk):
        def warm(self, mapped: mmap.mmap, start: int, length: int) -> None:
            super().warm(mapped, start, length)
            gc.collect()

    disk = Collecting(allocates=True)
    journal = Journal(tmp_path / "journal", durability=durability, disk=disk)
    for number in range(20):
        journal.reserve(make_attempt(number))
    Leaving(journal, make_attempt(3).id, make_settlement())
    while not settled(tmp_path / "journal"):
        journal._active.cool()
        journal.checkpoint(make_attempt(4).id, 1, 1)
    found = [record for record in records(tmp_path / "journal") if isinstance(record, Settled)]
    assert found == [Settled(make_attempt(3).id, make_settlement())]
    assert journal.unsaved == 0
    if durability == "sync":
        assert journal._active.synced == journal.position[1]
    journal.close()


def test_closing_says_what_it_could_not_write(
    tmp_path: Path,
    make_attempt: MakeAttempt,
    make_settlement: MakeSettlement,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = ScriptedDisk()
    journal = Journal(tmp_path / "journal", retry_s=0.01, disk=disk)
    journal.reserve(make_attempt())
    disk.full = True
    journal.settle(make_attempt().id, make_settlement())
    journal.close()
    assert any("never written" in message and make_attempt().id in message for message in caplog.messages)
    with pytest.raises(StoreUnavailable, match="shutting down"):
        journal.reserve(make_attempt(2))
