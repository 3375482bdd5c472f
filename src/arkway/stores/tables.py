"""What the admin commands ask of the database: one class for each table, every question within one account and project.

Aliases are nobody's but the operator's. Access keys, which need the key ring, are in `arkway.stores.access_keys`.

Rows go in and out as plain mappings of column names (`arkway.stores.schema`) to values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from arkway.stores.portable import MadeInTurn, insert
from arkway.stores.recorded import Recorded, Transactions
from arkway.stores.schema import aliases, api_keys, endpoints

Row = Mapping[str, Any]

_PUBLIC_KEY_COLUMNS = [column for column in api_keys.c if column.name != "digest"]


class KeyTable(Recorded):
    """API keys. Nothing here ever returns a digest."""

    def insert(self, row: Row, digest: bytes) -> None:
        values = {**row, "digest": digest, "endpoints": list(row["endpoints"])}
        self._store.run_sync(lambda connection: connection.execute(api_keys.insert().values(values)), tell=True)

    def rows(self, account: str, project: str) -> Sequence[Row]:
        """Every key of the project, oldest first."""
        query = sa.select(*_PUBLIC_KEY_COLUMNS).where(api_keys.c.account == account, api_keys.c.project == project)
        return _rows(self._store, query.order_by(api_keys.c.created_at, MadeInTurn(api_keys.c.id)))

    def has_any(self, account: str, project: str) -> bool:
        """Whether the project has ever had a key."""
        query = sa.select(api_keys.c.id).where(api_keys.c.account == account, api_keys.c.project == project).limit(1)
        return self._store.run_sync(lambda connection: connection.execute(query).first() is not None, read=True)

    def revoke(self, account: str, project: str, key_id: str, now_s: int) -> bool:
        """False when the project has no such key. A second revocation keeps the time of the first."""
        change = (
            api_keys.update()
            .where(api_keys.c.account == account, api_keys.c.project == project, api_keys.c.id == key_id)
            .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, now_s))
        )
        return _changed(self._store, change)

    def update(
        self,
        account: str,
        project: str,
        key_id: str,
        role: str | UnsetType,
        endpoints: Sequence[str] | UnsetType,
        expires_at: int | UnsetType | None,
    ) -> bool:
        """False when the project has no such key, or it was revoked. What is UNSET stays as it is."""
        change = (
            api_keys.update()
            .where(api_keys.c.account == account, api_keys.c.project == project, api_keys.c.id == key_id)
            .where(api_keys.c.revoked_at.is_(None))
            .values(given(role=role, endpoints=endpoints, expires_at=expires_at))
        )
        return _changed(self._store, change)


class EndpointTable(Recorded):
    """Endpoints. A deleted one keeps its row, so that nothing makes it again unasked."""

    def insert(self, rows: Sequence[Row]) -> None:
        if rows:
            values = [dict(row) for row in rows]
            self._store.run_sync(lambda connection: connection.execute(endpoints.insert(), values), tell=True)

    def update(self, account: str, project: str, endpoint_id: str, values: Row) -> bool:
        """False when the project has no such endpoint."""
        change = (
            endpoints.update()
            .where(endpoints.c.account == account, endpoints.c.project == project, endpoints.c.id == endpoint_id)
            .where(endpoints.c.status != "deleted")
            .values(dict(values))
        )
        return _changed(self._store, change)

    def rows(self, account: str, project: str, *, deleted: bool = False) -> Sequence[Row]:
        """Every endpoint of the project, oldest first; deleted ones only when asked for."""
        query = sa.select(endpoints).where(endpoints.c.account == account, endpoints.c.project == project)
        if not deleted:
            query = query.where(endpoints.c.status != "deleted")
        return _rows(self._store, query.order_by(endpoints.c.created_at, MadeInTurn(endpoints.c.id)))


class AliasTable(Recorded):
    """Other names for models. A removed one keeps its row, so that nothing makes it again unasked."""

    def add(self, rows: Sequence[Row]) -> Sequence[str]:
        """The names that never had a row get one; which they are."""
        if not rows:
            return ()
        values = [dict(row) for row in rows]

        def work(connection: sa.Connection) -> list[str]:
            statement = insert(connection, aliases).on_conflict_do_nothing().returning(aliases.c.name)
            return list(connection.execute(statement, values).scalars())

        return self._store.run_sync(work, tell=True)

    def put(self, row: Row) -> None:
        """One name, in the place of whatever it stood for."""

        def work(connection: sa.Connection) -> None:
            statement = insert(connection, aliases).values({**row, "removed_at": None})
            new = {column.name: statement.excluded[column.name] for column in aliases.c}
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))

        self._store.run_sync(work, tell=True)

    def rows(self) -> Sequence[Row]:
        """Every alias that was not removed, by name."""
        columns = [column for column in aliases.c if column.name != "removed_at"]
        return _rows(self._store, sa.select(*columns).where(aliases.c.removed_at.is_(None)).order_by(aliases.c.name))

    def remove(self, name: str, now_s: int) -> bool:
        """False when there is no such alias."""
        change = aliases.update().where(aliases.c.name == name, aliases.c.removed_at.is_(None))
        return _changed(self._store, change.values(removed_at=now_s))


def given(**values: Any) -> dict[str, Any]:
    """Columns and their new values without those that are UNSET; at least one is given."""
    found = {name: value for name, value in values.items() if value is not UNSET}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _rows(store: Transactions, query: sa.Select[Any]) -> Sequence[Row]:
    return store.run_sync(lambda connection: plain_rows(connection, query), read=True)


def plain_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """The result as dictionaries with plain strings as keys (SQLAlchemy's are a subclass, which msgspec refuses)."""
    result = connection.execute(query)
    names = list(map(str, result.keys()))
    return [dict(zip(names, row, strict=True)) for row in result]


def _changed(store: Transactions, change: sa.Update) -> bool:
    return store.run_sync(lambda connection: connection.execute(change).rowcount > 0, tell=True)
