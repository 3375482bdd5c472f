from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from arkway.core.chat import Usage
from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.ports import Settlement
from arkway.stores.framing import Opened, Record, Settled, Spent
from arkway.stores.journal import TOKENS_MAX, Durability, Journal
from arkway.stores.recovery import read_segment
from arkway.stores.segment import segment_numbers, segment_path
from tests.tools.waiting import until

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement

DURABILITIES: tuple[Durability, ...] = get_args(Durability)


def records(directory: Path) -> list[Record]:
    """Everything in the directory, after checking that every line is whole."""
    found: list[Record] = []
    for number in segment_numbers(directory):
        path = segment_path(directory, number)
        more, size = read_segment(path, is_last=False)
        assert size == path.stat().st_size
        found += more
    return found


def settled(directory: Path) -> dict[str, Settlement]:
    endings: dict[str, Settlement] = {}
    for record in records(directory):
        if isinstance(record, Settled):
            endings.setdefault(record.attempt_id, record.settlement)
    return endings


class Disk:
    """Stands for ``os.write`` and ``os.fdatasync``: fails the calls whose numbers (from 1) it was given."""

    def __init__(
        self, *, fail_writes: frozenset[int] = frozenset(), short: bool = False, code: int = errno.ENOSPC
    ) -> None:
        self.fail_writes, self.short, self.code = fail_writes, short, code
        self.fail_syncs = False
        self.full = False
        self.writes = self.syncs = 0

    def write(self, fd: int, data: bytes) -> int:
        self.writes += 1
        if not self.full and self.writes not in self.fail_writes:
            return os.write(fd, data)
        if self.short:
            return os.write(fd, data[: len(data) // 2])
        raise OSError(self.code, os.strerror(self.code))

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.fail_syncs:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_every_line_is_in_the_file_when_the_call_returns(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, durability: Durability
) -> None:
    journal = Journal(tmp_path / "journal", durability=durability)
    attempt = make_attempt()
    journal.reserve(attempt)
    journal.checkpoint(attempt.id, 3, 16)
    journal.settle(attempt.id, make_settlement())
    assert records(tmp_path / "journal") == [
        Opened(attempt),
        Spent(attempt.id, 3, 16),
        Settled(attempt.id, make_settlement()),
    ]
    journal.close()


def test_one_write_for_each_entry(tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> None:
    disk = Disk()
    journal = Journal(tmp_path / "journal", write=disk.write)
    for number in range(10):
        journal.reserve(make_attempt(number))
        journal.checkpoint(make_attempt(number).id, 1, 1)
        journal.settle(make_attempt(number).id, make_settlement())
    assert disk.writes == 30
    journal.close()


def test_files_are_private(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    journal = Journal(tmp_path / "journal")
    journal.reserve(make_attempt())
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "journal").iterdir())
    journal.close()


def test_a_new_segment_begins_when_one_is_full(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    journal = Journal(tmp_path / "journal", segment_bytes=2000)
    for number in range(40):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    numbers = segment_numbers(tmp_path / "journal")
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 5
    assert all(segment_path(tmp_path / "journal", number).stat().st_size < 2600 for number in numbers)
    assert len(settled(tmp_path / "journal")) == 40
    journal.close()


def test_one_owner(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "home" / "journal")
    with pytest.raises(Misconfigured, match=f"another Arkway server \\(process {os.getpid()}\\) is using .*home"):
        Journal(tmp_path / "home" / "journal")
    journal.close()
    Journal(tmp_path / "home" / "journal").close()


def test_the_lock_goes_with_a_killed_owner(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from arkway.stores.journal import Journal\n"
        "j = Journal(pathlib.Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "journal"], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        with pytest.raises(Misconfigured):
            Journal(tmp_path / "journal")
        owner.kill()
    Journal(tmp_path / "journal").close()


def test_absurd_counts_are_bounded_and_odd_text_is_taken(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    journal = Journal(tmp_path / "journal")
    journal.reserve(make_attempt())
    journal.checkpoint(make_attempt().id, -1, 1 << 80)
    usage = Usage(-5, 1 << 63, 1 << 200, 0, "counted")
    journal.settle(make_attempt().id, Settlement("upstream_error", usage, 1, error="half a pair \ud800 \x00\n"))
    ending = settled(tmp_path / "journal")[make_attempt().id]
    assert ending.usage == Usage(0, TOKENS_MAX, TOKENS_MAX, 0, "counted")
    assert ending.error.startswith("half a pair ")
    journal.close()


# Recovery


def test_open_attempts_are_settled_at_their_last_checkpoint(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    journal = Journal(tmp_path / "journal", segment_bytes=600)
    for number in (1, 2, 3):
        journal.reserve(make_attempt(number))
    journal.checkpoint(make_attempt(2).id, 7, 16)
    journal.checkpoint(make_attempt(2).id, 7, 32)
    journal.settle(make_attempt(3).id, make_settlement())
    journal.close()
    Journal(tmp_path / "journal", now_ms=lambda: 1_750_000_009_000).close()
    endings = settled(tmp_path / "journal")
    assert endings[make_attempt(1).id] == Settlement(
        "interrupted", Usage(0, 0, provenance="counted"), 1_750_000_009_000
    )
    assert endings[make_attempt(2).id].usage == Usage(7, 32, provenance="counted")
    assert endings[make_attempt(3).id] == make_settlement()
    Journal(tmp_path / "journal").close()
    assert sum(isinstance(record, Settled) for record in records(tmp_path / "journal")) == 3


@pytest.fixture
def written(tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> Path:
    """The one segment of a journal that was left with one attempt settled and one open."""
    journal = Journal(tmp_path / "left" / "journal")
    journal.reserve(make_attempt(1))
    journal.settle(make_attempt(1).id, make_settlement())
    journal.reserve(make_attempt(2))
    journal.checkpoint(make_attempt(2).id, 3, 16)
    journal.close()
    return segment_path(tmp_path / "left" / "journal", 1)


def reopened(tmp_path: Path, name: str, content: bytes) -> Path:
    directory = tmp_path / name / "journal"
    directory.mkdir(parents=True)
    segment_path(directory, 1).write_bytes(content)
    Journal(directory).close()
    return directory


def test_cut_at_every_octet(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    cut = tmp_path / "cut.log"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        found, good_bytes = read_segment(cut, is_last=True)
        assert good_bytes == whole.rfind(b"\n", 0, length) + 1
        assert len(found) == whole[:length].count(b"\n")


def test_a_torn_tail_is_cut_off_and_kept_beside(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    for length in {*range(0, len(whole), 41), len(whole) - 1}:
        directory = reopened(tmp_path, f"cut-{length}", whole[:length])
        kept = segment_path(directory, 1).read_bytes()
        assert kept == whole[: whole.rfind(b"\n", 0, length) + 1]
        torn = segment_path(directory, 1).with_name("00000001.log.torn")
        assert (torn.read_bytes() if torn.exists() else b"") == whole[len(kept) : length]
        opened = {record.attempt.id for record in records(directory) if isinstance(record, Opened)}
        assert set(settled(directory)) == opened


def test_a_flipped_octet_is_refused_in_the_middle_and_cut_off_at_the_end(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    last_line = whole.rfind(b"\n", 0, len(whole) - 1) + 1
    for at in sorted({*range(0, len(whole), 64), last_line - 1, last_line, len(whole) - 1}):
        broken = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        if at >= last_line:
            directory = reopened(tmp_path, f"flip-{at}", broken)
            assert segment_path(directory, 1).read_bytes() == whole[:last_line]
            continue
        start = whole.rfind(b"\n", 0, at) + 1
        with pytest.raises(Misconfigured, match=f"00000001.log is damaged at byte {start} .*sed -i") as caught:
            reopened(tmp_path, f"flip-{at}", broken)
        assert "Nothing was changed" in caught.value.message
        assert (tmp_path / f"flip-{at}" / "journal" / "00000001.log").read_bytes() == broken


def test_the_way_out_that_the_message_names_works(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    with pytest.raises(Misconfigured) as caught:
        reopened(tmp_path, "refused", b"X" + whole[1:])
    subprocess.run(caught.value.message.split("with: ")[1], shell=True, check=True)
    Journal(tmp_path / "refused" / "journal").close()
    assert settled(tmp_path / "refused" / "journal")["attempt-00000002"].usage.completion_tokens == 16


def test_a_torn_tail_in_an_older_segment_is_refused(tmp_path: Path, written: Path) -> None:
    directory = written.parent
    Journal(directory).close()
    written.write_bytes(written.read_bytes()[:-5])
    with pytest.raises(Misconfigured, match=r"00000001.log is damaged .*cut off"):
        Journal(directory)


# Trouble with the disk


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_fail_write_n_for_every_n(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, short: bool, code: int
) -> None:
    """Whatever write fails: what was acknowledged is there, what was refused is not, and the files are whole."""
    for failing in range(1, 14):
        directory = tmp_path / f"{failing}"
        disk = Disk(fail_writes=frozenset({failing}), short=short, code=code)
        journal = Journal(directory, segment_bytes=900, retry_s=0.001, write=disk.write)
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


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_refuses_new_calls_and_keeps_settlements_until_there_is_room(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, short: bool
) -> None:
    disk = Disk(short=short)
    journal = Journal(tmp_path / "journal", retry_s=0.01, write=disk.write)
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
    disk = Disk()
    journal = Journal(tmp_path / "journal", retry_s=0.01, write=disk.write)
    disk.full = True
    with pytest.raises(StoreUnavailable):
        journal.reserve(make_attempt())
    assert journal.trouble
    disk.full = False
    until(lambda: not journal.trouble)
    journal.close()


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_after_a_failed_sync_nothing_is_taken_until_the_lines_are_safe_in_a_new_segment(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement, durability: Durability
) -> None:
    disk = Disk()
    directory = tmp_path / "journal"
    journal = Journal(directory, durability=durability, group_s=0.001, retry_s=0.02, write=disk.write, sync=disk.sync)
    for number in (1, 2):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    until(lambda: durability == "sync" or disk.syncs >= 2)
    time.sleep(0.02)
    safe = segment_path(directory, 1).stat().st_size
    disk.fail_syncs = True
    journal.reserve(make_attempt(3))
    journal.settle(make_attempt(3).id, make_settlement())
    until(lambda: "sync of the journal failed" in journal.trouble)
    with pytest.raises(StoreUnavailable, match="reopened after a disk error"):
        journal.reserve(make_attempt(4))
    disk.fail_syncs = False
    until(lambda: not journal.trouble)
    assert segment_path(directory, 1).stat().st_size == safe
    journal.reserve(make_attempt(5))
    journal.settle(make_attempt(5).id, make_settlement())
    journal.close()
    assert sorted(settled(directory)) == [make_attempt(number).id for number in (1, 2, 3, 5)]


def test_a_settlement_made_while_the_journal_is_being_reopened_waits(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    disk = Disk()
    journal = Journal(tmp_path / "journal", group_s=0.001, retry_s=0.05, sync=disk.sync)
    disk.fail_syncs = True
    journal.reserve(make_attempt())
    until(lambda: bool(journal.trouble))
    journal.settle(make_attempt().id, make_settlement())
    assert journal.unsaved == 1
    disk.fail_syncs = False
    until(lambda: not journal.trouble)
    assert settled(tmp_path / "journal") == {make_attempt().id: make_settlement()}
    journal.close()


def test_a_failed_sync_does_not_stop_the_durability_that_promises_none(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    disk = Disk()
    journal = Journal(tmp_path / "journal", durability="process", segment_bytes=900, sync=disk.sync)
    disk.fail_syncs = True
    for number in range(6):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    journal.close()
    assert len(settled(tmp_path / "journal")) == 6


# Power cuts: what a sync has confirmed is what a power cut leaves


def test_sync_leaves_every_settlement_on_the_disk(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    on_disk: dict[int, int] = {}

    def sync(fd: int) -> None:
        on_disk[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    journal = Journal(tmp_path / "journal", durability="sync", segment_bytes=1500, sync=sync)
    for number in range(20):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
        paths = [segment_path(tmp_path / "journal", n) for n in segment_numbers(tmp_path / "journal")]
        assert all(on_disk[path.stat().st_ino] == path.stat().st_size for path in paths)
    journal.close()


def test_group_syncs_soon_after_a_write_and_not_when_idle(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    syncs: list[int] = []
    journal = Journal(tmp_path / "journal", durability="group", group_s=0.1, sync=syncs.append)
    syncs.clear()
    for number in range(200):
        journal.reserve(make_attempt(number))
    until(lambda: syncs and not journal._dirty)
    assert len(syncs) < 20
    after = len(syncs)
    time.sleep(0.3)
    assert len(syncs) == after
    journal.close()


def test_closing_says_what_it_could_not_write(
    tmp_path: Path,
    make_attempt: MakeAttempt,
    make_settlement: MakeSettlement,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = Disk()
    journal = Journal(tmp_path / "journal", retry_s=0.01, write=disk.write)
    journal.reserve(make_attempt())
    disk.full = True
    journal.settle(make_attempt().id, make_settlement())
    journal.close()
    assert any("never written" in message and make_attempt().id in message for message in caplog.messages)
    with pytest.raises(StoreUnavailable, match="shutting down"):
        journal.reserve(make_attempt(2))
