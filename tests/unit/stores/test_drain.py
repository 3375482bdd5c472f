from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from arkway.core.errors import StoreUnavailable
from arkway.stores import schema
from arkway.stores.drain import Drain, usage_row
from arkway.stores.journal import Journal
from arkway.stores.segment import segment_numbers
from arkway.stores.store import Store
from arkway.stores.tables import Row
from arkway.stores.usage import UsageTable
from tests.tools.waiting import until

if TYPE_CHECKING:
    from tests.unit.stores.conftest import MakeAttempt, MakeSettlement


class Rows:
    """Rows in memory, idempotent as the table is; refuses while ``down``."""

    def __init__(self) -> None:
        self.found: dict[str, Row] = {}
        self.batches: list[int] = []
        self.refusals = 0
        self.down = False
        self.on_disk = True

    def insert(self, rows: list[Row]) -> None:
        if self.down:
            self.refusals += 1
            raise StoreUnavailable("down")
        self.batches.append(len(rows))
        for row in rows:
            self.found.setdefault(row["attempt_id"], row)

    def checkpoint_sync(self) -> bool:
        return self.on_disk


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", segment_bytes=3000, durability="process")
    yield journal
    journal.close()


@pytest.fixture
def call(journal: Journal, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> Callable[[int], str]:
    def whole_call(number: int) -> str:
        journal.reserve(make_attempt(number))
        journal.checkpoint(make_attempt(number).id, 3, number)
        journal.settle(make_attempt(number).id, make_settlement(3, number))
        return make_attempt(number).id

    return whole_call


def count(store: Store) -> int:
    query = sa.select(sa.func.count()).select_from(schema.usage)
    return int(store.run_sync(lambda connection: connection.execute(query).scalar_one(), read=True))


async def test_a_settled_call_is_a_row_after_a_flush(
    journal: Journal, store: Store, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    drain = Drain(journal, UsageTable(store), store, interval_s=60)
    journal.reserve(make_attempt())
    journal.settle(make_attempt().id, make_settlement(3, 5, "瓦 \x00 '"))
    await drain.flush()
    (row,) = UsageTable(store).rows("default", "default", 0, 1 << 60, 10)
    nul = "\ufffd" if store.shared else "\0"  # which PostgreSQL's text cannot hold
    assert row == usage_row(make_attempt(), make_settlement(3, 5, f"瓦 {nul} '"))
    assert drain.lag == 0
    drain.close()


def test_rows_arrive_by_themselves(journal: Journal, call: Callable[[int], str]) -> None:
    rows = Rows()
    drain = Drain(journal, rows, rows)
    call(1)
    until(lambda: rows.found)
    drain.close()


def test_batches_are_bounded(tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> None:
    rows = Rows()
    journal = Journal(tmp_path / "large", durability="process")
    for number in range(500):
        journal.reserve(make_attempt(number))
        journal.settle(make_attempt(number).id, make_settlement())
    drain = Drain(journal, rows, rows, batch_rows=50)
    drain.flush_sync()
    assert len(rows.found) == 500
    assert max(rows.batches) == 50
    journal.close(drain.close())


def test_nothing_is_lost_while_the_database_is_away(journal: Journal, call: Callable[[int], str]) -> None:
    rows = Rows()
    rows.down = True
    drain = Drain(journal, rows, rows, interval_s=0.01)
    made = {call(number) for number in range(100)}
    with pytest.raises(StoreUnavailable, match="will be later"):
        drain.flush_sync(timeout_s=0.3)
    until(lambda: rows.refusals >= 2)
    assert drain.lag > 20_000
    assert segment_numbers(journal.directory)[0] == 1
    rows.down = False
    drain.flush_sync()
    assert set(rows.found) == made
    assert drain.lag == 0
    assert drain.close() == journal.position


def test_segments_go_when_they_are_drained_and_the_database_is_on_the_disk(
    journal: Journal, call: Callable[[int], str], make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    rows = Rows()
    rows.on_disk = False
    drain = Drain(journal, rows, rows, interval_s=0.01)
    journal.reserve(make_attempt(9999))
    for number in range(30):
        call(number)
    drain.flush_sync()
    time.sleep(0.05)
    assert segment_numbers(journal.directory)[0] == 1, "the first attempt is still open"
    journal.settle(make_attempt(9999).id, make_settlement())
    drain.flush_sync()
    time.sleep(0.05)
    assert segment_numbers(journal.directory)[0] == 1, "the rows are not on the disk"
    rows.on_disk = True
    until(lambda: segment_numbers(journal.directory) == [journal.position[0]])
    call(31)
    drain.flush_sync()
    assert len(rows.found) == 32
    drain.close()


def test_a_crash_between_the_commit_and_the_deletion_bills_nothing_twice(
    tmp_path: Path, journal: Journal, store: Store, call: Callable[[int], str]
) -> None:
    for number in range(60):
        call(number)
    shutil.copytree(journal.directory, tmp_path / "as-it-was")
    drain = Drain(journal, UsageTable(store), store)
    drain.flush_sync()
    first = UsageTable(store).rows("default", "default", 0, 1 << 60, 1000)
    drain.close()
    again = Journal(tmp_path / "as-it-was")
    second_drain = Drain(again, UsageTable(store), store)
    second_drain.flush_sync()
    assert UsageTable(store).rows("default", "default", 0, 1 << 60, 1000) == first
    assert len(first) == 60
    again.close(second_drain.close())
    assert segment_numbers(tmp_path / "as-it-was") == []


def test_a_clean_stop_leaves_no_journal_and_loses_no_late_call(
    tmp_path: Path, store: Store, make_attempt: MakeAttempt, make_settlement: MakeSettlement
) -> None:
    journal = Journal(tmp_path / "journal")
    drain = Drain(journal, UsageTable(store), store)
    journal.reserve(make_attempt(1))
    journal.settle(make_attempt(1).id, make_settlement())
    drained = drain.close()
    journal.reserve(make_attempt(2))
    journal.settle(make_attempt(2).id, make_settlement())
    journal.close(drained)
    assert count(store) == 1
    reopened = Journal(tmp_path / "journal")
    drain = Drain(reopened, UsageTable(store), store)
    reopened.close(drain.close())
    assert count(store) == 2
    assert segment_numbers(tmp_path / "journal") == []


def test_a_gap_in_the_numbers_is_stepped_over(journal: Journal, call: Callable[[int], str], tmp_path: Path) -> None:
    made = [call(number) for number in range(30)]
    journal.close()
    (journal.directory / "00000002.log").unlink()
    reopened = Journal(journal.directory)
    rows = Rows()
    drain = Drain(reopened, rows, rows)
    drain.flush_sync()
    assert {made[0], made[-1]} < set(rows.found)
    drain.close()
    reopened.close()


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 511, 700])
def test_a_batch_of_any_size_is_written_whole_and_each_call_once(
    store: Store, make_attempt: MakeAttempt, make_settlement: MakeSettlement, count: int
) -> None:
    """What is there already stays, whether it came with this batch or before it."""
    rows = [usage_row(make_attempt(number), make_settlement(3, number, "\x00 '")) for number in range(count)]
    again = [{**row, "completion_tokens": 9999} for row in rows]
    later = usage_row(make_attempt(count), make_settlement(3, count))
    table = UsageTable(store)
    table.insert([*rows, *again])
    table.insert([*again, later])
    found = table.rows("default", "default", 0, 1 << 60, 2000)
    nul = "\ufffd" if store.shared else "\0"
    expected = [{**row, "error": f"{nul} '"} for row in rows]
    assert sorted(found, key=lambda row: row["attempt_id"]) == [*expected, later]


def test_interrupted_calls_of_a_dead_process_become_rows(
    journal: Journal, make_attempt: MakeAttempt, store: Store
) -> None:
    journal.reserve(make_attempt(1))
    journal.checkpoint(make_attempt(1).id, 4, 48)
    journal.close()
    reopened = Journal(journal.directory)
    drain = Drain(reopened, UsageTable(store), store)
    drain.flush_sync()
    (row,) = UsageTable(store).rows("default", "default", 0, 1 << 60, 10)
    wanted: dict[str, Any] = {"outcome": "interrupted", "provenance": "counted", "completion_tokens": 48}
    assert {name: row[name] for name in wanted} == wanted
    reopened.close(drain.close())
