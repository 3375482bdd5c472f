"""Changes that are on record: a table under an entry makes its change and the audit log's row in one transaction."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import sqlalchemy as sa

from arkway.core.audit import Entry
from arkway.stores.schema import audit

T = TypeVar("T")


class Transactions(Protocol):
    """What a table needs of a store."""

    def run_sync(self, work: Callable[[sa.Connection], T], *, read: bool = False, tell: bool = False) -> T: ...


class Within:
    """A store whose transaction is the one that is open: what several tables do happens together, or not at all."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def run_sync(self, work: Callable[[sa.Connection], T], *, read: bool = False, tell: bool = False) -> T:
        return work(self._connection)


class Recorded:
    """A table whose changes the audit log tells of."""

    def __init__(self, store: Transactions) -> None:
        self._store = store

    def under(self, entry: Entry) -> Self:
        """This table for one change: it happens together with its row of the audit log, or not at all.

        A change that comes to nothing (its work returns False, or no rows) leaves no row.
        """
        table = copy.copy(self)
        table._store = _Recording(self._store, entry)
        return table


class _Recording:
    """The store for one change."""

    def __init__(self, store: Transactions, entry: Entry) -> None:
        self._store, self._entry = store, entry

    def run_sync(self, work: Callable[[sa.Connection], T], *, read: bool = False, tell: bool = False) -> T:
        if read:
            return self._store.run_sync(work, read=True, tell=tell)

        def recorded(connection: sa.Connection) -> T:
            result = work(connection)
            if result is None or result:
                write_entry(connection, self._entry)
            return result

        return self._store.run_sync(recorded, tell=tell)


def write_entry(connection: sa.Connection, entry: Entry) -> None:
    """One more row, within the transaction of what it tells of. The clock is the store's: no caller sets the time.

    Ids are in the order of time, to the nanosecond.
    """
    now_ns = time.time_ns()
    row = {
        "id": f"audit-{now_ns:020d}-{secrets.token_hex(4)}",
        "at_ms": now_ns // 1_000_000,
        "account": entry.account,
        "project": entry.project,
        "actor": entry.actor.name,
        "action": entry.action,
        "target": entry.target,
        "detail": dict(entry.detail),
        "request_id": entry.actor.request_id,
    }
    connection.execute(audit.insert().values(row))
