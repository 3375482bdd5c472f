"""The audit log: how admin commands put themselves on record, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from arkway.core.audit import SERVER, Actor, Entry


class Acting(msgspec.Struct, frozen=True):
    """Who gives the commands, and in which project (empty: the whole account)."""

    account: str
    project: str = ""
    actor: Actor = SERVER

    def entry(self, action: str, target: str, **detail: Any) -> Entry:
        """What the log is to say of a change; details without a value are left out. Never give it a secret."""
        told = {name: value for name, value in detail.items() if value not in (None, "", (), [])}
        return Entry(self.account, self.project, self.actor, action, target, told)


class AuditInfo(msgspec.Struct, frozen=True):
    """One row: who (``actor``) did what (``action``) to what (``target``), when, and from which request."""

    id: str
    at_ms: int
    account: str
    project: str
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    request_id: str


class AuditTable(Protocol):
    """Where the log is kept."""

    def rows(
        self,
        account: str,
        *,
        since_ms: int = 0,
        actor: str = "",
        action: str = "",
        limit: int = 100,
        before: tuple[int, str] | None = None,
    ) -> Sequence[Mapping[str, Any]]: ...

    def rows_of_all(
        self,
        *,
        since_ms: int = 0,
        actor: str = "",
        action: str = "",
        limit: int = 100,
        before: tuple[int, str] | None = None,
    ) -> Sequence[Mapping[str, Any]]: ...


class AuditLog:
    """Reads the log of one account; of the whole host with ``account`` None, which is for the operator alone."""

    def __init__(self, table: AuditTable, account: str | None) -> None:
        self._table, self._account = table, account

    def list(
        self,
        since_ms: int = 0,
        actor: str = "",
        action: str = "",
        limit: int = 100,
        before: tuple[int, str] | None = None,
    ) -> tuple[AuditInfo, ...]:
        """The newest entries, newest first; at most ``limit`` and 10 000. ``actor`` and ``action`` empty = any.

        ``before``: only those older than the entry of this time (epoch milliseconds) and id.
        """
        if self._account is None:
            rows = self._table.rows_of_all(since_ms=since_ms, actor=actor, action=action, limit=limit, before=before)
        else:
            rows = self._table.rows(
                self._account, since_ms=since_ms, actor=actor, action=action, limit=limit, before=before
            )
        return tuple(msgspec.convert(row, AuditInfo) for row in rows)
