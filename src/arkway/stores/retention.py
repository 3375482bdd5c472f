"""Deleting old settled calls: in batches too small to be felt. Their sums stay, and so does the audit log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

import sqlalchemy as sa

from arkway.core.errors import StoreUnavailable
from arkway.stores.buckets import DAY_MS, start_of
from arkway.stores.recorded import Transactions
from arkway.stores.rollups import PRUNED, Mark, add_marks, pruned_ms, sum_up
from arkway.stores.schema import projects, rollup_marks, usage
from arkway.stores.store import Store

# A batch is as many of these as fit into its time: pages that have to be read from the disk first make few.
SLICE_ROWS = 25
BATCH_S = 0.005
EVERY_S = 600.0
MINUTES_AT_ONCE = 20

log = logging.getLogger("arkway.retention")


class Pruning:
    """One deletion of all calls opened before a moment, which is taken down to a whole minute (epoch milliseconds).

    Every project's minutes are summed up first; from then on its sums of before the moment stand, and a call that
    is written later and was opened before it is not in them.
    """

    def __init__(self, before_ms: int, *, batch_s: float = BATCH_S) -> None:
        self._before_ms = start_of("minute", before_ms)
        self._batch_s = batch_s
        self._tenants: list[tuple[str, str]] | None = None
        self.deleted = 0

    def step(self, connection: sa.Connection) -> bool:
        """One batch, within one transaction; True when there is more to do."""
        if self._tenants is None:
            self._tenants = [tuple(row) for row in connection.execute(sa.select(projects.c.account, projects.c.id))]
        if not self._tenants:
            return False
        tenant = self._tenants[-1]
        started_s = time.monotonic()
        if not self._sums_stand(connection, tenant):
            return True
        deleted = SLICE_ROWS
        while deleted == SLICE_ROWS and time.monotonic() - started_s < self._batch_s:
            deleted = connection.execute(_OLDEST_GONE, {**_named(tenant), "before_ms": self._before_ms}).rowcount
            self.deleted += deleted
        if deleted < SLICE_ROWS:
            self._tenants.pop()
        return bool(self._tenants)

    def _sums_stand(self, connection: sa.Connection, tenant: tuple[str, str]) -> bool:
        """False when minutes were summed up instead of calls deleted."""
        if pruned_ms(connection, *tenant) >= self._before_ms:
            return True
        columns = rollup_marks.c
        mine = (columns.account == tenant[0], columns.project == tenant[1])
        query = sa.select(columns.start_ms).where(columns.kind == "minute", columns.start_ms < self._before_ms, *mine)
        behind = list(connection.execute(query.order_by(columns.start_ms).limit(MINUTES_AT_ONCE)).scalars())
        sum_up(connection, "minute", *tenant, behind)
        if behind:
            return False
        connection.execute(rollup_marks.delete().where(columns.kind == PRUNED, *mine))
        add_marks(connection, [Mark(PRUNED, self._before_ms, *tenant)])
        return True


def _named(tenant: tuple[str, str]) -> dict[str, str]:
    return {"account": tenant[0], "project": tenant[1]}


_OLDEST = (
    sa.select(usage.c.attempt_id)
    .where(usage.c.account == sa.bindparam("account"), usage.c.project == sa.bindparam("project"))
    .where(usage.c.opened_ms < sa.bindparam("before_ms"))
    .order_by(usage.c.opened_ms)
    .limit(SLICE_ROWS)
)
_OLDEST_GONE = usage.delete().where(usage.c.attempt_id.in_(_OLDEST))


class Retention:
    """Prunes beside the drain what is older than ``usage_days`` days: looks every ten minutes, one batch at a time.

    ``caught_up`` says whether the journal has been written to the database: a call that waits there is not in the sums.
    """

    def __init__(
        self,
        store: Store,
        usage_days: int,
        now_ms: Callable[[], int],
        caught_up: Callable[[], bool],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._store, self._now_ms, self._caught_up = store, now_ms, caught_up
        self._keep_ms, self._every_s = usage_days * DAY_MS, every_s
        self._next_s = 0.0
        self._pruning: Pruning | None = None
        if usage_days:
            store.every_poll(self._tick)

    def _tick(self) -> None:
        if self._pruning is None and time.monotonic() >= self._next_s and self._caught_up():
            self._pruning = Pruning(self._now_ms() - self._keep_ms)
            self._go_on(self._pruning)

    def _go_on(self, pruning: Pruning) -> None:
        try:
            self._store.submit(pruning.step).add_done_callback(self._done)
        except StoreUnavailable:
            self._pruning = None

    def _done(self, done: Future[bool]) -> None:
        pruning = self._pruning
        assert pruning is not None
        if done.cancelled() or (error := done.exception()) is not None:
            if not done.cancelled():
                log.warning("old usage is not deleted now but later: %s", error)
        elif done.result():
            self._go_on(pruning)
            return
        if pruning.deleted:
            log.info("deleted %d settled calls that were older than %d days", pruning.deleted, self._keep_ms // DAY_MS)
        self._pruning, self._next_s = None, time.monotonic() + self._every_s


def prune(
    store: Transactions, before_ms: int, told: Callable[[int], None] = lambda _: None, *, pause_s: float = 0.0
) -> int:
    """Delete every call opened before the moment, with a pause between two batches; how many. Raises StoreUnavailable.

    ``told`` hears after each batch how many are deleted so far.
    """
    pruning = Pruning(before_ms)
    while store.run_sync(pruning.step):
        told(pruning.deleted)
        time.sleep(pause_s)
    told(pruning.deleted)
    return pruning.deleted
