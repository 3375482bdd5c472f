"""Accounts and their projects. Every account has the project ``default``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from arkway.core.errors import InvalidField
from arkway.stores.recorded import Recorded
from arkway.stores.schema import access_keys, accounts, api_keys, bots, endpoints, limits, projects, rollups, usage
from arkway.stores.tables import Row, plain_rows

# What a project may hold, and what one of it is called. Revoked and deleted rows count: the ledger names them.
CONTENTS: Mapping[str, sa.Table] = {
    "API key": api_keys,
    "access key": access_keys,
    "endpoint": endpoints,
    "bot": bots,
    "limit": limits,
    "settled call": usage,
    "sum of settled calls": rollups,
}


class AccountTable(Recorded):
    """Accounts, for the operator. An account is never deleted: its ledger stays."""

    def insert(self, row: Row, project: Row) -> bool:
        """An account and its first project; False when there is such an account already."""

        def work(connection: sa.Connection) -> bool:
            if _there(connection, accounts.c.id == row["id"]):
                return False
            connection.execute(accounts.insert().values(dict(row)))
            connection.execute(projects.insert().values(dict(project)))
            return True

        return self._store.run_sync(work, tell=True)

    def rows(self) -> Sequence[Row]:
        """Every account, oldest first."""
        query = sa.select(accounts).order_by(accounts.c.created_at, accounts.c.id)
        return self._store.run_sync(lambda connection: plain_rows(connection, query), read=True)

    def set_status(self, account: str, status: str) -> bool:
        """False when there is no such account."""
        change = accounts.update().where(accounts.c.id == account).values(status=status)
        return self._store.run_sync(lambda connection: connection.execute(change).rowcount > 0, tell=True)

    def rename(self, account: str, name: str) -> bool:
        """False when there is no such account."""
        change = accounts.update().where(accounts.c.id == account).values(name=name)
        return self._store.run_sync(lambda connection: connection.execute(change).rowcount > 0, tell=True)


class ProjectTable(Recorded):
    """Projects, every question within one account."""

    def insert(self, row: Row) -> bool:
        """False when the account has a project of this id or name already. Raises InvalidField without the account."""
        columns = projects.c
        same = sa.and_(columns.account == row["account"], sa.or_(columns.id == row["id"], columns.name == row["name"]))

        def work(connection: sa.Connection) -> bool:
            if not _there(connection, accounts.c.id == row["account"]):
                raise InvalidField(f"there is no account `{row['account'][:64]}`", "account")
            if _there(connection, same):
                return False
            connection.execute(projects.insert().values(dict(row)))
            return True

        return self._store.run_sync(work, tell=True)

    def rows(self, account: str) -> Sequence[Row]:
        """Every project of the account, oldest first."""
        query = sa.select(projects).where(projects.c.account == account)
        ordered = query.order_by(projects.c.created_at, projects.c.id)
        return self._store.run_sync(lambda connection: plain_rows(connection, ordered), read=True)

    def rename(self, account: str, project: str, name: str) -> bool:
        """False when the account has no such project, or another one of this name."""
        columns = projects.c
        same = sa.and_(columns.account == account, columns.name == name, columns.id != project)
        change = projects.update().where(columns.account == account, columns.id == project).values(name=name)

        def work(connection: sa.Connection) -> bool:
            return not _there(connection, same) and connection.execute(change).rowcount > 0

        return self._store.run_sync(work, tell=True)

    def delete(self, account: str, project: str) -> bool:
        """False when the account has no such project. Raises InvalidField when there is anything in it."""
        mine = projects.delete().where(projects.c.account == account, projects.c.id == project)

        def work(connection: sa.Connection) -> bool:
            held = _contents(connection, account, project)
            if held:
                raise InvalidField(f"the project `{project[:64]}` is not empty: it has {', '.join(held)}", "project")
            return connection.execute(mine).rowcount > 0

        return self._store.run_sync(work, tell=True)


def _contents(connection: sa.Connection, account: str, project: str) -> list[str]:
    """What is in the project, in words."""
    held = []
    for name, table in CONTENTS.items():
        query = sa.select(sa.func.count()).select_from(table)
        query = query.where(table.c.account == account, table.c.project == project)
        count = connection.execute(query).scalar_one()
        if count:
            held.append(f"{count} {name}{'s' if count > 1 else ''}")
    return held


def _there(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    query: sa.Select[Any] = sa.select(sa.literal(1)).where(condition)
    return connection.execute(query.limit(1)).first() is not None
