"""Sums and settled calls agree, whatever came when, however far the summing got, and after any restart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.stores.buckets import DAY_MS, HOUR_MS, MINUTE_MS, PERIODS, end_of, start_of
from arkway.stores.rollups import COUNTS, FIRST_MARKS, GROUPED, Rollups, flush, mark_minutes, roll
from arkway.stores.schema import rollup_marks, rollups, usage
from arkway.stores.store import Store, open_store
from arkway.stores.tables import plain_rows
from arkway.stores.usage import Grouping, UsageTable
from tests.tools.examples import examples
from tests.tools.waiting import until

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Tell = Callable[..., list[Row]]

# Two days before the end of a month, so that a few days have every kind of boundary in them.
START_MS = 1_793_232_000_000  # 2026-10-29
TENANTS = (("default", "default"),)
NUMBERS = itertools.count(1)

moments = st.one_of(
    st.integers(0, 5 * DAY_MS),
    st.builds(lambda day, step: day * DAY_MS + step, st.integers(0, 4), st.sampled_from((-1, 0, 1))),
    st.builds(lambda hour, step: hour * HOUR_MS + step, st.integers(0, 100), st.sampled_from((-1, 0, MINUTE_MS))),
).map(lambda offset: START_MS + max(0, offset))
outcomes = st.sampled_from(("done", "client_abort", "upstream_error", "refused", "interrupted"))
batches = st.tuples(st.just("calls"), st.lists(st.tuples(moments, outcomes), min_size=1, max_size=8))
steps = st.one_of(
    batches,
    batches,
    st.tuples(st.just("roll"), moments),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("replay"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("crash"), moments),
)
times: st.SearchStrategy[tuple[Grouping, ...]] = st.sampled_from(((), ("hour",), ("day",), ("month",)))
others: st.SearchStrategy[tuple[Grouping, ...]] = st.sampled_from(
    ((), ("model",), ("key", "endpoint"), ("caller",), ("project", "model"))
)
filters = st.sampled_from(({}, {"key": ("key-1",)}, {"caller": ("anna", "bert")}, {"model": ("model-0",), "key": ()}))
questions = st.tuples(st.tuples(moments, moments), times, others, filters)


class Died(Exception):
    """The process, in the middle of a transaction."""


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, min_size=1, max_size=10), asked=st.lists(questions, min_size=1, max_size=4))
def test_any_history_adds_up(
    shared_place: Any, make_row: MakeRow, tell: Tell, history: list[Any], asked: list[Any]
) -> None:
    project = f"p{next(NUMBERS)}"
    rows: list[Row] = []
    for kind, given_ in history:
        table = UsageTable(shared_place.store)
        if kind == "calls":
            new = [
                make_row(len(rows) + place, at_ms, project=project, outcome=outcome)
                for place, (at_ms, outcome) in enumerate(given_)
            ]
            rows += new
            table.insert(new)
        _act(shared_place, kind, given_, rows)
        for (one_ms, other_ms), span, other, where in asked:
            since_ms, until_ms = sorted((one_ms, other_ms))
            answer = UsageTable(shared_place.store).totals(
                (("default", project),), since_ms, until_ms, (*other, *span), where
            )
            assert answer == tell(rows, since_ms, until_ms, (*other, *span), where)
    flush(shared_place.store)
    assert kept(shared_place.store, project) == summed(rows)


def _act(place: Any, kind: str, at_ms: Any, rows: list[Row]) -> None:
    if kind == "roll":
        place.store.run_sync(lambda connection: roll(connection, at_ms, 0.0))
    elif kind == "flush":
        flush(place.store)
    elif kind == "replay" and rows:
        UsageTable(place.store).insert(rows)
    elif kind == "restart":
        place.restart()
    elif kind == "crash":

        def die(connection: sa.Connection) -> None:
            roll(connection, at_ms, 0.0)
            raise Died

        with pytest.raises(Died):
            place.store.run_sync(die)


def kept(store: Store, project: str) -> dict[tuple[Any, ...], tuple[int, ...]]:
    query = sa.select(rollups).where(rollups.c.project == project)
    found = store.run_sync(lambda connection: plain_rows(connection, query), read=True)
    names = ("period", "start_ms", *GROUPED)
    return {tuple(row[name] for name in names): tuple(row[name] for name in COUNTS) for row in found}


def summed(rows: list[Row]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        failed = int(row["outcome"] in ("upstream_error", "refused", "interrupted"))
        counts = (1, failed, *(row[name] for name in COUNTS[2:]))
        for period in PERIODS:
            group = [row[name] for name in GROUPED[:-1]] + ["" if period == "day_all" else row["caller"]]
            entry = sums.setdefault((period, start_of(period, row["opened_ms"]), *group), [0] * len(COUNTS))
            entry[:] = [old + new for old, new in zip(entry, counts, strict=True)]
    return {group: tuple(entry) for group, entry in sums.items()}


def test_a_late_call_opens_its_spans_again(store: Store, make_row: MakeRow) -> None:
    table = UsageTable(store)
    table.insert([make_row(1, START_MS)])
    flush(store)
    late = make_row(2, START_MS + 30_000)
    table.insert([late])
    assert table.totals(TENANTS, 0, 1 << 62, ())[0]["calls"] == 2
    assert flush(store) == len(PERIODS)
    assert flush(store) == 0
    assert kept(store, "default") == summed([make_row(1, START_MS), late])


def test_what_is_up_to_date_is_read_from_sums_alone(store: Store, make_row: MakeRow) -> None:
    """Proved by spoiling the calls: whoever reads them would notice."""
    table = UsageTable(store)
    table.insert([make_row(number, START_MS + number * HOUR_MS) for number in range(100)])
    flush(store)
    before = table.totals(TENANTS, 0, 1 << 62, ("key", "day"))
    store.run_sync(lambda connection: connection.execute(usage.update().values(prompt_tokens=0)))
    assert table.totals(TENANTS, 0, 1 << 62, ("key", "day")) == before
    edge = table.totals(TENANTS, START_MS + 1, 1 << 62, ())[0]
    assert edge["prompt_tokens"] == sum(10 + number for number in range(1, 100))


def test_spans_are_summed_up_once_they_have_ended(store: Store, make_row: MakeRow) -> None:
    UsageTable(store).insert([make_row(1, START_MS + 30_000), make_row(2, START_MS + 2 * HOUR_MS)])

    def periods_at(now_ms: int) -> set[tuple[str, int]]:
        while store.run_sync(lambda connection: roll(connection, now_ms, 1.0)):
            pass
        return {(period, start_ms) for period, start_ms, *_ in kept(store, "default")}

    assert periods_at(START_MS + 59_000) == set()
    assert periods_at(START_MS + 2 * MINUTE_MS) == {("minute", START_MS)}
    assert periods_at(START_MS + 2 * HOUR_MS) == {("minute", START_MS), ("hour", START_MS)}
    a_day_later = periods_at(START_MS + 2 * DAY_MS)
    assert {("day", START_MS), ("day_all", START_MS), ("hour", START_MS + 2 * HOUR_MS)} < a_day_later
    assert not [start_ms for period, start_ms in a_day_later if period == "month"]


def test_the_background_task_needs_no_other_help(tmp_path: Path, url: str, make_row: MakeRow) -> None:
    with open_store(tmp_path / "own.db", url, poll_s=0.02) as store:
        task = Rollups(store, lambda: START_MS + 60 * DAY_MS, budget_s=0.0)
        rows = [make_row(number, START_MS + number * MINUTE_MS) for number in range(50)]
        UsageTable(store).insert(rows)
        marks = sa.select(sa.func.count()).select_from(rollup_marks)
        until(lambda: store.run_sync(lambda connection: connection.scalar(marks), read=True) == 0)
        assert kept(store, "default") == summed(rows)
        assert task.flush_sync() == 0


def test_a_budget_of_nothing_still_gets_on(store: Store, make_row: MakeRow) -> None:
    UsageTable(store).insert([make_row(number, START_MS + number * MINUTE_MS) for number in range(20)])
    done = store.run_sync(lambda connection: roll(connection, None, 0.0))
    assert done == FIRST_MARKS


def test_marks_are_of_the_minutes_of_the_calls(store: Store, make_row: MakeRow) -> None:
    rows = [make_row(1, START_MS + 59_999), make_row(2, START_MS + 60_000), make_row(3, START_MS + 1)]
    store.run_sync(lambda connection: mark_minutes(connection, rows))
    found = store.run_sync(lambda connection: plain_rows(connection, sa.select(rollup_marks)), read=True)
    assert sorted((row["kind"], row["start_ms"]) for row in found) == [
        ("minute", START_MS),
        ("minute", START_MS + 60_000),
    ]


def test_a_database_of_before_sums_has_all_its_minutes_marked(tmp_path: Any) -> None:
    import sqlite3

    from arkway.stores.migration import migrate

    path = tmp_path / "old.db"
    migrate(path, "0002")
    connection = sqlite3.connect(path)
    for number in range(3):
        connection.execute(
            "INSERT INTO usage VALUES (?, '', 'default', 'default', 'k', 'e', 'm', 'v3', 'chat', ?, 0, 'done', "
            "1, 2, 0, 0, 'counted', 1, 1, '')",
            (f"a{number}", START_MS + number * 40_000),
        )
    connection.commit()
    connection.close()
    with open_store(path) as store:
        assert flush(store) == 2 + len(PERIODS) - 1
        assert sum(counts[0] for (period, *_), counts in kept(store, "default").items() if period == "hour") == 3


def test_months_have_their_own_lengths() -> None:
    february = start_of("month", 1_772_000_000_000)  # 2026-02-25
    assert end_of("month", february) - february == 28 * DAY_MS
    assert end_of("month", start_of("month", START_MS)) == START_MS + 3 * DAY_MS


def test_several_processes_write_and_sum_up_at_once(tmp_path: Path, url: str, make_row: MakeRow, tell: Tell) -> None:
    """No call slips in between a sum and its mark. Each thread has a connection of its own, as a process has."""
    rows = [make_row(number, START_MS + number * 997 % (3 * MINUTE_MS)) for number in range(600)]
    stores = [open_store(tmp_path / "many.db", url) for _ in range(4)]

    def write(store: Store, mine: list[Row]) -> None:
        for start in range(0, len(mine), 5):
            UsageTable(store).insert(mine[start : start + 5])

    def add_up(store: Store) -> None:
        for _ in range(60):
            store.run_sync(lambda connection: roll(connection, None, 0.002))

    work = [partial(write, stores[0], rows[::2]), partial(write, stores[1], rows[1::2])]
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(task) for task in (*work, *(partial(add_up, store) for store in stores[2:]))]
        for task in running:
            task.result()
    flush(stores[0])
    assert kept(stores[0], "default") == summed(rows)
    for store in stores:
        store.close()
