"""The journal on a disk that fails or is full, and how lines get into a file."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from arkway.core.errors import StoreUnavailable
from arkway.stores.framing import used
from arkway.stores.journal import Durability, Journal
from arkway.stores.segment import LAST_LINE_BYTES, Disk, Segment, segment_path
from tests.tools.journals import ScriptedDisk, records, settled
from tests.tools.waiting import until

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement

DURABILITIES: tuple[Durability, ...] = get_args(Durability)


def test_one_write_for_each_entry_where_nothing_can_be_mapped(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    disk = ScriptedDisk()
    journal = Journal(tmp_path / "journal", disk=disk)
    for number in range(10):
        journal.reserve(make_attempt(number))
        journal.checkpoint(make_attempt(number).id, 1, 1)
        journal.settle(make_attempt(number).id, make_settlement())
    assert disk.writes == 30
    journal.close()


def test_no_write_for_a_mapped_entry(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", durability="process", disk=disk)
    for number in range(100):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    assert len(settled(tmp_path / "journal")) == 100
    assert disk.writes == 0
    assert disk.warmed < 100, "the file system is asked for many lines at a time"
    path = segment_path(tmp_path / "journal", 1)
    assert path.stat().st_size > journal.position[1]
    journal.close()
    assert path.stat().st_size == journal.position[1], "the room that was not used is given back"


def test_the_real_disk_maps_where_the_file_system_allows_it(tmp_path: Path) -> None:
    """Whatever the folder for temporary files is on: a line is in the file, and the kernel's word is asked first."""
    segment = Segment(tmp_path / "00000001.log", 1, full_bytes=1 << 20)
    segment.append(b"one\n")
    segment.append(b"two\n")
    assert used(segment.path.read_bytes()) == b"one\ntwo\n"
    assert segment.path.stat().st_size == ((1 << 20) + LAST_LINE_BYTES if segment.is_mapped else 8)
    segment.close()
    assert segment.path.read_bytes() == b"one\ntwo\n"


def test_the_kernel_says_that_a_page_cannot_be_had_and_does_not_kill(tmp_path: Path) -> None:
    segment = Segment(tmp_path / "00000001.log", 1, full_bytes=1 << 20)
    if not segment.is_mapped:
        segment.close()
        pytest.skip("the folder for temporary files cannot be mapped")
    os.ftruncate(segment.fd, 0)  # a page that is gone is met as one that the disk does not give
    with pytest.raises(OSError, match="takes no writes"):
        segment.append(b"x" * 100_000)
    assert segment.size == 0
    segment.close()


def test_a_file_system_that_may_need_more_room_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="may need more room"), open("/proc/self/status", "rb") as file:
        Disk().allocate(file.fileno(), 1)


def test_a_line_that_is_longer_than_the_room_is_written(tmp_path: Path) -> None:
    disk = ScriptedDisk(allocates=True)
    segment = Segment(tmp_path / "00000001.log", 1, disk, full_bytes=8192)
    lines = [b"short\n", b"x" * 30_000 + b"\n", b"after\n"]
    for line in lines:
        segment.append(line)
    assert not segment.is_mapped
    assert disk.writes == 2
    assert segment.path.read_bytes() == b"".join(lines)
    assert segment.size == sum(map(len, lines))
    segment.close()


# Trouble with the disk


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_fail_write_n_for_every_n(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, short: bool, code: int
) -> None:
    """Whatever write fails: what was acknowledged is there, what was refused is not, and the files are whole."""
    for failing in range(1, 14):
        directory = tmp_path / f"{failing}"
        disk = ScriptedDisk(fail_writes=frozenset({failing}), short=short, code=code)
        journal = Journal(directory, segment_bytes=900, retry_s=0.001, disk=disk)
        taken = []
        for number in range(4):
            attempt = make_attempt(number)
            try:
                journal.reserve(attempt)
            except StoreUnavailable:
                continue
            taken.append(attempt.id)
            journal.checkpoint(attempt.id, 3, 5)
            journal.settle(attempt.id, make_settlement())
        assert len(taken) == (3 if failing in (1, 4, 7, 10) else 4)
        until(lambda journal=journal: not journal.unsaved and not journal.trouble)  # type: ignore[misc]
        journal.close()
        assert settled(directory) == dict.fromkeys(taken, make_settlement())


def test_a_disk_without_room_for_the_next_segment_is_used_up_to_its_end(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, caplog: pytest.LogCaptureFixture
) -> None:
    """Allocated room is used up although the disk is full; then calls are refused until there is room again."""
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", segment_bytes=4000, retry_s=0.01, durability="process", disk=disk)
    room_for = journal.position[0]
    taken: list[str] = []
    disk.allocates = False
    while journal.position[0] == room_for:
        attempt = make_attempt(len(taken))
        journal.reserve(attempt)
        journal.settle(attempt.id, make_settlement())
        taken.append(attempt.id)
    assert disk.writes, "the second segment is written, since it could not be mapped"
    disk.full = True
    with pytest.raises(StoreUnavailable):
        journal.reserve(make_attempt(9999))
    disk.full, disk.allocates = False, True
    until(lambda: not journal.trouble)
    number = journal.position[0]
    while journal.position[0] == number:
        journal.reserve(make_attempt(len(taken)))
        journal.settle(make_attempt(len(taken)).id, make_settlement())
        taken.append(make_attempt(len(taken)).id)
    writes = disk.writes
    journal.reserve(make_attempt(len(taken)))
    assert disk.writes == writes, "the third one is mapped again"
    journal.close()
    assert set(settled(tmp_path / "journal")) == set(taken)


def test_a_mapped_disk_that_takes_no_writes_refuses_new_calls_and_keeps_settlements(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    """As when the kernel makes a file system read-only: told when pages are asked for, not met in a copy."""
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", durability="sync", retry_s=0.01, disk=disk)
    journal.reserve(make_attempt(1))
    journal.settle(make_attempt(1).id, make_settlement())
    journal.reserve(make_attempt(2))
    disk.full = True
    journal.settle(make_attempt(2).id, make_settlement())  # its page has been asked for
    journal.checkpoint(make_attempt(2).id, 1, 1)
    with pytest.raises(StoreUnavailable, match="no billed call is taken"):
        journal.reserve(make_attempt(3))
    journal.settle(make_attempt(4).id, make_settlement())
    assert journal.unsaved == 1
    assert "the file system takes no writes" in journal.trouble
    disk.full = False
    until(lambda: not journal.trouble)
    journal.close()
    assert set(settled(tmp_path / "journal")) == {make_attempt(number).id for number in (1, 2, 4)}
    assert make_attempt(3).id not in str(records(tmp_path / "journal"))


def test_every_sync_makes_the_pages_be_asked_for_again(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", group_s=0.001, disk=disk)
    for number in range(3):
        warmed, synced = disk.warmed, disk.syncs
        journal.reserve(make_attempt(number))
        assert disk.warmed == warmed + 1
        until(lambda synced=synced: disk.syncs > synced and journal._waits_for_a_line)  # type: ignore[misc]
    journal.close()


def test_pages_are_asked_for_again_where_the_kernel_alone_syncs(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    disk = ScriptedDisk(allocates=True)
    journal = Journal(tmp_path / "journal", durability="process", disk=disk)
    for number in range(3):
        warmed = disk.warmed
        journal.reserve(make_attempt(number))
        assert disk.warmed == warmed + 1
        until(lambda: not journal._active.is_warm and journal._waits_for_a_line)
    journal.close()


def test_an_opening_that_finds_no_room_to_map_is_served_by_writes(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    disk = ScriptedDisk()
    journal = Journal(tmp_path / "journal", disk=disk)
    journal.reserve(make_attempt())
    assert (disk.allocated, disk.writes) == (1, 1)
    assert segment_path(tmp_path / "journal", 1).stat().st_size == journal.position[1]
    journal.close()


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_refuses_new_calls_and_keeps_settlements_until_there_is_room(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, short: bool
) -> None:
    disk = ScriptedDisk(short=short)
    journal = Journal(tmp_path / "journal", retry_s=0.01, disk=disk)
    journal.reserve(make_attempt(1))
    disk.full = True
    with pytest.raises(StoreUnavailable, match="no billed call is taken"):
        journal.reserve(make_attempt(2))
    journal.checkpoint(make_attempt(1).id, 1, 1)
    journal.settle(make_attempt(1).id, make_settlement())
    assert journal.unsaved == 1
    assert "No space left" in journal.trouble or short
    time.sleep(0.05)
    assert settled(tmp_path / "journal") == {}
    disk.full = False
    until(lambda: not journal.trouble)
    assert journal.unsaved == 0
    assert settled(tmp_path / "journal") == {make_attempt(1).id: make_settlement()}
    journal.reserve(make_attempt(3))
    journal.close()


def test_trouble_ends_by_itself_without_any_call(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    disk = ScriptedDisk()
    journal = Journal(tmp_path / "journal", retry_s=0.01, disk=disk)
    disk.full = True
    with pytest.raises(StoreUnavailable):
        journal.reserve(make_attempt())
    assert journal.trouble
    disk.full = False
    until(lambda: not journal.trouble)
    journal.close()


@pytest.mark.parametrize("durability", ["group", "sync"])
@pytest.mark.parametrize("allocates", [False, True])
def test_after_a_failed_sync_nothing_is_taken_until_the_lines_are_safe_in_a_new_segment(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, durability: Durability, allocates: bool
) -> None:
    disk = ScriptedDisk(allocates=allocates)
    directory = tmp_path / "journal"
    journal = Journal(directory, durability=durability, group_s=0.001, retry_s=0.02, disk=disk)
    for number in (1, 2):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    until(lambda: durability == "sync" or journal._waits_for_a_line)
    safe = journal.position[1]
    disk.fail_syncs = True
    journal.reserve(make_attempt(3))
    journal.settle(make_attempt(3).id, make_settlement())
    until(lambda: "sync of the journal failed" in journal.trouble)
    with pytest.raises(StoreUnavailable, match="reopened after a disk error"):
        journal.reserve(make_attempt(4))
    disk.fail_syncs = False
    until(lambda: not journal.trouble)
    assert len(used(segment_path(directory, 1).read_bytes())) == safe
    journal.reserve(make_attempt(5))
    journal.settle(make_attempt(5).id, make_settlement())
    journal.close()
    assert sorted(settled(directory)) == [make_attempt(number).id for number in (1, 2, 3, 5)]


@pytest.mark.parametrize("allocates", [False, True])
def test_a_settlement_made_while_the_journal_is_being_reopened_waits(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, allocates: bool
) -> None:
    disk = ScriptedDisk(allocates=allocates)
    journal = Journal(tmp_path / "journal", group_s=0.001, retry_s=0.05, disk=disk)
    disk.fail_syncs = True
    journal.reserve(make_attempt())
    until(lambda: bool(journal.trouble))
    journal.settle(make_attempt().id, make_settlement())
    assert journal.unsaved == 1
    disk.fail_syncs = False
    until(lambda: not journal.trouble)
    assert settled(tmp_path / "journal") == {make_attempt().id: make_settlement()}
    journal.close()


@pytest.mark.parametrize("allocates", [False, True])
def test_a_failed_sync_does_not_stop_the_durability_that_promises_none(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, allocates: bool
) -> None:
    disk = ScriptedDisk(allocates=allocates)
    journal = Journal(tmp_path / "journal", durability="process", segment_bytes=900, disk=disk)
    disk.fail_syncs = True
    for number in range(6):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    journal.close()
    assert len(settled(tmp_path / "journal")) == 6
