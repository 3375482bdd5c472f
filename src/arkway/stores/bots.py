"""Bots in the database: what the commands ask of it, and all of them for those who serve."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from arkway.core.bot import Bot
from arkway.stores.portable import MadeInTurn
from arkway.stores.recorded import Recorded
from arkway.stores.schema import bots, endpoints
from arkway.stores.tables import Row, plain_rows

log = logging.getLogger("arkway.store")


class BotTable(Recorded):
    """Bots. A deleted one keeps its row, since the ledger names it."""

    def insert(self, row: Row) -> bool:
        """False when the project has no such endpoint for it to stand on."""
        values = dict(row)

        def work(connection: sa.Connection) -> bool:
            if not _has_endpoint(connection, values["account"], values["project"], values["endpoint_id"]):
                return False
            connection.execute(bots.insert().values(values))
            return True

        return self._store.run_sync(work, tell=True)

    def update(self, account: str, project: str, bot_id: str, values: Row) -> bool:
        """False when the project has no such bot, or not the endpoint that it is to stand on."""
        change = (
            bots.update()
            .where(bots.c.account == account, bots.c.project == project, bots.c.id == bot_id)
            .where(bots.c.status != "deleted")
            .values(dict(values))
        )

        def work(connection: sa.Connection) -> bool:
            wanted = values.get("endpoint_id")
            if wanted is not None and not _has_endpoint(connection, account, project, wanted):
                return False
            return connection.execute(change).rowcount > 0

        return self._store.run_sync(work, tell=True)

    def rows(self, account: str, project: str) -> Sequence[Row]:
        """Every bot of the project that was not deleted, oldest first."""
        query = sa.select(bots).where(bots.c.account == account, bots.c.project == project, bots.c.status != "deleted")
        ordered = query.order_by(bots.c.created_at, MadeInTurn(bots.c.id))
        return self._store.run_sync(lambda connection: plain_rows(connection, ordered), read=True)


class BotShelf:
    """Reads the bots of all tenants. One that a newer program wrote and this one cannot read is left out."""

    def __init__(self) -> None:
        self._unreadable: frozenset[str] = frozenset()

    def read(self, connection: sa.Connection) -> dict[str, Bot]:
        """By id. The log says once of each that cannot be read."""
        found: dict[str, Bot] = {}
        unreadable: dict[str, str] = {}
        for row in plain_rows(connection, sa.select(bots).where(bots.c.status != "deleted")):
            try:
                found[row["id"]] = msgspec.convert(row, Bot)
            except msgspec.ValidationError as error:
                unreadable[row["id"]] = str(error)
        for bot_id in sorted(unreadable.keys() - self._unreadable):
            log.warning("the bot %s cannot be used: %s", bot_id, unreadable[bot_id])
        self._unreadable = frozenset(unreadable)
        return found


def _has_endpoint(connection: sa.Connection, account: str, project: str, endpoint_id: str) -> bool:
    mine = (endpoints.c.account == account, endpoints.c.project == project, endpoints.c.id == endpoint_id)
    return (
        connection.execute(sa.select(endpoints.c.id).where(*mine, endpoints.c.status != "deleted")).first() is not None
    )
