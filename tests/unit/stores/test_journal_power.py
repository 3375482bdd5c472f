"""Disks that fail, machines that stop at the worst moment: what a sync has confirmed is there at the next start."""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arkway.core.errors import StoreUnavailable
from arkway.ports import Attempt, Settlement
from arkway.stores.drain import Drain
from arkway.stores.framing import used
from arkway.stores.inspection import JournalReading
from arkway.stores.journal import OVERDUE_BYTES, Journal
from arkway.stores.segment import segment_numbers, segment_path
from arkway.stores.tables import Row
from tests.tools.journals import ScriptedDisk, settled
from tests.tools.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement

BOTH = pytest.mark.parametrize("allocates", [False, True])


class Platter(ScriptedDisk):
    """A disk that knows what of each file it has, and holds a sync back while it is told so.

    It is as kernels are: of a write that failed it tells once, to whoever syncs then. What had to be written never is,
    and later syncs of the file say that all is well.
    """

    def __init__(self, *, allocates: bool = False) -> None:
        super().__init__(allocates=allocates)
        self._kept: dict[int, bytes] = {}
        self._holes: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._under_way = self.most_at_once = 0
        self.loses = self.holds = False
        self.held, self.let_go = threading.Event(), threading.Event()
        self.cannot_cut = self.cannot_name = self.cannot_close = False
        self.named: list[Path] = []
        self.each_step: Callable[[], None] | None = None

    def sync(self, fd: int) -> None:
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            loses, self.loses = self.loses, False
            if loses:
                self._lose(fd)
            else:
                self._write_back(fd)
        if self.holds:
            self.holds = False
            self.held.set()
            assert self.let_go.wait(PATIENCE_S)
        with self._lock:
            self._under_way -= 1
        self.syncs += 1
        if loses:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._step()

    def cut(self, fd: int, size_bytes: int) -> None:
        self._step()
        if self.cannot_cut:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().cut(fd, size_bytes)
        self._write_back(fd)
        self._step()

    def sync_names(self, directory: Path) -> None:
        self._step()
        if self.cannot_name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_names(directory)
        self.named.append(directory)
        self._step()

    def close(self, fd: int) -> None:
        super().close(fd)
        if self.cannot_close:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def after_a_power_cut(self, directory: Path, image: Path, *, torn: bool = False) -> Path:
        """What is in the directory then. ``torn``: half of what no sync had to write has got there as well."""
        image.mkdir(parents=True)
        for path in directory.iterdir():
            if path.suffix in (".log", ".new"):
                content, kept = used(path.read_bytes()), self._kept.get(path.stat().st_ino, b"")
                rest = content[len(kept) :]
                kept += rest[: len(rest) // 2] if torn else b""
                (image / path.name).write_bytes(kept + bytes(4096))
        return image

    def _write_back(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        content = used(os.pread(fd, 1 << 24, 0))
        start, end = self._holes.get(inode, (0, 0))
        self._kept[inode] = content[:start] + bytes(len(content[start:end])) + content[end:]

    def _lose(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        self._holes[inode] = len(self._kept.get(inode, b"")), len(used(os.pread(fd, 1 << 24, 0)))

    def _step(self) -> None:
        if self.each_step is not None:
            self.each_step()


class Rows:
    """Where the drain puts its rows."""

    def __init__(self) -> None:
        self.found: dict[str, Row] = {}

    def insert(self, rows: list[Row]) -> None:
        for row in rows:
            self.found.setdefault(row["attempt_id"], row)

    def checkpoint_sync(self) -> bool:
        return False


class Calls:
    """Whole calls, by number."""

    def __init__(self, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> None:
        self._make_attempt, self._make_settlement = make_attempt, make_settlement

    def attempt(self, number: int) -> Attempt:
        return self._make_attempt(number)

    def settlement(self) -> Settlement:
        return self._make_settlement()

    def make(self, journal: Journal, *numbers: int) -> set[str]:
        for number in numbers:
            journal.reserve(self.attempt(number))
            journal.settle(self.attempt(number).id, self.settlement())
        return {self.attempt(number).id for number in numbers}


@pytest.fixture
def calls(make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> Calls:
    return Calls(make_attempt, make_settlement)


def opened_in(directory: Path) -> set[str]:
    """The names of the files there that this process has open, those that were deleted too."""
    found = set[str]()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed by another thread meanwhile
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {name.removeprefix(f"{directory}/") for name in found if name.startswith(f"{directory}/")}


def quiet(journal: Journal) -> bool:
    """The keeper has nothing to do: what is in the journal is confirmed."""
    return journal._waits_for_a_line and not journal.trouble


def started_again(image: Path) -> set[str]:
    Journal(image).close()
    return set(settled(image))


# A sync that fails while a segment gets full


@BOTH
def test_what_a_failed_sync_was_about_is_written_anew_although_the_segment_was_full(
    tmp_path: Path, calls: Calls, allocates: bool
) -> None:
    """Whoever syncs the file next hears of nothing: not even then is anything taken for safe."""
    disk = Platter(allocates=allocates)
    journal = Journal(tmp_path / "journal", segment_bytes=2000, group_s=0.001, retry_s=0.01, disk=disk)
    until(lambda: quiet(journal))
    disk.loses = disk.holds = True
    made = calls.make(journal, 1)
    assert disk.held.wait(PATIENCE_S)
    made |= calls.make(journal, *range(2, 20))
    disk.let_go.set()
    until(lambda: quiet(journal))
    made |= calls.make(journal, *range(20, 40))
    until(lambda: quiet(journal))
    image = disk.after_a_power_cut(tmp_path / "journal", tmp_path / "image")
    journal.close()
    assert started_again(image) == made


@BOTH
def test_a_segment_is_not_synced_twice_at_a_time(tmp_path: Path, calls: Calls, allocates: bool) -> None:
    """One of the two would hear that all is well, of lines that the other one was told are lost."""
    disk = Platter(allocates=allocates)
    journal = Journal(tmp_path / "journal", segment_bytes=2000, group_s=0.001, disk=disk)
    until(lambda: quiet(journal))
    disk.holds = True
    made = calls.make(journal, 1)
    assert disk.held.wait(PATIENCE_S)
    made |= calls.make(journal, *range(2, 60))
    assert journal.position[0] == 1
    disk.let_go.set()
    until(lambda: quiet(journal))
    made |= calls.make(journal, 60)
    assert journal.position[0] == 2
    assert disk.most_at_once == 1
    journal.close()
    assert set(settled(tmp_path / "journal")) == made


def test_a_sync_that_does_not_end_does_not_let_the_segment_grow_for_ever(
    tmp_path: Path, calls: Calls, make_attempt: MakeAttempt
) -> None:
    disk = Platter(allocates=True)
    journal = Journal(tmp_path / "journal", segment_bytes=2000, group_s=0.001, retry_s=0.01, disk=disk)
    until(lambda: quiet(journal))
    disk.holds = True
    journal.reserve(make_attempt(1))
    assert disk.held.wait(PATIENCE_S)
    long = "x" * (1 << 20)
    room = OVERDUE_BYTES // len(long)
    made = [make_attempt(number, key_id=long) for number in range(2, 2 + room)]
    for attempt in made:
        journal.reserve(attempt)
    with pytest.raises(StoreUnavailable, match="no billed call is taken"):
        journal.reserve(make_attempt(1000))
    assert "under way for too long" in journal.trouble
    journal.settle(make_attempt(1).id, calls.settlement())
    assert journal.unsaved == 1
    disk.let_go.set()
    until(lambda: quiet(journal))
    journal.reserve(make_attempt(1000))
    assert journal.position[0] == 2
    journal.close()
    assert set(settled(tmp_path / "journal")) == {make_attempt(1).id}


# Going on in a new segment


@BOTH
def test_a_power_cut_at_any_step_of_going_on_in_a_new_segment_leaves_a_journal_that_starts(
    tmp_path: Path, calls: Calls, allocates: bool
) -> None:
    disk = Platter(allocates=allocates)
    journal = Journal(tmp_path / "journal", group_s=0.001, retry_s=0.01, disk=disk)
    until(lambda: quiet(journal))
    safe = calls.make(journal, 1, 2)
    until(lambda: quiet(journal))
    images: list[Path] = []

    def cut() -> None:
        images.append(disk.after_a_power_cut(tmp_path / "journal", tmp_path / f"{len(images)}", torn=True))

    disk.loses, disk.each_step = True, cut
    made = safe | calls.make(journal, 3, 4)
    until(lambda: quiet(journal))
    assert len(images) >= 5
    found = [started_again(image) for image in images]
    assert all(safe <= each for each in found)
    assert found[-1] == made
    assert [made <= each for each in found] == sorted(made <= each for each in found), "what was safe once stays so"
    disk.each_step = None
    journal.close()
    assert set(settled(tmp_path / "journal")) == made


@BOTH
def test_lines_that_are_void_and_cannot_be_cut_off_are_read_by_nobody(
    tmp_path: Path, calls: Calls, allocates: bool
) -> None:
    disk = Platter(allocates=allocates)
    journal = Journal(tmp_path / "journal", group_s=0.001, retry_s=0.01, disk=disk)
    made = calls.make(journal, 1)
    until(lambda: quiet(journal))
    end = journal.position[1]
    disk.loses = disk.cannot_cut = True
    made |= calls.make(journal, 2, 3)
    until(lambda: quiet(journal))
    assert journal.position[0] == 2
    first = segment_path(tmp_path / "journal", 1)
    with first.open("r+b") as file:  # as after memory was short: what never got to the disk is read from there
        file.truncate(end)
        file.seek(end)
        file.write(b"\0" * 300 + b"what was there before\n")
    assert {row["attempt_id"] for row in JournalReading(tmp_path / "journal")} == made
    rows = Rows()
    drain = Drain(journal, rows, rows)
    drain.flush_sync(PATIENCE_S)
    assert set(rows.found) == made
    drain.close()
    journal.close()
    disk.cannot_cut = False
    again = Journal(tmp_path / "journal", disk=disk)
    assert first.stat().st_size == end
    again.close()
    assert set(settled(tmp_path / "journal")) == made


def test_a_segment_whose_name_may_not_last_is_none_and_leaves_nothing(tmp_path: Path, calls: Calls) -> None:
    disk = Platter()
    journal = Journal(tmp_path / "journal", segment_bytes=2000, durability="process", disk=disk)
    disk.cannot_name = True
    made = calls.make(journal, *range(20))
    assert segment_numbers(tmp_path / "journal") == [1]
    assert opened_in(tmp_path / "journal") == {"00000001.log", "lock"}
    disk.cannot_name = False
    made |= calls.make(journal, *range(20, 30))
    assert segment_numbers(tmp_path / "journal")[:2] == [1, 2]
    journal.close()
    assert set(settled(tmp_path / "journal")) == made


def test_the_keeper_goes_on_where_closing_a_file_tells_of_trouble(tmp_path: Path, calls: Calls) -> None:
    """As network file systems do; the descriptor is gone all the same."""
    disk = Platter()
    disk.cannot_close = True
    journal = Journal(tmp_path / "journal", segment_bytes=900, group_s=0.001, disk=disk)
    for number in range(10):
        calls.make(journal, number)
        until(lambda: quiet(journal))
    assert journal.position[0] > 1
    assert journal._active.synced == journal.position[1]
    journal.close()


# Starting


@BOTH
def test_what_a_killed_process_left_is_on_the_disk_before_there_is_a_newer_file(
    tmp_path: Path, calls: Calls, allocates: bool
) -> None:
    """A power cut soon after a start finds the old file whole: only the newest one may be torn."""
    journal = Journal(tmp_path / "first" / "journal", durability="process")
    made = calls.make(journal, *range(10))
    journal.close()
    left = tmp_path / "second" / "journal"
    left.mkdir(parents=True)
    segment_path(left, 1).write_bytes(used(segment_path(journal.directory, 1).read_bytes()))
    disk, images = Platter(allocates=allocates), list[Path]()

    def cut() -> None:
        images.append(disk.after_a_power_cut(left, tmp_path / f"{len(images)}", torn=True))

    disk.each_step = cut
    started = Journal(left, disk=disk)
    disk.each_step = None
    started.close()
    assert len(images) >= 3
    assert [started_again(image) for image in images][-1] == made
    assert any(segment_path(image, 2).exists() for image in images)


def test_the_journals_own_folder_lasts(tmp_path: Path) -> None:
    disk = Platter()
    Journal(tmp_path / "journal", disk=disk).close()
    assert disk.named[:2] == [tmp_path, tmp_path / "journal"]


# Settlements by the collector


class Leaving:
    """A stream that nobody holds any more: the collector ends it, and so settles it, whenever it runs."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._itself = self  # a cycle, which only the collector ends

    def __del__(self) -> None:
        self._settle()


def test_a_settlement_by_the_collector_in_an_append_that_fails_waits_with_the_others(
    tmp_path: Path, calls: Calls, make_attempt: MakeAttempt, caplog: pytest.LogCaptureFixture
) -> None:
    class Collecting(ScriptedDisk):
        def warm(self, mapped: mmap.mmap, start: int, length: int) -> None:
            gc.collect()
            super().warm(mapped, start, length)

    disk = Collecting(allocates=True)
    journal = Journal(tmp_path / "journal", durability="process", retry_s=0.01, disk=disk)
    journal.reserve(make_attempt(1))
    journal._active.cool()
    disk.full = True
    Leaving(partial(journal.settle, make_attempt(1).id, calls.settlement()))
    with pytest.raises(StoreUnavailable):
        journal.reserve(make_attempt(2))
    assert journal.unsaved == 1
    journal.close()
    assert any("never written" in message and make_attempt(1).id in message for message in caplog.messages)
