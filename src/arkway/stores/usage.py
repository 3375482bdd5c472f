"""Settled calls, one row each, and what they add up to: from sums where these are up to date, else from the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa

from arkway.stores.buckets import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    RAW,
    WITH_CALLERS,
    WITHOUT_CALLERS,
    Cover,
    Piece,
    label_of,
)
from arkway.stores.portable import insert, insert_plainly
from arkway.stores.recorded import Transactions
from arkway.stores.rollups import COUNTS, PRUNED, count_columns, mark_minutes, marks_of, rows_of, within
from arkway.stores.schema import projects, rollups, usage
from arkway.stores.tables import Row, plain_rows

Grouping = Literal["account", "project", "key", "endpoint", "model", "caller", "hour", "day", "month"]
Tenant = tuple[str, str]
Filters = Mapping[str, Collection[str]]

# The column of each dimension that rows can be filtered by.
COLUMNS = {"key": "key_id", "endpoint": "endpoint_id", "model": "model", "caller": "caller"}
_TENANT = ("account", "project")
_TIMES = ("hour", "day", "month")
PAGE_ROWS = 5000
_IDS_AT_ONCE = 500


class UsageTable:
    """One row for each settled call."""

    def __init__(self, store: Transactions, *, page_rows: int = PAGE_ROWS) -> None:
        self._store, self._page_rows = store, page_rows

    def insert(self, rows: Sequence[Row]) -> None:
        """Idempotent: a call that is there already keeps its first row. The sums of its minute are made anew."""
        if not rows:
            return

        def work(connection: sa.Connection) -> None:
            insert_plainly(connection, insert(connection, usage).on_conflict_do_nothing(), rows)
            mark_minutes(connection, rows)

        self._store.run_sync(work)

    def rows(
        self,
        account: str,
        project: str,
        since_ms: int,
        until_ms: int,
        limit: int,
        where: Filters | None = None,
    ) -> Sequence[Row]:
        """The newest ``limit`` calls opened in the half-open range of time, newest first."""
        found = (*within(RAW, since_ms, until_ms, account, project), *_filtered(usage, where or {}))
        query = sa.select(usage).where(*found).order_by(usage.c.opened_ms.desc(), usage.c.attempt_id.desc())
        return self._store.run_sync(lambda connection: plain_rows(connection, query.limit(limit)), read=True)

    def count(self, tenants: Sequence[Tenant], since_ms: int, until_ms: int, where: Filters) -> int:
        """How many calls `pages` goes through."""

        def work(connection: sa.Connection) -> int:
            count = sa.select(sa.func.count()).select_from(usage)
            filters = _filtered(usage, where)
            spans = [within(RAW, since_ms, until_ms, *tenant) for tenant in tenants]
            return sum(connection.scalar(count.where(*span, *filters)) or 0 for span in spans)

        return self._store.run_sync(work, read=True)

    def pages(self, tenants: Sequence[Tenant], since_ms: int, until_ms: int, where: Filters) -> Iterator[Sequence[Row]]:
        """Every call of the range, project by project, oldest first, in pages: one transaction for each."""
        after = (usage.c.opened_ms, usage.c.attempt_id)
        for tenant in tenants:
            query = sa.select(usage).where(*within(RAW, since_ms, until_ms, *tenant), *_filtered(usage, where))
            query = query.order_by(*after).limit(self._page_rows)
            page = self._page(query)
            while page:
                yield page
                last = page[-1]
                # The plain bound is what SQLite finds its place in the index by.
                further = (
                    usage.c.opened_ms >= last["opened_ms"],
                    sa.tuple_(*after) > (last["opened_ms"], last["attempt_id"]),
                )
                page = self._page(query.where(*further)) if len(page) == self._page_rows else []

    def by_ids(self, ids: Sequence[str]) -> dict[str, Row]:
        """The rows of these attempts that are there."""
        found: dict[str, Row] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            query = sa.select(usage).where(usage.c.attempt_id.in_(ids[start : start + _IDS_AT_ONCE]))
            found.update((row["attempt_id"], row) for row in self._page(query))
        return found

    def tenants(self, account: str | None = None) -> list[Tenant]:
        """Every project, or those of one account."""
        query = sa.select(projects.c.account, projects.c.id).order_by(projects.c.account, projects.c.id)
        if account is not None:
            query = query.where(projects.c.account == account)
        return [(row["account"], row["id"]) for row in self._page(query)]

    def pruned_ms(self, tenants: Sequence[Tenant]) -> int:
        """Settled calls of before this moment are gone, in one project at least; 0 = none are."""

        def work(connection: sa.Connection) -> int:
            marks = [mark for tenant in tenants for mark in marks_of(connection, *tenant)]
            return max((start_ms for kind, start_ms in marks if kind == PRUNED), default=0)

        return self._store.run_sync(work, read=True)

    def totals(
        self,
        tenants: Sequence[Tenant],
        since_ms: int,
        until_ms: int,
        by: Sequence[Grouping],
        where: Filters | None = None,
    ) -> list[Row]:
        """Sums of the counts (`arkway.stores.rollups.COUNTS`) for each group, in the order of the groups' names.

        The rows are mappings of the groupings and the counts. All of a project in one transaction, which may take up
        to seconds where a long range has many groups.
        """
        question = _Question(tuple(by), where or {}, since_ms, until_ms)
        for tenant in tenants:
            self._store.run_sync(partial(question.ask, tenant), read=True)
        return question.answer()

    def _page(self, query: sa.Select[Any]) -> Sequence[Row]:
        return self._store.run_sync(lambda connection: plain_rows(connection, query), read=True)


class _Question:
    """One query for sums, put to one project after the other."""

    def __init__(self, by: tuple[Grouping, ...], where: Filters, since_ms: int, until_ms: int) -> None:
        self._by, self._where = by, where
        self._since_ms, self._until_ms = since_ms, until_ms
        self._time = next((name for name in _TIMES if name in by), "")
        self._unit_ms = HOUR_MS if self._time == "hour" else DAY_MS
        self._columns = [COLUMNS[name] for name in by if name in COLUMNS]
        self._places = [self._place(name) for name in by]
        self._labels: dict[int, str] = {}
        self._sums: dict[tuple[str, ...], list[int]] = {}

    def ask(self, tenant: Tenant, connection: sa.Connection) -> None:
        """Add what one project has."""
        lowest, highest = bounds(connection, tenant)
        since_ms, until_ms = max(self._since_ms, lowest), min(self._until_ms, highest)
        marks = marks_of(connection, *tenant)
        pruned_ms = max((start_ms for kind, start_ms in marks if kind == PRUNED), default=0)
        cover = Cover(self._periods(), [mark for mark in marks if mark[0] != PRUNED], pruned_ms)
        for piece in cover.pieces(since_ms, until_ms):
            for row in connection.execute(self._query(piece, tenant)):
                self._add(tenant, tuple(row))

    def answer(self) -> list[Row]:
        names = (*self._by, *COUNTS)
        return [dict(zip(names, (*group, *sums), strict=True)) for group, sums in sorted(self._sums.items())]

    def _place(self, name: str) -> int:
        """Where the name of a group is in: account, project, time, columns."""
        if name in COLUMNS:
            return 3 + self._columns.index(COLUMNS[name])
        return _TENANT.index(name) if name in _TENANT else 2

    def _label(self, at_ms: int) -> str:
        if at_ms not in self._labels:
            self._labels[at_ms] = label_of(self._time, at_ms)
        return self._labels[at_ms]

    def _periods(self) -> tuple[str, ...]:
        callers = "caller" in self._by or "caller" in self._where
        usable = WITH_CALLERS if callers else WITHOUT_CALLERS
        coarsest = {"hour": ("hour", "minute"), "day": ("day", "day_all", "hour", "minute")}.get(self._time, usable)
        return tuple(period for period in usable if period in coarsest)

    def _query(self, piece: Piece, tenant: Tenant) -> sa.Select[Any]:
        table = rows_of(piece.period)
        groups: list[Any] = [table.c[name] for name in self._columns]
        if self._time:
            at = table.c.opened_ms if table is usage else table.c.start_ms
            groups.append((at - at % sa.literal_column(str(self._unit_ms))).label("at_ms"))
        query = sa.select(*groups, *count_columns(table)).group_by(*groups)
        return query.where(*within(piece.period, piece.start_ms, piece.end_ms, *tenant), *_filtered(table, self._where))

    def _add(self, tenant: Tenant, row: tuple[Any, ...]) -> None:
        """``row``: the columns grouped by, the moment if time is grouped by, the counts."""
        counts = row[-len(COUNTS) :]
        if counts[0] is None or not counts[0]:
            return
        label = self._label(int(row[len(self._columns)])) if self._time else ""
        group = tuple((*tenant, label, *row)[place] for place in self._places)
        sums = self._sums.setdefault(group, [0] * len(COUNTS))
        for place, count in enumerate(counts):
            sums[place] += int(count)


def bounds(connection: sa.Connection, tenant: Tenant) -> tuple[int, int]:
    """From the first minute that has anything up to, not including, the moment after the last; (0, 0) = nothing."""
    spans = []
    for at, period, length_ms in ((usage.c.opened_ms, RAW, 1), (rollups.c.start_ms, "minute", MINUTE_MS)):
        mine = within(period, 0, 1 << 62, *tenant)
        first = connection.scalar(sa.select(sa.func.min(at)).where(*mine))
        last = connection.scalar(sa.select(sa.func.max(at)).where(*mine))
        if first is not None and last is not None:
            spans.append((int(first), int(last) + length_ms))
    return min((first for first, _ in spans), default=0), max((last for _, last in spans), default=0)


def _filtered(table: sa.Table, where: Filters) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[COLUMNS[name]].in_(sorted(values)) for name, values in where.items() if values)
