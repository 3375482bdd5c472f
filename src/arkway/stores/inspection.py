"""What the journal and the database say of the same calls, laid side by side for whoever compares them. Reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from arkway.core.errors import Misconfigured
from arkway.ports import Attempt
from arkway.stores.buckets import DAY_MS, LENGTHS_MS, PERIODS, RAW, SOURCES, behind, end_of, start_of
from arkway.stores.drain import usage_row
from arkway.stores.framing import BadLine, Opened, Settled, Spent, is_torn, unframed, used
from arkway.stores.recorded import Transactions
from arkway.stores.recovery import ends_of
from arkway.stores.rollups import COUNTS, GROUPED, PRUNED, count_columns, marks_of, rows_of, within
from arkway.stores.segment import segment_numbers, segment_path
from arkway.stores.tables import Row
from arkway.stores.usage import bounds

Sums = dict[tuple[str, ...], tuple[int, ...]]


class JournalReading:
    """One pass over the journal, beside the server that writes it or without one.

    Iterating yields one mapping for each settlement, in the order of the journal: columns of the usage table, all of
    them where the opening entry is still in the journal. ``open`` and ``repeated`` are complete after that.
    Raises Misconfigured for a damaged file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._attempts: dict[str, Attempt] = {}
        self._spent: dict[str, Spent] = {}
        self._settled: set[str] = set()
        self.repeated: list[str] = []

    @property
    def open(self) -> list[Row]:
        """Calls that were opened and not settled: the opening entry, with the tokens of the last checkpoint."""
        return [
            {**msgspec.structs.asdict(attempt), "spent_tokens": self._spent_tokens(attempt.id)}
            for attempt in self._attempts.values()
        ]

    def __iter__(self) -> Iterator[Row]:
        for line in _lines(self._directory):
            match unframed(line):
                case Opened(attempt):
                    self._attempts[attempt.id] = attempt
                case Spent(attempt_id) as spent:
                    self._spent[attempt_id] = spent
                case Settled() as settled if (row := self._row(settled)) is not None:
                    yield row

    def _row(self, settled: Settled) -> Row | None:
        if settled.attempt_id in self._settled:
            self.repeated.append(settled.attempt_id)
            return None
        self._settled.add(settled.attempt_id)
        self._spent.pop(settled.attempt_id, None)
        attempt = self._attempts.pop(settled.attempt_id, None)
        if attempt is not None:
            return usage_row(attempt, settled.settlement)
        nobody = Attempt(settled.attempt_id, "", "", "", "", "", "", "", "", 0)
        unknown = msgspec.structs.asdict(nobody).keys()
        return {
            "attempt_id": settled.attempt_id,
            **{name: value for name, value in usage_row(nobody, settled.settlement).items() if name not in unknown},
        }

    def _spent_tokens(self, attempt_id: str) -> int:
        spent = self._spent.get(attempt_id)
        return 0 if spent is None else spent.prompt_tokens + spent.completion_tokens


def _lines(directory: Path) -> Iterator[bytes]:
    """Whole lines, up to where a server may be writing. A file that the drain deletes meanwhile is in the database."""
    numbers = segment_numbers(directory) if directory.exists() else []
    ends = ends_of(directory) if numbers else {}
    for number in numbers:
        path = segment_path(directory, number)
        data = b""
        with contextlib.suppress(FileNotFoundError):
            data = used(path.read_bytes()[: ends.get(number)])
        start = 0
        while start < len(data):
            end = data.find(b"\n", start)
            line = data[start:] if end < 0 else data[start:end]
            try:
                unframed(line)
            except BadLine as error:
                # Zeros in the newest file: the server was writing there while it was read, or died in a power cut.
                if number == numbers[-1] and (b"\0" in line or is_torn(data[start:])):
                    return
                raise Misconfigured(f"the journal file {path} is damaged at byte {start}: {error}") from error
            yield line
            start += len(line) + 1


class Side(NamedTuple):
    """One span of sums of one project, by key, endpoint, model, caller: what its source adds up to, what is kept."""

    period: str
    start_ms: int
    expected: Sums
    kept: Sums


class SumsReading:
    """The sums of one project against what they were made from: minutes against settled calls, hours against minutes
    and so on. ``spans`` counts what was compared, ``waiting`` spans that are behind, which are left out.
    """

    def __init__(self, store: Transactions, account: str, project: str) -> None:
        self._store, self._tenant = store, (account, project)
        self.waiting = self.spans = 0

    def days(self, since_ms: int, until_ms: int) -> list[int]:
        """The starts of the range's days, from the first of a month on; none where there is nothing."""
        first, last = self._store.run_sync(lambda connection: bounds(connection, self._tenant), read=True)
        start_ms, end_ms = start_of("month", max(since_ms, first)), min(until_ms, last)
        return list(range(start_ms, end_ms, DAY_MS))

    def of_day(self, day_ms: int) -> list[Side]:
        """Every span within the day; with the month, on its first day. One transaction."""
        return self._store.run_sync(lambda connection: self._of_day(connection, day_ms), read=True)

    def _of_day(self, connection: sa.Connection, day_ms: int) -> list[Side]:
        marks = marks_of(connection, *self._tenant)
        pruned_ms = max((start_ms for kind, start_ms in marks if kind == PRUNED), default=0)
        marks = [(kind, at) for kind, at in marks if kind != PRUNED and not (kind == "minute" and at < pruned_ms)]
        sides: list[Side] = []
        for period in PERIODS:
            if period == "month" and start_of("month", day_ms) != day_ms:
                continue
            since_ms = max(day_ms, pruned_ms) if period == "minute" else day_ms
            until_ms = end_of("month" if period == "month" else "day", day_ms)
            if since_ms < until_ms:
                sides += self._sides(connection, period, since_ms, until_ms, marks)
        return sides

    def _sides(
        self, connection: sa.Connection, period: str, since_ms: int, until_ms: int, marks: list[tuple[str, int]]
    ) -> list[Side]:
        kinds = behind(period)
        stale = {start_of(period, at) for kind, at in marks if kind in kinds and since_ms <= at < until_ms}
        expected = self._sums(connection, SOURCES[period], period, since_ms, until_ms)
        kept = self._sums(connection, period, period, since_ms, until_ms)
        self.waiting += len(stale)
        starts = sorted((expected.keys() | kept.keys()) - stale)
        self.spans += len(starts)
        return [Side(period, start, expected.get(start, {}), kept.get(start, {})) for start in starts]

    def _sums(
        self, connection: sa.Connection, source: str, period: str, since_ms: int, until_ms: int
    ) -> Mapping[int, Sums]:
        """By start of ``period``: the rows of ``source`` added up."""
        table = rows_of(source)
        at: Any = table.c.opened_ms if source == RAW else table.c.start_ms
        start = (
            sa.literal_column(str(since_ms))
            if period == "month"
            else at - at % sa.literal_column(str(LENGTHS_MS[period]))
        )
        groups = [table.c[name] for name in (GROUPED[:-1] if period == "day_all" else GROUPED)]
        by = groups if period == "month" else [start, *groups]
        query = sa.select(start, *groups, *count_columns(table)).group_by(*by)
        found: dict[int, Sums] = {}
        for row in connection.execute(query.where(*within(source, since_ms, until_ms, *self._tenant))):
            cut = 1 + len(groups)
            group = tuple(row[1:cut]) + ("",) * (len(GROUPED) - len(groups))
            found.setdefault(int(row[0]), {})[group] = tuple(map(int, row[cut : cut + len(COUNTS)]))
        return found
