"""What the ledger costs: one reserve, checkpoint and settle in each durability, and how fast it drains."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import psutil

from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement
from arkway.stores.drain import Drain
from arkway.stores.journal import Durability, Journal
from arkway.stores.sqlite import SqliteStore
from arkway.stores.usage import UsageTable
from benchmarks.report import Options, Report, Table, quantile

ATTEMPTS = 5000
SYNCED_ATTEMPTS = 500
DRAINED_ROWS = 50_000
FLUSH_LIMIT_S = 600.0
NOW_MS = 1_720_000_000_000


def measure(options: Options) -> Report:
    """In the folder for temporary files: what a sync costs is the disk's affair, so its file system is named."""
    scale = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(prefix="arkway-bench-") as folder:
        place = Path(folder)
        appends = {
            durability: append_us(place / durability, durability, _attempts(durability) // scale)
            for durability in get_args(Durability)
        }
        drain = drained(place / "drain", DRAINED_ROWS // scale)
        file_system = _file_system(place)
    rows: list[tuple[str | float | None, ...]] = [
        (f"{durability}, {step}", figures["p50_us"], figures["p99_us"])
        for durability, steps in appends.items()
        for step, figures in steps.items()
    ]
    tables = [
        Table(f"One append to the journal on {file_system}", ("", "p50 µs", "p99 µs"), rows),
        Table("Drain into SQLite", ("", "rows/s"), [(f"{drain['rows']:,.0f} rows", drain["rows_per_s"])]),
    ]
    return Report({"appends": appends, "drain": drain, "file_system": file_system}, tables)


def append_us(directory: Path, durability: Durability, count: int) -> dict[str, dict[str, float]]:
    """Microseconds of each step of ``count`` attempts, as a call makes them: one of each, in turns."""
    journal = Journal(directory, durability=durability)
    steps: dict[str, list[int]] = {"reserve": [], "checkpoint": [], "settle": []}
    for number in range(count):
        opened = attempt(number)
        steps["reserve"].append(_ns(partial(journal.reserve, opened)))
        steps["checkpoint"].append(_ns(partial(journal.checkpoint, opened.id, 40, 16)))
        steps["settle"].append(_ns(partial(journal.settle, opened.id, SETTLEMENT)))
    journal.close()
    return {step: {"p50_us": _us(taken, 0.50), "p99_us": _us(taken, 0.99)} for step, taken in steps.items()}


def drained(home: Path, count: int) -> dict[str, float]:
    """Rows per second from a full journal into an empty database. Raises RuntimeError when a row is missing."""
    journal = Journal(home / "journal", durability="group")
    for number in range(count):
        journal.reserve(attempt(number))
        journal.settle(attempt(number).id, SETTLEMENT)
    with SqliteStore(home / "arkway.db") as store:
        table = UsageTable(store)
        started_s = time.monotonic()
        drain = Drain(journal, table, store)
        drain.flush_sync(FLUSH_LIMIT_S)
        taken_s = time.monotonic() - started_s
        calls = table.totals([("default", "default")], 0, 1 << 52, ["model"])[0]["calls"]
        journal.close(drain.close())
    if calls != count:
        raise RuntimeError(f"{calls} of {count} attempts are in the database")
    return {"rows": count, "rows_per_s": count / taken_s}


def attempt(number: int) -> Attempt:
    """An attempt with identifiers of the real lengths."""
    return Attempt(
        id=f"0217200000000000000000000000000000ffffac18000{number:08d}",
        request_id=f"0217200000000000000000000000000000ffffac18000{number:08d}",
        account="default",
        project="default",
        key_id="key-20240703000000-abcde",
        endpoint_id="ep-20240703000000-abcde",
        model="qwen2.5-coder-0.5b-instruct-q4_k_m",
        dialect="v3",
        operation="chat",
        opened_ms=NOW_MS + number,
        estimate_tokens=4096,
    )


SETTLEMENT = Settlement(
    outcome="done",
    usage=Usage(40, 128, provenance="counted"),
    closed_ms=NOW_MS + 2500,
    first_token_ms=180,
    duration_ms=2500,
)


def _attempts(durability: Durability) -> int:
    return SYNCED_ATTEMPTS if durability == "sync" else ATTEMPTS


def _ns(work: Callable[[], None]) -> int:
    started_ns = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started_ns


def _us(taken_ns: Sequence[int], share: float) -> float:
    return quantile(taken_ns, share) / 1000


def _file_system(place: Path) -> str:
    """The type of the file system that holds the folder."""
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
