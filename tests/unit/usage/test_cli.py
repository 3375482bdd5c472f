"""``arkway usage``, ``prices`` and ``ledger`` over a data directory."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from arkway.admin.export import COLUMNS
from arkway.cli import group
from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement
from arkway.stores.home import database_path, journal_path
from arkway.stores.inspection import JournalReading
from arkway.stores.journal import Journal
from arkway.stores.rollups import flush
from arkway.stores.schema import audit, projects, rollups
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import plain_rows
from arkway.stores.usage import UsageTable

Run = Callable[..., Result]
MakeRow = Callable[..., dict[str, Any]]
START_MS = 1_793_232_000_000  # 2026-10-29
DAY_MS = 86_400_000
SINCE = ("--since", "2026-10-01", "--until", "2026-12-01")
NASTY = ["", 'say "hi", ok', "two\nlines", "=1+1", "名字", "NULL", "'"]


@pytest.fixture
def run(home: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(home), *arguments])


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


@pytest.fixture
def filled(home: Path, make_row: MakeRow) -> Path:
    """Seven calls on seven days, by callers with nasty names."""
    with SqliteStore(database_path(home)) as store:
        rows = [make_row(n, START_MS + n * DAY_MS, caller=NASTY[n], key=f"key-{n % 2}") for n in range(7)]
        UsageTable(store).insert(rows)
        flush(store)
    return home


def test_usage_by_two_things_with_costs(filled: Path, run: Run) -> None:
    document(run("prices", "set", "small-1", "--prompt", "2", "--completion", "8", "--from", "2026-10-30", "--json"))
    found = document(run("usage", "--by", "key", "--by", "month", *SINCE, "--cost", "--json"))
    assert [(t["key"], t["month"], t["calls"], t["cost"], t["unpriced_tokens"]) for t in found] == [
        ("key-0", "2026-10", 2, [{"currency": "CNY", "amount": "0.0028"}], 1100),
        ("key-0", "2026-11", 2, [{"currency": "CNY", "amount": "0.0056"}], 0),
        ("key-1", "2026-10", 1, [{"currency": "CNY", "amount": "0.0028"}], 0),
        ("key-1", "2026-11", 2, [{"currency": "CNY", "amount": "0.0056"}], 0),
    ]
    assert found[0]["total_tokens"] == 2200
    assert found[0]["group"] == "key-0 2026-10"
    shown = run("usage", "--by", "key", *SINCE, "--cost").output
    assert "0.0084 CNY + 1100 tokens without a price" in shown
    assert "0.0028 CNY" in run("usage", *SINCE, "--cost").output
    assert "cost" not in document(run("usage", "--by", "key", *SINCE, "--json"))[0]


def test_usage_is_filtered(filled: Path, run: Run) -> None:
    assert len(document(run("usage", *SINCE, "--caller", "名字", "--json"))) == 1
    (total,) = document(run("usage", "--by", "model", *SINCE, "--key", "key-1", "--key", "key-0", "--json"))
    assert total["calls"] == 7
    ranged = document(run("usage", "--since", "2026-10-30T00:00", "--until", "2026-10-31T08:00+08:00", "--json"))
    assert [row["attempt_id"] for row in ranged] == ["a0001"]
    assert "no call" in run("usage", "--model", "none", *SINCE).output


def test_by_project_is_of_the_whole_account(home: Path, run: Run, make_row: MakeRow) -> None:
    with SqliteStore(database_path(home)) as store:
        row = {"account": "default", "id": "other", "name": "other", "created_at": 1}
        store.run_sync(lambda connection: connection.execute(projects.insert().values(row)))
        UsageTable(store).insert([make_row(1, START_MS), {**make_row(2, START_MS), "project": "other"}])
    found = document(run("usage", "--by", "project", *SINCE, "--json"))
    assert [(total["project"], total["calls"]) for total in found] == [("default", 1), ("other", 1)]
    assert document(run("usage", "--by", "account", *SINCE, "--json"))[0]["calls"] == 2
    assert len(document(run("usage", *SINCE, "--json"))) == 1
    assert len(document(run("usage", *SINCE, "--all", "--json"))) == 2
    assert run("usage", "--project", "nosuch", *SINCE).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("usage", "--since", "soon"), "is not a moment"),
        (("usage", "--by", "hour", "--by", "day"), "one of hour, day and month"),
        (("usage", "--by", "colour"), "colour"),
        (("usage", "export", "--format", "parquet", "--out", "-"), "standard output takes CSV"),
        (("usage", "export", "--out", "/nowhere/at/all.csv"), "cannot be written"),
        (("prices", "set", "m", "--prompt", "-1", "--completion", "1"), "prompt price"),
        (("prices", "set", "m", "--prompt", "1", "--completion", "1", "--from", "2026-11-01T00:00:30"), "whole minute"),
        (("prices", "remove", "m"), "has no price"),
        (("ledger", "prune", "--older-than", "23h"), "1d or more"),
    ],
)
def test_mistakes_are_explained(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert said in result.output


def _records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_export(filled: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "usage.csv"
    assert document(run("usage", "export", "--out", str(out), *SINCE, "--json"))["calls"] == 7
    records = _records(out.read_text(encoding="utf-8"))
    assert [record["caller"] for record in records] == NASTY
    assert list(records[0]) == list(COLUMNS)
    assert records[0]["opened_ms"] == str(START_MS)
    assert _records(run("usage", "export", "--out", "-", *SINCE).stdout) == records
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "usage.csv"]


def test_parquet_export(filled: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "usage.parquet"
    assert "wrote 7 calls" in run("usage", "export", "--format", "parquet", "--out", str(out), *SINCE).output
    relation = duckdb.sql(f"SELECT caller, opened_ms, prompt_tokens, error FROM '{out}' ORDER BY opened_ms")
    assert relation is not None
    rows = relation.fetchall()
    assert rows == [(name, START_MS + n * DAY_MS, 1000, "") for n, name in enumerate(NASTY)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "usage.parquet"]


def test_parquet_without_its_extra_is_explained(filled: Path, tmp_path: Path) -> None:
    """In a process that really has no DuckDB."""
    program = (
        "import sys; sys.modules['duckdb'] = None; from arkway.cli import main; "
        f"sys.argv = ['arkway', '--home', {str(filled)!r}, 'usage', 'export', '--format', 'parquet', "
        f"'--out', {str(tmp_path / 'x')!r}]; main()"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "pip install 'arkway[analytics]'" in finished.stderr


def test_prices_over_the_command_line(run: Run) -> None:
    assert "there is no price" in run("prices", "list").output
    options = ("--prompt", "0.8", "--completion", "2", "--cached", "0.16", "--currency", "USD")
    price = document(run("prices", "set", "small-1", *options, "--json"))
    assert price["effective_at"] % 60 == 0
    assert 0 <= price["effective_at"] - time.time() + 1 < 62
    assert document(run("prices", "list", "--json")) == [price]
    assert price["reasoning"] is None
    assert "0.16" in run("prices", "list").output
    assert document(run("prices", "remove", "small-1", "--json")) == {"model": "small-1", "removed": 1}
    assert document(run("prices", "list", "--model", "small-1", "--json")) == []


def test_the_ledger_is_verified(filled: Path, run: Run, tmp_path: Path) -> None:
    assert [verdict["differences"] for verdict in document(run("ledger", "verify", "--json"))] == [[], []]
    assert "sums and calls: agree" in run("ledger", "verify").output
    bill = tmp_path / "bill.csv"
    bill.write_text("date,model,tokens\n2026-10-29,small-1,1100\n2026-10-30,small-1,1\n")
    result = run("ledger", "verify", "--invoice", str(bill))
    assert result.exit_code == 1
    assert "2026-10-30 small-1: expected 1100 tokens used; found 1 billed" in result.output
    with SqliteStore(database_path(filled)) as store:
        store.run_sync(lambda connection: connection.execute(rollups.update().values(calls=2)))
    result = run("ledger", "verify", "--json")
    assert result.exit_code == 1
    assert len(orjson.loads(result.stdout)[1]["differences"]) == 7


def test_the_journal_of_every_process_is_verified(filled: Path, run: Run, make_attempt: Callable[..., Attempt]) -> None:
    """The second process's journal has a call that the database lacks, before one that it has."""
    journal = Journal(journal_path(filled, 2))
    for number in (70, 71):
        journal.reserve(make_attempt(number, START_MS))
        journal.settle(f"a{number:04d}", Settlement("done", Usage(1, 1), START_MS))
    drain_later = [row for row in JournalReading(journal_path(filled, 2)) if row["attempt_id"] == "a0071"]
    journal.close()
    with SqliteStore(database_path(filled)) as store:
        UsageTable(store).insert(drain_later)
    result = run("ledger", "verify", "--json")
    assert result.exit_code == 1
    found = [difference for verdict in orjson.loads(result.stdout) for difference in verdict["differences"]]
    assert [(each["where"], each["found"]) for each in found] == [("a0070", "not in the database")]


def test_pruning_over_the_command_line(home: Path, run: Run, make_row: MakeRow) -> None:
    now_ms = int(time.time()) * 1000
    with SqliteStore(database_path(home)) as store:
        UsageTable(store).insert([make_row(n, now_ms - n * 100 * DAY_MS) for n in range(6)])
    assert "would delete 2 calls" in run("ledger", "prune", "--older-than", "350d", "--dry-run").output
    assert document(run("ledger", "prune", "--older-than", "350d", "--json"))["calls"] == 2
    assert len(document(run("usage", "--since", "900d", "--json"))) == 4
    assert document(run("usage", "--since", "900d", "--by", "model", "--json"))[0]["calls"] == 6
    assert run("ledger", "verify").exit_code == 0
    with SqliteStore(database_path(home)) as store:
        entries = store.run_sync(lambda connection: plain_rows(connection, sa.select(audit)), read=True)
    (entry,) = [entry for entry in entries if entry["action"] == "usage.prune"]
    assert entry["detail"]["calls"] == 2


def test_usage_of_one_call_of_no_tokens(home: Path, run: Run, make_row: MakeRow) -> None:
    with SqliteStore(database_path(home)) as store:
        UsageTable(store).insert([make_row(1, START_MS, Usage())])
    (total,) = document(run("usage", "--by", "day", *SINCE, "--cost", "--json"))
    assert (total["calls"], total["cost"], total["unpriced_tokens"]) == (1, [], 0)
