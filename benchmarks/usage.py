"""What questions about usage cost: sums by day, key, model and caller over a month and a year; keeping and pruning.

The calls of one year are spread evenly over it, over keys, models and callers: the worst case for sums, of which then
few have more than one call a minute in them. They are written in bulk; the rest is the server's own code.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from arkway.stores.buckets import DAY_MS, RAW
from arkway.stores.retention import Pruning
from arkway.stores.rollups import BUDGET_S, roll, within
from arkway.stores.schema import rollup_marks, rollups, usage
from arkway.stores.store import Store, open_store
from arkway.stores.usage import Grouping, UsageTable
from benchmarks.report import Options, Report, Table, quantile

# ``ARKWAY_USAGE_ROWS`` says how many calls of a year.
ROWS = int(os.environ.get("ARKWAY_USAGE_ROWS", "10000000"))
QUICK_ROWS = 200_000
KEYS, MODELS, CALLERS_PER_KEY = 50, 5, 40
START_MS = 1_764_547_200_000  # 2025-12-01
YEAR_MS, MONTH_MS = 365 * DAY_MS, 30 * DAY_MS
TENANTS = (("default", "default"),)
WRITTEN_AT_ONCE = 200_000
ROLLED_S = 60.0
CATCHING_UP_S = 1.0
# As a server is set up: housekeeping on, and every commit on the disk. The naptime is short as the year is.
POSTGRES = {
    "autovacuum": "on",
    "autovacuum_naptime": "10s",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
}
QUESTIONS: tuple[tuple[Grouping, ...], ...] = (("day",), ("key",), ("model",), ("caller",), ("key", "day"))


class Figures(NamedTuple):
    """What was measured on one kind of database."""

    queries_ms: dict[str, float]
    rolls: dict[str, float]
    prune: dict[str, float]
    sizes: dict[str, float]


def measure(options: Options) -> Report:
    """SQLite, and PostgreSQL where its server's wheel is installed."""
    rows = QUICK_ROWS if options.quick else ROWS
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="arkway-bench-") as folder:
        for kind, url in _databases():
            with open_store(Path(folder) / "arkway.db", url) as store:
                found[kind] = _measured(store, rows)
    return Report({kind: figures._asdict() for kind, figures in found.items()}, _tables(found, rows))


def _databases() -> Iterator[tuple[str, str]]:
    yield "SQLite", ""
    with contextlib.suppress(ImportError):
        from tests.tools.servers import new_postgres

        for server in new_postgres(**POSTGRES):
            yield "PostgreSQL", server.database()


def _measured(store: Store, rows: int) -> Figures:
    filled_s = fill(store, rows)
    rolls = summed(store)
    queries = {}
    until_ms = START_MS + YEAR_MS
    for name, since_ms in (("month", until_ms - MONTH_MS - DAY_MS // 3), ("year", START_MS + DAY_MS // 3)):
        for by in QUESTIONS:
            queries[f"{name} by {', '.join(by)}"] = asked_ms(store, since_ms, until_ms - 30_500, by)
    prune = pruned(store, START_MS + 60 * DAY_MS)
    return Figures(queries, {"filled_s": filled_s, **rolls}, prune, _sizes(store))


def fill(store: Store, rows: int) -> float:
    """Write the calls of a year and mark their minutes; seconds."""
    started_s = time.monotonic()
    base = min(rows, WRITTEN_AT_ONCE)
    store.run_sync(partial(_write, [_row(number, rows) for number in range(base)]))
    for copy in range(1, rows // base):
        store.run_sync(partial(_copied, copy, base * YEAR_MS // rows))
    minute = usage.c.opened_ms - usage.c.opened_ms % sa.literal_column("60000")
    marks = sa.select(sa.literal("minute"), minute, usage.c.account, usage.c.project).distinct()
    names = ["kind", "start_ms", "account", "project"]
    store.run_sync(lambda connection: connection.execute(rollup_marks.insert().from_select(names, marks)))
    _analyzed(store)
    return time.monotonic() - started_s


def _write(values: list[dict[str, Any]], connection: sa.Connection) -> None:
    connection.execute(usage.insert(), values)


def _copied(copy: int, span_ms: int, connection: sa.Connection) -> None:
    """The calls of the first ``span_ms`` once more, later and by later ids."""
    new: dict[str, Any] = {
        "attempt_id": sa.literal(f"{copy:010d}") + sa.func.substr(usage.c.attempt_id, 11),
        "opened_ms": usage.c.opened_ms + copy * span_ms,
        "closed_ms": usage.c.closed_ms + copy * span_ms,
    }
    first = sa.select(*(new.get(column.name, column) for column in usage.c))
    query = first.where(*within(RAW, START_MS, START_MS + span_ms, *TENANTS[0]))
    connection.execute(usage.insert().from_select([column.name for column in usage.c], query))


def _row(number: int, rows: int) -> dict[str, Any]:
    drawn = number * 2_654_435_761 % (1 << 32) >> 8  # spread without a period, the same in every run
    key, model, caller = drawn % KEYS, drawn // KEYS % MODELS, drawn // (KEYS * MODELS) % CALLERS_PER_KEY
    opened_ms = START_MS + number * YEAR_MS // rows
    return {
        "attempt_id": f"0000000000000000000000000000000000ffffac18{number:010d}",
        "request_id": f"0217200000000000000000000000000000ffffac18{number:010d}",
        "account": "default",
        "project": "default",
        "key_id": f"key-20240703000000-{key:05d}",
        "endpoint_id": f"ep-20240703000000-{model:05d}",
        "model": f"qwen2.5-coder-{model}b-instruct-q4_k_m",
        "dialect": "v3",
        "operation": "chat",
        "opened_ms": opened_ms,
        "closed_ms": opened_ms + 2500,
        "outcome": "done",
        "prompt_tokens": 40 + number % 1000,
        "completion_tokens": 128,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "provenance": "reported",
        "first_token_ms": 180,
        "duration_ms": 2500,
        "error": "",
        "caller": f"user-{key}-{caller}",
    }


def summed(store: Store) -> dict[str, float]:
    """Sum up as the server does, a budget at a time: how fast, and how long one transaction took. After a minute of
    that the rest in larger steps: of a year, a server has the last minutes to sum up, not all of them.
    """
    taken: list[float] = []
    until_ms = START_MS + YEAR_MS + 40 * DAY_MS
    started_s = time.monotonic()
    done, spans = 1, 0
    while done and time.monotonic() - started_s < ROLLED_S:
        step_s = time.monotonic()
        done = store.run_sync(lambda connection: roll(connection, until_ms, BUDGET_S))
        taken.append((time.monotonic() - step_s) * 1000)
        spans += done
    total_s = time.monotonic() - started_s
    while done:
        done = store.run_sync(lambda connection: roll(connection, until_ms, CATCHING_UP_S))
    _analyzed(store)
    return {
        "seconds": time.monotonic() - started_s,
        "spans_per_s": spans / total_s,
        "step_p50_ms": quantile(taken, 0.5),
        "step_p99_ms": quantile(taken, 0.99),
        "step_max_ms": max(taken),
    }


def asked_ms(store: Store, since_ms: int, until_ms: int, by: Sequence[Grouping]) -> float:
    """The median of three times."""
    table = UsageTable(store)
    return quantile([_ms(lambda: table.totals(TENANTS, since_ms, until_ms, by)) for _ in range(3)], 0.5)


def pruned(store: Store, before_ms: int) -> dict[str, float]:
    """Delete two months of calls: how fast, and how long one batch held the database."""
    store.checkpoint_sync()  # what was written for the measurement is not the batches' affair
    pruning, taken, more = Pruning(before_ms), [], True
    held: list[float] = []

    def batch(connection: sa.Connection) -> bool:
        step_s = time.monotonic()
        further = pruning.step(connection)
        held.append((time.monotonic() - step_s) * 1000)
        return further

    started_s = time.monotonic()
    while more:
        step_s = time.monotonic()
        more = store.run_sync(batch)
        taken.append((time.monotonic() - step_s) * 1000)
    return {
        "deleted": pruning.deleted,
        "rows_per_s": pruning.deleted / (time.monotonic() - started_s),
        "batch_p50_ms": quantile(held, 0.5),
        "batch_p99_ms": quantile(held, 0.99),
        "batch_max_ms": max(held),
        "batches_over_20_ms_percent": 100 * sum(each > 20 for each in held) / len(held),
        "with_commit_p50_ms": quantile(taken, 0.5),
        "with_commit_p99_ms": quantile(taken, 0.99),
        "with_commit_max_ms": max(taken),
    }


def _analyzed(store: Store) -> None:
    """What PostgreSQL's own housekeeping does in time."""
    store.run_sync(lambda connection: connection.exec_driver_sql("ANALYZE") and None)


def _sizes(store: Store) -> dict[str, float]:
    query = sa.select(rollups.c.period, sa.func.count()).group_by(rollups.c.period)
    return dict(store.run_sync(lambda connection: [tuple(row) for row in connection.execute(query)], read=True))


def _ms(work: Callable[[], object]) -> float:
    started_s = time.monotonic()
    work()
    return (time.monotonic() - started_s) * 1000


def _tables(found: dict[str, Figures], rows: int) -> list[Table]:
    kinds = tuple(found)

    def table(title: str, part: str) -> Table:
        names = getattr(next(iter(found.values())), part)
        return Table(title, ("", *kinds), [(n, *(getattr(found[k], part).get(n) for k in kinds)) for n in names])

    return [
        table(f"Sums of {rows:,} calls of a year, ms", "queries_ms"),
        table("Summing up", "rolls"),
        table("Deleting the two oldest months", "prune"),
        table("Rows of sums", "sizes"),
    ]
