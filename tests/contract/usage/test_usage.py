"""Single calls: pages, filters, tenants, and deleting the old ones while the sums stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from arkway.core.audit import SERVER, Entry
from arkway.core.errors import StoreUnavailable
from arkway.stores.buckets import DAY_MS, HOUR_MS, MINUTE_MS
from arkway.stores.recorded import write_entry
from arkway.stores.retention import Pruning, Retention, prune
from arkway.stores.rollups import flush, pruned_ms
from arkway.stores.schema import audit, projects, usage
from arkway.stores.store import Store, open_store
from arkway.stores.usage import UsageTable
from tests.tools.waiting import until

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Tell = Callable[..., list[Row]]

START_MS = 1_793_232_000_000  # 2026-10-29
ALL = (0, 1 << 62)
MINE = (("default", "default"),)


def _calls(store: Store) -> int:
    count = sa.select(sa.func.count()).select_from(usage)
    return store.run_sync(lambda connection: connection.scalar(count) or 0, read=True)


def after_polls(store: Store, count: int) -> None:
    """Until whatever is done at every poll has had so many of them."""
    ticks: list[None] = []
    store.every_poll(lambda: ticks.append(None))
    until(lambda: len(ticks) > count)


@pytest.fixture
def other_project(store: Store) -> str:
    row = {"account": "default", "id": "other", "name": "other", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(projects.insert().values(row)))
    return "other"


def test_pages_hold_every_call_once_in_order(store: Store, make_row: MakeRow, other_project: str) -> None:
    table = UsageTable(store, page_rows=7)
    rows = [make_row(number, START_MS + number // 4, project=p) for p in ("default", "other") for number in range(30)]
    table.insert(list(reversed(rows)))
    assert table.tenants("default") == [("default", "default"), ("default", "other")]
    found = [row for page in table.pages(table.tenants(), *ALL, {}) for row in page]
    assert [row["attempt_id"] for row in found] == [row["attempt_id"] for row in rows]
    assert table.count(table.tenants(), *ALL, {}) == 60
    chosen = [row for page in table.pages(MINE, *ALL, {"model": ("model-1",)}) for row in page]
    assert len(chosen) == 15 == table.count(MINE, *ALL, {"model": ("model-1",)})


def test_totals_of_several_projects(store: Store, make_row: MakeRow, tell: Tell, other_project: str) -> None:
    table = UsageTable(store)
    rows = [make_row(number, START_MS + number, project=p) for p in ("default", "other") for number in range(9)]
    table.insert(rows)
    for by in (("project",), ("account",), ("model", "project"), ()):
        assert table.totals(table.tenants(), *ALL, by) == tell(rows, *ALL, by, {})
    assert table.totals(MINE, *ALL, ("project",)) == tell(rows[:9], *ALL, ("project",), {})


def test_nothing_adds_up_to_nothing(store: Store) -> None:
    assert UsageTable(store).totals(MINE, *ALL, ()) == []
    UsageTable(store).insert([])
    assert flush(store) == 0


def test_pruned_calls_leave_their_sums(store: Store, make_row: MakeRow, tell: Tell, other_project: str) -> None:
    table = UsageTable(store)
    rows = [
        make_row(number, START_MS + number * 13 * MINUTE_MS, project=p)
        for p in ("default", "other")
        for number in range(300)
    ]
    table.insert(rows)
    before_ms = START_MS + DAY_MS + 90_500
    whole_ms = before_ms - before_ms % MINUTE_MS
    heard: list[int] = []
    deleted = prune(store, before_ms, heard.append)
    assert deleted == sum(row["opened_ms"] < whole_ms for row in rows) == heard[-1] > 0
    assert _calls(store) == len(rows) - deleted
    tenants = table.tenants()
    for by in (("hour",), ("day", "project"), ("month", "caller"), ("model",), ()):
        assert table.totals(tenants, *ALL, by) == tell(rows, *ALL, by, {})
        since_ms = START_MS + 7 * HOUR_MS
        assert table.totals(tenants, since_ms, whole_ms + 1, by) == tell(rows, since_ms, whole_ms + 1, by, {})
    flush(store)
    assert table.totals(tenants, *ALL, ("day",)) == tell(rows, *ALL, ("day",), {})
    assert prune(store, before_ms) == 0


def test_what_was_pruned_and_comes_again_is_not_counted_again(store: Store, make_row: MakeRow) -> None:
    """A journal that a dead server left is written to the database again from its beginning."""
    table = UsageTable(store)
    rows = [make_row(number, START_MS + number * HOUR_MS) for number in range(48)]
    table.insert(rows)
    expected = table.totals(MINE, *ALL, ("day", "key"))
    prune(store, START_MS + DAY_MS)
    table.insert(rows)
    assert _calls(store) == 48
    assert table.totals(MINE, *ALL, ("day", "key")) == expected
    flush(store)
    assert table.totals(MINE, *ALL, ("day", "key")) == expected
    assert prune(store, START_MS + DAY_MS) == 24
    assert table.totals(MINE, *ALL, ("day", "key")) == expected


def test_the_edge_of_a_pruned_range_is_a_whole_minute(store: Store, make_row: MakeRow) -> None:
    table = UsageTable(store)
    table.insert([make_row(number, START_MS + number * 10_000) for number in range(12)])
    prune(store, START_MS + DAY_MS)
    (total,) = table.totals(MINE, START_MS + 30_000, START_MS + 70_000, ())
    assert total["calls"] == 12


def test_a_later_and_an_earlier_moment(store: Store, make_row: MakeRow) -> None:
    UsageTable(store).insert([make_row(number, START_MS + number * HOUR_MS) for number in range(48)])
    assert prune(store, START_MS + DAY_MS) == 24
    assert prune(store, START_MS + HOUR_MS) == 0
    assert prune(store, START_MS + 30 * HOUR_MS) == 6
    mark = store.run_sync(lambda connection: pruned_ms(connection, "default", "default"), read=True)
    assert mark == START_MS + 30 * HOUR_MS == UsageTable(store).pruned_ms(MINE)


def test_a_batch_that_fails_is_as_if_it_had_not_been(store: Store, make_row: MakeRow) -> None:
    table = UsageTable(store)
    table.insert([make_row(number, START_MS + number * HOUR_MS) for number in range(48)])
    before = table.totals(MINE, *ALL, ("day",))
    pruning = Pruning(START_MS + DAY_MS)

    def fail(connection: sa.Connection) -> bool:
        pruning.step(connection)
        raise sa.exc.OperationalError("DELETE", {}, Exception("disk full"))

    with pytest.raises(StoreUnavailable):
        store.run_sync(fail)
    assert _calls(store) == 48
    assert table.totals(MINE, *ALL, ("day",)) == before
    assert prune(store, START_MS + DAY_MS) == 24
    assert table.totals(MINE, *ALL, ("day",)) == before


def test_retention_prunes_by_itself_once_the_journal_is_drained(tmp_path: Path, url: str, make_row: MakeRow) -> None:
    now_ms = START_MS + 10 * DAY_MS
    drained = False
    with open_store(tmp_path / "own.db", url, poll_s=0.02) as store:
        entry = Entry("default", "", SERVER, "keys.create", "key-1")
        store.run_sync(lambda connection: write_entry(connection, entry))
        UsageTable(store).insert([make_row(number, START_MS + number * HOUR_MS) for number in range(240)])
        Retention(store, 3, lambda: now_ms, lambda: drained, every_s=0.0)
        after_polls(store, 5)
        assert _calls(store) == 240
        drained = True
        until(lambda: _calls(store) <= 72)
        assert _calls(store) == 72
        assert UsageTable(store).totals(MINE, *ALL, ())[0]["calls"] == 240
        count = sa.select(sa.func.count()).select_from(audit)
        assert store.run_sync(lambda connection: connection.scalar(count), read=True) == 1


def test_retention_of_nothing_deletes_nothing(tmp_path: Path, url: str, make_row: MakeRow) -> None:
    with open_store(tmp_path / "own.db", url, poll_s=0.02) as store:
        UsageTable(store).insert([make_row(1, START_MS)])
        Retention(store, 0, lambda: START_MS * 2, lambda: True, every_s=0.0)
        after_polls(store, 5)
        assert _calls(store) == 1
