from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from arkway.core.chat import Usage
from arkway.core.errors import Misconfigured
from arkway.ports import Settlement
from arkway.stores.framing import TOKENS_MAX, Opened, Settled, Spent, used
from arkway.stores.journal import Durability, Journal
from arkway.stores.recovery import read_segment
from arkway.stores.segment import segment_numbers, segment_path
from tests.tools.journals import records, settled

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement

DURABILITIES: tuple[Durability, ...] = get_args(Durability)


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


def test_files_are_private(tmp_path: Path, make_attempt: MakeAttempt) -> None:
    journal = Journal(tmp_path / "journal")
    journal.reserve(make_attempt())
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "journal").iterdir())
    journal.close()


def test_a_new_segment_begins_when_one_is_full(
    tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    journal = Journal(tmp_path / "journal", segment_bytes=2000, durability="process")
    for number in range(40):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    numbers = segment_numbers(tmp_path / "journal")
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 5
    sizes = [len(used(segment_path(tmp_path / "journal", number).read_bytes())) for number in numbers]
    assert all(2000 <= size < 2600 for size in sizes[:-1])
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
