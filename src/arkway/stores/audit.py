"""The audit log, read. Nothing here changes or removes a row, and the database refuses whoever tries."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from arkway.core.audit import Entry
from arkway.stores.recorded import Recorded, write_entry
from arkway.stores.schema import audit
from arkway.stores.tables import Row, plain_rows

ROWS_MAX = 10_000

Place = tuple[int, str]
"""A row's time (epoch milliseconds) and id: where it stands in the log."""


class AuditTable(Recorded):
    """One row for each change. Rows come newest first."""

    def append(self, entry: Entry) -> None:
        """An entry by itself, for what changes no table; raises StoreUnavailable, and then it must not happen."""
        self._store.run_sync(lambda connection: write_entry(connection, entry))

    def rows(
        self,
        account: str,
        *,
        since_ms: int = 0,
        actor: str = "",
        action: str = "",
        limit: int = 100,
        before: Place | None = None,
    ) -> Sequence[Row]:
        """What happened in one account, only ``before`` that row; ``actor`` and ``action`` empty = any."""
        return self._found(_matching(since_ms, actor, action).where(audit.c.account == account), limit, before)

    def rows_of_all(
        self,
        *,
        since_ms: int = 0,
        actor: str = "",
        action: str = "",
        limit: int = 100,
        before: Place | None = None,
    ) -> Sequence[Row]:
        """What happened on this host, in every account: for the operator."""
        return self._found(_matching(since_ms, actor, action), limit, before)

    def _found(self, query: sa.Select[tuple[object, ...]], limit: int, before: Place | None) -> Sequence[Row]:
        if before is not None:
            query = query.where(sa.tuple_(audit.c.at_ms, audit.c.id) < before)
        newest = query.order_by(audit.c.at_ms.desc(), audit.c.id.desc()).limit(min(limit, ROWS_MAX))
        return self._store.run_sync(lambda connection: plain_rows(connection, newest), read=True)


def _matching(since_ms: int, actor: str, action: str) -> sa.Select[tuple[object, ...]]:
    query = sa.select(audit).where(audit.c.at_ms >= since_ms)
    if actor:
        query = query.where(audit.c.actor == actor)
    return query.where(audit.c.action == action) if action else query
