"""What the admin commands ask of the database: one class for each table, every question within one account and project.

Aliases are nobody's but the operator's. Access keys, which need the key ring, are in `arkway.stores.access_keys`.

Rows go in and out as plain mappings of column names (`arkway.stores.schema`) to values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from arkway.stores.schema import aliases, api_keys, endpoints, usage
from arkway.stores.sqlite import SqliteStore

Row = Mapping[str, Any]
Grouping = Literal["day", "key", "endpoint", "model"]

_PUBLIC_KEY_COLUMNS = [column for column in api_keys.c if column.name != "digest"]
_GROUPS: dict[str, sa.ColumnElement[Any]] = {
    "day": sa.func.date(usage.c.opened_ms / 1000, "unixepoch"),
    "key": usage.c.key_id,
    "endpoint": usage.c.endpoint_id,
    "model": usage.c.model,
}
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


class KeyTable:
    """API keys. Nothing here ever returns a digest."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def insert(self, row: Row, digest: bytes) -> None:
        values = {**row, "digest": digest, "endpoints": list(row["endpoints"])}
        self._store.run_sync(lambda connection: connection.execute(api_keys.insert().values(values)), tell=True)

    def rows(self, account: str, project: str) -> Sequence[Row]:
        """Every key of the project, oldest first."""
        query = sa.select(*_PUBLIC_KEY_COLUMNS).where(api_keys.c.account == account, api_keys.c.project == project)
        return _rows(self._store, query.order_by(api_keys.c.created_at, sa.text("api_keys.rowid")))

    def revoke(self, account: str, project: str, key_id: str, now_s: int) -> bool:
        """False when the project has no such key. A second revocation keeps the time of the first."""
        change = (
            api_keys.update()
            .where(api_keys.c.account == account, api_keys.c.project == project, api_keys.c.id == key_id)
            .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, now_s))
        )
        return _changed(self._store, change)


class EndpointTable:
    """Endpoints. A deleted one keeps its row, so that nothing makes it again unasked."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def insert(self, rows: Sequence[Row]) -> None:
        if rows:
            values = [dict(row) for row in rows]
            self._store.run_sync(lambda connection: connection.execute(endpoints.insert(), values), tell=True)

    def rows(self, account: str, project: str, *, deleted: bool = False) -> Sequence[Row]:
        """Every endpoint of the project, oldest first; deleted ones only when asked for."""
        query = sa.select(endpoints).where(endpoints.c.account == account, endpoints.c.project == project)
        if not deleted:
            query = query.where(endpoints.c.status != "deleted")
        return _rows(self._store, query.order_by(endpoints.c.created_at, sa.text("endpoints.rowid")))

    def set_status(self, account: str, project: str, endpoint_id: str, status: str) -> bool:
        """False when the project has no such endpoint."""
        change = (
            endpoints.update()
            .where(endpoints.c.account == account, endpoints.c.project == project, endpoints.c.id == endpoint_id)
            .where(endpoints.c.status != "deleted")
            .values(status=status)
        )
        return _changed(self._store, change)


class AliasTable:
    """Other names for models. A removed one keeps its row, so that nothing makes it again unasked."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def add(self, rows: Sequence[Row]) -> Sequence[str]:
        """The names that never had a row get one; which they are."""
        if not rows:
            return ()
        statement = insert(aliases).on_conflict_do_nothing().returning(aliases.c.name)
        values = [dict(row) for row in rows]
        return self._store.run_sync(lambda connection: list(connection.execute(statement, values).scalars()), tell=True)

    def put(self, row: Row) -> None:
        """One name, in the place of whatever it stood for."""
        statement = insert(aliases).values({**row, "removed_at": None})
        replaced = statement.on_conflict_do_update(index_elements=["name"], set_=dict(statement.excluded))
        self._store.run_sync(lambda connection: connection.execute(replaced), tell=True)

    def rows(self) -> Sequence[Row]:
        """Every alias that was not removed, by name."""
        columns = [column for column in aliases.c if column.name != "removed_at"]
        return _rows(self._store, sa.select(*columns).where(aliases.c.removed_at.is_(None)).order_by(aliases.c.name))

    def remove(self, name: str, now_s: int) -> bool:
        """False when there is no such alias."""
        change = aliases.update().where(aliases.c.name == name, aliases.c.removed_at.is_(None))
        return _changed(self._store, change.values(removed_at=now_s))


class UsageTable:
    """One row for each settled attempt."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def insert(self, rows: Sequence[Row]) -> None:
        """Idempotent: an attempt that is there already keeps its first row."""
        values = [dict(row) for row in rows]
        statement = insert(usage).on_conflict_do_nothing()
        self._store.run_sync(lambda connection: connection.execute(statement, values))

    def rows(self, account: str, project: str, since_ms: int, until_ms: int, limit: int) -> Sequence[Row]:
        """The newest ``limit`` attempts opened in the half-open range of time, newest first."""
        query = sa.select(usage).where(*_within(account, project, since_ms, until_ms))
        return _rows(self._store, query.order_by(usage.c.opened_ms.desc(), usage.c.attempt_id.desc()).limit(limit))

    def totals(self, account: str, project: str, since_ms: int, until_ms: int, by: Grouping) -> Sequence[Row]:
        """Sums for each ``by`` (days are UTC, ``YYYY-MM-DD``): ``group``, ``calls`` and the token counts."""
        group = _GROUPS[by].label("group")
        sums = [sa.func.sum(usage.c[name]).label(name) for name in _COUNTS]
        query = sa.select(group, sa.func.count().label("calls"), *sums)
        return _rows(
            self._store, query.where(*_within(account, project, since_ms, until_ms)).group_by(group).order_by(group)
        )


def _within(account: str, project: str, since_ms: int, until_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    columns = usage.c
    mine = (columns.account == account, columns.project == project)
    return (*mine, columns.opened_ms >= since_ms, columns.opened_ms < until_ms)


def _rows(store: SqliteStore, query: sa.Select[Any]) -> Sequence[Row]:
    return store.run_sync(lambda connection: plain_rows(connection, query), read=True)


def plain_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """The result as dictionaries with plain strings as keys (SQLAlchemy's are a subclass, which msgspec refuses)."""
    result = connection.execute(query)
    names = list(map(str, result.keys()))
    return [dict(zip(names, row, strict=True)) for row in result]


def _changed(store: SqliteStore, change: sa.Update) -> bool:
    return store.run_sync(lambda connection: connection.execute(change).rowcount > 0, tell=True)
