"""Keys and endpoints as the road of a call sees them: dictionaries of this process, never a database query."""

from __future__ import annotations

import hmac
from concurrent.futures import Future
from typing import Any

import msgspec
import sqlalchemy as sa

from arkway.core.caller import Caller
from arkway.core.model import Endpoint
from arkway.stores.home import Pepper
from arkway.stores.schema import api_keys, endpoints
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import plain_rows

NEVER = 1 << 62


class _Key(msgspec.Struct, frozen=True):
    digest: bytes
    caller: Caller
    dead_from_s: int


_UNKNOWN = _Key(b"\0" * 32, Caller("", "", ""), 0)


class CachedDirectory:
    """A Directory that holds all keys and endpoints and is told when they change.

    A change made through the same store is effective when its command returns; one made by another process at the
    store's next poll (``poll_s``, one second). While the database is away the last known state goes on.
    """

    def __init__(self, store: SqliteStore, pepper: Pepper, *, used_every_polls: int = 10) -> None:
        self._store, self._pepper = store, pepper
        self._keys: dict[bytes, _Key] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._projects: dict[tuple[str, str], tuple[Endpoint, ...]] = {}
        self._used: dict[str, int] = {}
        self._used_every_polls, self._polls = used_every_polls, 0
        store.watch(self._load)
        store.every_poll(self._poll)

    def caller(self, secret: str, now_s: int) -> Caller | None:
        """Whose key this is. Unknown, revoked and expired keys take the same steps and give the same None."""
        digest = self._pepper.digest(secret)
        key = self._keys.get(digest, _UNKNOWN)
        known = hmac.compare_digest(key.digest, digest)
        alive = now_s < key.dead_from_s
        if not (known and alive):
            return None
        self._used[key.caller.key_id] = now_s
        return key.caller

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return self._endpoints.get(endpoint_id)

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]:
        """Every endpoint of one project, oldest first."""
        return self._projects.get((account, project), ())

    def write_used(self) -> Future[None]:
        """Start writing the times of last use that are only in memory."""
        used, self._used = self._used, {}
        future = self._store.submit(lambda connection: _write_used(connection, used))
        future.add_done_callback(lambda done: self._keep_unwritten(done, used))
        return future

    def _keep_unwritten(self, done: Future[None], used: dict[str, int]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._used = {**used, **self._used}

    def _poll(self) -> None:
        self._polls += 1
        if self._used and self._polls % self._used_every_polls == 0:
            self.write_used()

    def _load(self, connection: sa.Connection) -> None:
        keys = {row.digest: _key(row) for row in connection.execute(sa.select(api_keys))}
        query = sa.select(endpoints).where(endpoints.c.status != "deleted")
        ordered = query.order_by(endpoints.c.created_at, sa.text("endpoints.rowid"))
        found = [msgspec.convert(row, Endpoint) for row in plain_rows(connection, ordered)]
        projects: dict[tuple[str, str], list[Endpoint]] = {}
        for endpoint in found:
            projects.setdefault((endpoint.account, endpoint.project), []).append(endpoint)
        self._keys = keys
        self._endpoints = {endpoint.id: endpoint for endpoint in found}
        self._projects = {place: tuple(group) for place, group in projects.items()}


def _key(row: sa.Row[Any]) -> _Key:
    dead_from_s = min(
        NEVER if row.revoked_at is None else 0,
        NEVER if row.expires_at is None else int(row.expires_at),
    )
    return _Key(row.digest, Caller(row.account, row.project, row.id, tuple(row.endpoints)), dead_from_s)


def _write_used(connection: sa.Connection, used: dict[str, int]) -> None:
    if used:
        change = api_keys.update().where(api_keys.c.id == sa.bindparam("key_id"))
        values = [{"key_id": key_id, "now_s": now_s} for key_id, now_s in used.items()]
        connection.execute(change.values(last_used_at=sa.bindparam("now_s")), values)
