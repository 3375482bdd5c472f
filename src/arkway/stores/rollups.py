"""Sums of usage by minute, hour, day and month, made from the settled calls beside the drain.

Whoever writes settled calls marks their minutes in the same transaction (`mark_minutes`). A marked span is summed up
anew from its source, never added to, and then marks the spans above it: so it does not matter how often, when or by
which of several processes that is done, nor where it is cut off. The rows of one span of one project and its mark
change in one transaction.

Who sums a span up deletes the mark first, and who marks updates a mark that is there: on PostgreSQL each waits for the
other's commit, so no settled call can slip in between unseen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from arkway.core.errors import StoreUnavailable
from arkway.stores.buckets import HOUR_MS, LENGTHS_MS, MINUTE_MS, PERIODS, RAW, SOURCES, end_of, start_of
from arkway.stores.portable import insert
from arkway.stores.recorded import Transactions
from arkway.stores.schema import rollup_marks, rollups, usage
from arkway.stores.store import Store

PRUNED = "pruned"
# Spans are summed up this long after they end: calls are filed under their beginning and settled later.
GRACE_MS = {"minute": 15_000, "hour": 2 * MINUTE_MS, "day": 10 * MINUTE_MS, "day_all": 0, "month": HOUR_MS}
BUDGET_S = 0.010
FIRST_MARKS, MARKS_AT_ONCE = 8, 128
END_MS = 1 << 62

GROUPED = ("key_id", "endpoint_id", "model", "caller")
COUNTS = ("calls", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
FAILED = ("upstream_error", "refused", "interrupted")

log = logging.getLogger("arkway.rollups")


class Mark(NamedTuple):
    """One span of one project that is behind."""

    period: str
    start_ms: int
    account: str
    project: str


class Rollups:
    """Keeps the sums up to date: about once in the store's poll, for ten milliseconds at a time.

    ``now_ms`` is the clock that settled calls are filed under.
    """

    def __init__(self, store: Store, now_ms: Callable[[], int], *, budget_s: float = BUDGET_S) -> None:
        self._store, self._now_ms, self._budget_s = store, now_ms, budget_s
        self._busy = False
        store.every_poll(self._tick)

    def flush_sync(self) -> int:
        """Sum up all that is behind, spans that have not ended too; how many there were. Raises StoreUnavailable."""
        return flush(self._store, budget_s=self._budget_s)

    def _tick(self) -> None:
        if not self._busy:
            self._busy = True
            self._go_on()

    def _go_on(self) -> None:
        now_ms = self._now_ms()
        try:
            done = self._store.submit(lambda connection: roll(connection, now_ms, self._budget_s))
        except StoreUnavailable:
            self._busy = False
            return
        done.add_done_callback(self._done)

    def _done(self, done: Future[int]) -> None:
        """More to do goes to the end of the queue: whatever else waits for the database comes first."""
        if done.cancelled() or (error := done.exception()) is not None:
            if not done.cancelled():
                log.warning("sums of usage are behind, and are made later: %s", error)
            self._busy = False
        elif done.result():
            self._go_on()
        else:
            self._busy = False


def flush(store: Transactions, *, budget_s: float = BUDGET_S) -> int:
    """As `Rollups.flush_sync`, for any store, such as a command's own."""
    total = 0
    while done := store.run_sync(lambda connection: roll(connection, None, budget_s)):
        total += done
    return total


def roll(connection: sa.Connection, now_ms: int | None, budget_s: float) -> int:
    """Sum up spans that are behind and have ended (None: ended or not) for about ``budget_s``; how many.

    0 = nothing is left to do. It begins with few spans and takes twice as many at a time while that is quick; one span
    is never cut.
    """
    began_s = time.monotonic()
    until_s, done = began_s + budget_s, 0
    for period in PERIODS:
        at_once = FIRST_MARKS if period == "minute" else 1
        ended_ms = END_MS if now_ms is None else start_of(period, now_ms - GRACE_MS[period])
        while marks := _marks(connection, period, ended_ms, at_once):
            for tenant, mine in groupby(marks, key=lambda mark: (mark.account, mark.project)):
                done += sum_up(connection, period, *tenant, [mark.start_ms for mark in mine])
            taken_s, began_s = time.monotonic() - began_s, time.monotonic()
            if began_s >= until_s:
                return done
            if taken_s < budget_s / 4:
                at_once = min(2 * at_once, MARKS_AT_ONCE)
    return done


def sum_up(connection: sa.Connection, period: str, account: str, project: str, starts: Sequence[int]) -> int:
    """Make the rows of some spans of one project anew, those that are still marked, and mark the spans above them."""
    of = {"period": period, "account": account, "project": project}
    mine = sorted(connection.execute(_UNMARK, {**of, "starts": list(starts)}).scalars())
    # Of what was pruned, the calls are gone and the sums stay.
    pruned = pruned_ms(connection, account, project) if period == "minute" else 0
    behind = [start_ms for start_ms in mine if start_ms >= pruned]
    if behind:
        connection.execute(_FORGET, {**of, "starts": behind})
        for some in [[start_ms] for start_ms in behind] if period == "month" else [behind]:
            span = {"since_ms": some[0], "until_ms": end_of(period, some[-1])}
            connection.execute(_anew(period), {**of, **span, "starts": some})
    above = [p for p, source in SOURCES.items() if source == period]
    add_marks(connection, sorted({Mark(p, start_of(p, at), account, project) for p in above for at in behind}))
    return len(starts)


def mark_minutes(connection: sa.Connection, rows: Iterable[Any]) -> None:
    """The minutes of these settled calls (mappings with the columns of `usage`) are behind."""
    found = {Mark("minute", start_of("minute", r["opened_ms"]), r["account"], r["project"]) for r in rows}
    add_marks(connection, sorted(found))


def add_marks(connection: sa.Connection, marks: Sequence[Mark]) -> None:
    """In the order they come in: two processes that mark at once must not wait for each other in a circle."""
    if not marks:
        return
    statement = insert(connection, rollup_marks)
    again = statement.on_conflict_do_update(
        index_elements=list(rollup_marks.primary_key), set_={"start_ms": statement.excluded.start_ms}
    )
    values = [{"kind": m.period, "start_ms": m.start_ms, "account": m.account, "project": m.project} for m in marks]
    connection.execute(again, values)


def marks_of(connection: sa.Connection, account: str, project: str) -> list[tuple[str, int]]:
    """Period and start of the project's spans that are behind, and (``pruned``, moment) where calls were pruned."""
    query = sa.select(rollup_marks.c.kind, rollup_marks.c.start_ms)
    mine = (rollup_marks.c.account == account, rollup_marks.c.project == project)
    return [(kind, start_ms) for kind, start_ms in connection.execute(query.where(*mine))]


def pruned_ms(connection: sa.Connection, account: str, project: str) -> int:
    """The settled calls of before this moment are gone; 0 = none are."""
    return connection.scalar(_PRUNED, {"period": PRUNED, "account": account, "project": project}) or 0


def count_columns(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """The sums of `COUNTS` over the table's rows, settled calls or sums alike."""
    if table is usage:
        failed = sa.func.sum(sa.case((usage.c.outcome.in_(FAILED), 1), else_=0)).label("failed")
        calls: list[sa.ColumnElement[Any]] = [sa.func.count().label("calls"), failed]
    else:
        calls = [sa.func.sum(table.c[name]).label(name) for name in COUNTS[:2]]
    return [*calls, *(sa.func.sum(table.c[name]).label(name) for name in COUNTS[2:])]


def within(piece_period: str, start_ms: int, end_ms: int, account: str, project: str) -> tuple[Any, ...]:
    """The rows of one project in a half-open range: of `usage` for the period `RAW`, else of `rollups`."""
    table = rows_of(piece_period)
    at = table.c.opened_ms if table is usage else table.c.start_ms
    period = () if table is usage else (table.c.period == piece_period,)
    return (table.c.account == account, table.c.project == project, *period, at >= start_ms, at < end_ms)


def rows_of(period: str) -> sa.Table:
    """The table that holds a period's rows."""
    return usage if period == RAW else rollups


# The statements of `sum_up`, made once: making them costs more than running them.
_IS_OF = (
    rollup_marks.c.kind == sa.bindparam("period"),
    rollup_marks.c.account == sa.bindparam("account"),
    rollup_marks.c.project == sa.bindparam("project"),
)
_STARTS: sa.BindParameter[Any] = sa.bindparam("starts", expanding=True)
_UNMARK = rollup_marks.delete().where(*_IS_OF, rollup_marks.c.start_ms.in_(_STARTS)).returning(rollup_marks.c.start_ms)
_PRUNED = sa.select(sa.func.max(rollup_marks.c.start_ms)).where(*_IS_OF)
_FORGET = rollups.delete().where(
    rollups.c.period == sa.bindparam("period"),
    rollups.c.account == sa.bindparam("account"),
    rollups.c.project == sa.bindparam("project"),
    rollups.c.start_ms.in_(_STARTS),
)
_INSERTED = ["period", "start_ms", "account", "project", *GROUPED, *COUNTS]
_MARK_COLUMNS = (rollup_marks.c.kind, rollup_marks.c.start_ms, rollup_marks.c.account, rollup_marks.c.project)
_OLDEST = (
    sa.select(*_MARK_COLUMNS)
    .where(rollup_marks.c.kind == sa.bindparam("period"), rollup_marks.c.start_ms < sa.bindparam("ended_ms"))
    .order_by(*_MARK_COLUMNS[1:])
    .limit(sa.bindparam("at_once"))
)


def _marks(connection: sa.Connection, period: str, ended_ms: int, at_once: int) -> list[Mark]:
    """The oldest marks of one period that begin before ``ended_ms``, project by project."""
    found = connection.execute(_OLDEST, {"period": period, "ended_ms": ended_ms, "at_once": at_once})
    return sorted((Mark(*row) for row in found), key=lambda mark: (mark.account, mark.project, mark.start_ms))


@cache
def _anew(period: str) -> sa.Insert:
    """Adds up the source of the spans ``starts`` of one project, all of them within the range; of a month only one."""
    source = SOURCES[period]
    table = rows_of(source)
    at: Any = table.c.opened_ms if table is usage else table.c.start_ms
    start: Any = sa.bindparam("since_ms", type_=rollups.c.start_ms.type)
    chosen: tuple[Any, ...] = ()
    if period != "month":
        start = at - at % sa.literal_column(str(LENGTHS_MS[period]))
        chosen = (start.in_(_STARTS),)
    groups: list[Any] = [table.c[name] for name in GROUPED]
    kept = groups
    if period == "day_all":
        kept, groups = [*groups[:-1], sa.literal("").label("caller")], groups[:-1]
    mine: tuple[Any, ...] = (table.c.account == sa.bindparam("account"), table.c.project == sa.bindparam("project"))
    if table is rollups:
        mine = (*mine, rollups.c.period == source)
    span = (at >= sa.bindparam("since_ms"), at < sa.bindparam("until_ms"))
    named = [sa.bindparam(name, type_=sa.String()) for name in ("period", "account", "project")]
    query = sa.select(named[0], start, *named[1:], *kept, *count_columns(table)).where(*mine, *span, *chosen)
    return rollups.insert().from_select(_INSERTED, query.group_by(*([] if period == "month" else [start]), *groups))
