"""`arkway ledger verify` finds what it is there to find, and nothing else."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from arkway.admin.ledger import InvoiceLine, JournalCheck, SumsCheck, Verdict, check_invoice, read_invoice
from arkway.core.chat import Usage
from arkway.core.errors import InvalidField, Misconfigured
from arkway.ports import Attempt, Settlement
from arkway.stores.drain import Drain
from arkway.stores.framing import Settled, frame
from arkway.stores.inspection import JournalReading, SumsReading
from arkway.stores.journal import Journal
from arkway.stores.retention import prune
from arkway.stores.rollups import flush
from arkway.stores.schema import rollups, usage
from arkway.stores.sqlite import SqliteStore
from arkway.stores.usage import UsageTable

MakeAttempt = Callable[..., Attempt]
MakeRow = Callable[..., dict[str, Any]]
START_MS = 1_793_232_000_000  # 2026-10-29
DAY_MS = 86_400_000
MINE = (("default", "default"),)


@pytest.fixture
def journal_home(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def drained(journal_home: Path, store: SqliteStore, make_attempt: MakeAttempt) -> Path:
    """Ten settled calls in journal and database, and one that is open."""
    journal = Journal(journal_home)
    for number in range(10):
        journal.reserve(make_attempt(number, START_MS + number))
        journal.settle(f"a{number:04d}", Settlement("done", Usage(10, number), START_MS + 100))
    journal.reserve(make_attempt(99, START_MS))
    journal.checkpoint("a0099", 30, 12)
    drain = Drain(journal, UsageTable(store), store)
    drain.flush_sync()
    journal.close(drain.close())
    return journal_home


def _verified(home: Path, store: SqliteStore) -> Verdict:
    table = UsageTable(store)
    return JournalCheck(table, table.pruned_ms(MINE)).run(JournalReading(home))


def test_a_journal_that_agrees(drained: Path, store: SqliteStore) -> None:
    verdict = _verified(drained, store)
    assert (verdict.compared, verdict.differences) == (10, ())
    (note,) = verdict.notes
    assert "a0099 is open since 2026-10-29 00:00:00 with 42 tokens so far" in note


def test_a_changed_count_is_found(drained: Path, store: SqliteStore) -> None:
    change = usage.update().where(usage.c.attempt_id == "a0003").values(prompt_tokens=9, outcome="refused")
    store.run_sync(lambda connection: connection.execute(change))
    (difference,) = _verified(drained, store).differences
    assert difference.where == "a0003"
    assert difference.expected == "outcome done, prompt_tokens 10"
    assert difference.found == "outcome refused, prompt_tokens 9"


def test_a_lost_call_is_found(drained: Path, store: SqliteStore) -> None:
    store.run_sync(lambda connection: connection.execute(usage.delete().where(usage.c.attempt_id == "a0003")))
    (difference,) = _verified(drained, store).differences
    assert (difference.where, difference.found) == ("a0003", "not in the database")


def test_calls_at_the_end_may_wait(drained: Path, store: SqliteStore) -> None:
    store.run_sync(lambda connection: connection.execute(usage.delete().where(usage.c.attempt_id >= "a0008")))
    verdict = _verified(drained, store)
    assert verdict.differences == ()
    assert "2 settled calls wait" in verdict.notes[0]


def test_pruned_calls_are_explained(drained: Path, store: SqliteStore) -> None:
    assert prune(store, START_MS + DAY_MS) == 10
    verdict = _verified(drained, store)
    assert (verdict.compared, verdict.differences) == (0, ())
    assert "10 calls of the journal are older than what retention keeps" in verdict.notes[0]


def test_a_settlement_without_its_opening_is_compared_too(drained: Path, store: SqliteStore) -> None:
    segment = max(drained.glob("*.log"))
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(line for line in lines if b'"a0003"' not in line or b'"settle"' in line))
    assert _verified(drained, store).differences == ()
    store.run_sync(
        lambda connection: connection.execute(
            usage.update().where(usage.c.attempt_id == "a0003").values(completion_tokens=4)
        )
    )
    assert [difference.where for difference in _verified(drained, store).differences] == ["a0003"]


def test_a_second_settlement_is_told_and_does_not_count(drained: Path, store: SqliteStore) -> None:
    again = frame(Settled("a0003", Settlement("interrupted", Usage(500, 500), START_MS)))
    with max(drained.glob("*.log")).open("ab") as file:
        file.write(again)
    verdict = _verified(drained, store)
    assert verdict.differences == ()
    assert "1 calls have a second settlement" in verdict.notes[0]


def test_a_torn_tail_is_the_end_and_damage_is_an_error(drained: Path, store: SqliteStore) -> None:
    segment = max(drained.glob("*.log"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-5])
    assert _verified(drained, store).differences == ()
    segment.write_bytes(whole[:100] + b"x" + whole[101:])
    with pytest.raises(Misconfigured, match="is damaged at byte 0"):
        _verified(drained, store)


def test_no_journal_is_an_empty_one(tmp_path: Path, store: SqliteStore) -> None:
    assert _verified(tmp_path / "none", store) == Verdict("journal", 0, (), ())


def _sums(store: SqliteStore) -> Verdict:
    check, reading = SumsCheck(), SumsReading(store, "default", "default")
    for day_ms in reading.days(0, 1 << 62):
        check.feed("default/default", reading.of_day(day_ms))
    return check.verdict(reading.spans, reading.waiting)


@pytest.fixture
def summed(store: SqliteStore, make_row: MakeRow) -> SqliteStore:
    """Four days over the end of a month, two callers."""
    rows = [make_row(number, START_MS + number * DAY_MS, caller=f"c{number % 2}") for number in range(5)]
    UsageTable(store).insert(rows)
    flush(store)
    return store


def test_sums_that_agree(summed: SqliteStore) -> None:
    assert _sums(summed) == Verdict("sums", 4 * 5 + 2, (), ())


@pytest.mark.parametrize("period", ["minute", "hour", "day", "day_all", "month"])
def test_a_wrong_sum_is_found_in_every_period(summed: SqliteStore, period: str) -> None:
    first = sa.select(sa.func.min(rollups.c.start_ms)).where(rollups.c.period == period).scalar_subquery()
    spoil = rollups.update().where(rollups.c.period == period, rollups.c.start_ms == first).values(prompt_tokens=7)
    summed.run_sync(lambda connection: connection.execute(spoil))
    differences = _sums(summed).differences
    assert any(d.where.startswith(f"default/default, {period} ") and " 7 prompt" in d.found for d in differences)


@pytest.mark.parametrize("table", [usage, rollups])
def test_a_missing_and_a_surplus_sum_are_found(summed: SqliteStore, table: sa.Table) -> None:
    summed.run_sync(lambda connection: connection.execute(table.delete().where(table.c.caller == "c1")))
    differences = _sums(summed).differences
    assert {(d.expected == "nothing", d.found == "nothing") for d in differences} >= {
        (table is usage, table is rollups)
    }


def test_what_is_behind_is_left_out_and_told(summed: SqliteStore, make_row: MakeRow) -> None:
    UsageTable(summed).insert([make_row(50, START_MS + 1)])
    verdict = _sums(summed)
    assert verdict.differences == ()
    assert "5 spans of time are not summed up" in verdict.notes[0]


def test_pruned_calls_leave_sums_that_still_agree(summed: SqliteStore) -> None:
    prune(summed, START_MS + 2 * DAY_MS)
    assert _sums(summed).differences == ()


INVOICE = (
    "Date,Region,Model,Tokens\n2026-10-29,cn,small-1,1100\n2026/10/30,cn,small-1,500\n20261030,cn,small-1,600\n,,,\n"
)
DAY = datetime.date(2026, 10, 29)


def test_an_invoice_is_read() -> None:
    lines = read_invoice(INVOICE.splitlines())
    assert lines[0] == InvoiceLine(DAY, "small-1", 1100)
    assert [line.tokens for line in lines] == [1100, 500, 600]
    assert read_invoice(["\ufeffdate,model,tokens", '2026-10-29,m,"1,234"'])[0].tokens == 1234


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,tokens\n", "no column model"),
        ("", "no column date and no column model and no column tokens"),
        ("date,model,tokens\nyesterday,m,1\n", "line 2 of the invoice"),
        ("date,model,tokens\n2026-10-29,m,1.5\n", "`1.5` tokens"),
        ("date,model,tokens\n2026-10-29\n", "line 2"),
    ],
)
def test_an_invoice_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        read_invoice(text.splitlines())


def _billed(store: SqliteStore, lines: list[InvoiceLine], offset_h: int = 0) -> list[tuple[str, str, str]]:
    table = UsageTable(store)
    found = check_invoice(lines, lambda by, since, until: table.totals(MINE, since, until, by), offset_h)
    return [(each.where, each.expected, each.found) for each in found.differences]


def test_an_invoice_against_usage(store: SqliteStore, make_row: MakeRow) -> None:
    UsageTable(store).insert([make_row(0, START_MS), make_row(1, START_MS + DAY_MS), make_row(2, START_MS + DAY_MS)])
    right = list(read_invoice(["date,model,tokens", "2026-10-29,small-1,1100", "2026-10-30,small-1,2200"]))
    assert _billed(store, right) == []
    assert _billed(store, [*right, InvoiceLine(DAY, "other", 5)]) == [("2026-10-29 other", "0 tokens used", "5 billed")]
    wrong = [InvoiceLine(DAY, "small-1", 1101), *right[1:]]
    assert _billed(store, wrong) == [("2026-10-29 small-1", "1100 tokens used", "1101 billed")]
    gap = [right[0], InvoiceLine(DAY + datetime.timedelta(days=2), "small-1", 0)]
    assert _billed(store, gap) == [("2026-10-30 small-1", "2200 tokens used", "0 billed")]


def test_an_invoice_of_another_time_zone(store: SqliteStore, make_row: MakeRow) -> None:
    """16:00 UTC is midnight in Beijing."""
    UsageTable(store).insert([make_row(0, START_MS + 16 * 3_600_000 - 1), make_row(1, START_MS + 16 * 3_600_000)])
    lines = [InvoiceLine(DAY, "small-1", 1100), InvoiceLine(DAY + datetime.timedelta(days=1), "small-1", 1100)]
    assert _billed(store, lines, 8) == []
    assert len(_billed(store, lines)) == 2
