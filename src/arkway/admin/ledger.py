"""Whether the books agree: journal and database, sums and what they add up, an upstream's invoice and usage."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from arkway.admin.usage import Grouping
from arkway.core.errors import InvalidField

Check = Literal["journal", "sums", "invoice"]
Row = Mapping[str, Any]
Sums = Mapping[tuple[str, ...], tuple[int, ...]]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
AT_ONCE = 500
INVOICE_COLUMNS = ("date", "model", "tokens")


class Difference(msgspec.Struct, frozen=True):
    """Two books that do not agree. ``where``: a call, a span of time and what is summed up in it, a day and a model."""

    check: Check
    where: str
    expected: str
    found: str


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of one check: how much was looked at, what differs, and what is odd but explained."""

    check: Check
    compared: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


class Journal(Protocol):
    """One pass over the journal (`arkway.stores.inspection.JournalReading`)."""

    repeated: list[str]

    @property
    def open(self) -> Sequence[Row]: ...

    def __iter__(self) -> Iterator[Row]: ...


class UsageRows(Protocol):
    """Settled calls, by the ids of their attempts."""

    def by_ids(self, ids: Sequence[str]) -> Mapping[str, Row]: ...


class Side(Protocol):
    """One span of sums and what it was made from, by key, endpoint, model and caller."""

    @property
    def period(self) -> str: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def expected(self) -> Sums: ...
    @property
    def kept(self) -> Sums: ...


class Totals(Protocol):
    """Sums of usage, with the groups' names as they were asked for."""

    def __call__(self, by: Sequence[Grouping], since_ms: int, until_ms: int) -> Iterable[Row]: ...


class JournalCheck:
    """Every settlement in the journal is in the database, once and with the same counts.

    ``pruned_ms``: calls opened before this moment may have been deleted. The database follows the journal in order, so
    settlements at its end may wait; one that is missing before another that is there is lost. An attempt's id is the
    table's primary key, so none can be there twice.
    """

    def __init__(self, rows: UsageRows, pruned_ms: int) -> None:
        self._rows, self._pruned_ms = rows, pruned_ms
        self._missing: list[tuple[int, Row]] = []
        self._last_found = -1
        self._differences: list[Difference] = []
        self._compared = self._pruned = 0

    def run(self, journal: Journal) -> Verdict:
        """Raises Misconfigured, StoreUnavailable."""
        batch: list[tuple[int, Row]] = []
        for place, expected in enumerate(journal):
            batch.append((place, expected))
            if len(batch) == AT_ONCE:
                self._look_up(batch)
                batch = []
        self._look_up(batch)
        missing, self._missing = self._missing, []
        self._look_up(missing)  # the database may have caught up meanwhile
        waiting = [entry for entry in self._missing if entry[0] > self._last_found]
        for _, expected in self._missing[: len(self._missing) - len(waiting)]:
            self._differ(expected["attempt_id"], "settled in the journal", "not in the database")
        return Verdict("journal", self._compared, tuple(self._differences), self._notes(journal, len(waiting)))

    def _look_up(self, batch: Sequence[tuple[int, Row]]) -> None:
        found = self._rows.by_ids([expected["attempt_id"] for _, expected in batch])
        for place, expected in batch:
            row = found.get(expected["attempt_id"])
            if row is not None:
                self._last_found = max(self._last_found, place)
                self._compare(expected, row)
            elif expected.get("opened_ms", expected["closed_ms"]) < self._pruned_ms:
                self._pruned += 1
            else:
                self._missing.append((place, expected))

    def _compare(self, expected: Row, row: Row) -> None:
        self._compared += 1
        wrong = [name for name, value in expected.items() if row[name] != value]
        if wrong:
            ours = ", ".join(f"{name} {expected[name]}" for name in wrong)
            self._differ(expected["attempt_id"], ours, ", ".join(f"{name} {row[name]}" for name in wrong))

    def _differ(self, where: str, expected: str, found: str) -> None:
        self._differences.append(Difference("journal", where, expected, found))

    def _notes(self, journal: Journal, waiting: int) -> tuple[str, ...]:
        notes = []
        if waiting:
            notes.append(
                f"{waiting} settled calls wait at the journal's end; a server that runs writes them within moments"
            )
        if self._pruned:
            notes.append(
                f"{self._pruned} calls of the journal are older than what retention keeps, and are only in sums"
            )
        if journal.repeated:
            notes.append(f"{len(journal.repeated)} calls have a second settlement in the journal; the first one counts")
        notes += [_open(row) for row in journal.open]
        return tuple(notes)


def _open(row: Row) -> str:
    return (
        f"{row['id']} is open since {_moment(row['opened_ms'])} with {row['spent_tokens']} tokens so far: under way, "
        "or left by a server that died, and then settled at that when one starts"
    )


class SumsCheck:
    """Sums are equal to what they were made from. Feed it every span; ``name`` says of what project."""

    def __init__(self) -> None:
        self._differences: list[Difference] = []

    def feed(self, project: str, sides: Iterable[Side]) -> None:
        """Compare some spans."""
        for side in sides:
            for group in sorted(side.expected.keys() | side.kept.keys()):
                expected, kept = side.expected.get(group), side.kept.get(group)
                if expected != kept:
                    where = f"{project}, {side.period} {_moment(side.start_ms)}, {' '.join(filter(None, group))}"
                    self._differences.append(Difference("sums", where, _counts(expected), _counts(kept)))

    def verdict(self, spans: int, waiting: int) -> Verdict:
        notes = (f"{waiting} spans of time are not summed up to the end yet and were left out",) if waiting else ()
        return Verdict("sums", spans, tuple(self._differences), notes)


def _counts(counts: tuple[int, ...] | None) -> str:
    if counts is None:
        return "nothing"
    calls, failed, prompt, completion, cached, reasoning = counts
    return (
        f"{calls} calls ({failed} failed), {prompt} prompt ({cached} cached) and "
        f"{completion} completion ({reasoning} reasoning) tokens"
    )


class InvoiceLine(NamedTuple):
    """What an upstream bills for one model on one of its days."""

    date: datetime.date
    model: str
    tokens: int


def read_invoice(lines: Iterable[str]) -> tuple[InvoiceLine, ...]:
    """CSV with a line of titles, among them ``date``, ``model`` and ``tokens``; others are not looked at.

    Dates are ``2026-11-01``, ``2026/11/01`` or ``20261101``, tokens whole numbers. Raises InvalidField with the line.
    """
    reader = csv.DictReader(lines)
    titles = {(title or "").strip().lower().removeprefix("\ufeff"): title for title in reader.fieldnames or ()}
    if absent := [title for title in INVOICE_COLUMNS if title not in titles]:
        raise InvalidField(f"the invoice has no column {' and no column '.join(absent)} in its first line", "invoice")
    found = []
    for row in reader:
        date, model, tokens = (str(row[titles[title]] or "").strip() for title in INVOICE_COLUMNS)
        if date or model or tokens:
            found.append(_line(date, model, tokens, reader.line_num))
    return tuple(found)


def _line(date: str, model: str, tokens: str, number: int) -> InvoiceLine:
    try:
        return InvoiceLine(datetime.date.fromisoformat(date.replace("/", "-")), model, int(tokens.replace(",", "")))
    except ValueError:
        raise InvalidField(
            f"line {number} of the invoice has the date `{date[:32]}` and `{tokens[:32]}` tokens; "
            "write 2026-11-01 and a whole number",
            "invoice",
        ) from None


def check_invoice(lines: Sequence[InvoiceLine], totals: Totals, utc_offset_h: int = 0) -> Verdict:
    """The invoice against usage, by day and model, from its first day to its last.

    ``utc_offset_h``: the invoice's days are those of this offset from UTC, 8 for Beijing.
    """
    if not lines:
        return Verdict("invoice", 0, (), ("the invoice has no lines",))
    billed: dict[tuple[datetime.date, str], int] = {}
    for line in lines:
        billed[line.date, line.model] = billed.get((line.date, line.model), 0) + line.tokens
    days = [line.date for line in lines]
    used = _used(totals, _start_ms(min(days), utc_offset_h), _start_ms(max(days), utc_offset_h) + DAY_MS, utc_offset_h)
    differences = [
        Difference("invoice", f"{day} {model}", f"{used.get((day, model), 0)} tokens used", f"{billed_tokens} billed")
        for day, model in sorted(billed.keys() | used.keys())
        if used.get((day, model), 0) != (billed_tokens := billed.get((day, model), 0))
    ]
    return Verdict("invoice", len(billed.keys() | used.keys()), tuple(differences), ())


def _used(totals: Totals, since_ms: int, until_ms: int, utc_offset_h: int) -> dict[tuple[datetime.date, str], int]:
    used: dict[tuple[datetime.date, str], int] = {}
    for row in totals(("hour", "model"), since_ms, until_ms):
        local = datetime.datetime.fromisoformat(row["hour"]) + datetime.timedelta(hours=utc_offset_h)
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        if tokens:
            used[local.date(), row["model"]] = used.get((local.date(), row["model"]), 0) + tokens
    return used


def _start_ms(day: datetime.date, utc_offset_h: int) -> int:
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return round(midnight.timestamp()) * 1000 - utc_offset_h * HOUR_MS


def _moment(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
