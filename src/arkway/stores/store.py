"""The database as tables, caches and the drain see it: SQLite for one process, PostgreSQL for several and for hosts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self, TypeVar

import sqlalchemy as sa

from arkway.core.errors import Misconfigured

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
Reload = Callable[[sa.Connection], None]

POSTGRES_SCHEMES = ("postgresql", "postgres")


class Store(Protocol):
    """Hands functions to the thread that owns the connection, each run in one transaction. Not for the event loop,
    but for `run`; every method may raise StoreUnavailable.

    ``read``: the work writes nothing. ``tell``: every process that uses the database takes the change in, within two
    seconds (see `watch`); such transactions come one after the other, whichever process they are of, so that work may
    read first and then write what follows from it.
    """

    @property
    def shared(self) -> bool:
        """Whether other server processes may use the same database."""

    @property
    def trouble(self) -> str:
        """Why the database does not answer just now, for the operator; empty when it does."""

    def run_sync(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """Run ``work`` and return its result. Not from inside ``work``."""

    async def run(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """As ``run_sync``, without blocking the event loop."""

    def submit(self, work: Work[T], *, read: bool = False, tell: bool = False) -> Future[T]:
        """Start ``work`` without waiting for it; the only form allowed on the store's own thread."""

    def watch(self, reload: Reload) -> None:
        """Call ``reload`` now, after each ``run(tell=True)`` and after another process's; never twice at a time."""

    def every_poll(self, tick: Callable[[], None]) -> None:
        """Call ``tick`` on the store's thread about once a second; it must be quick and may only submit work."""

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else, of any process, is in such a block of the same database: for what is made once."""

    def checkpoint_sync(self) -> bool:
        """Bring every committed row onto the disk; False when that has to wait."""

    def close(self) -> None:
        """Finish the work in hand and close."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_store(path: Path, url: str = "", *, poll_s: float = 1.0) -> Store:
    """The database at ``url``, or the SQLite file ``path`` when that is empty.

    Raises Misconfigured and StoreUnavailable, never with the password of the URL in the message.
    """
    if not url:
        from arkway.stores.sqlite import SqliteStore

        return SqliteStore(path, poll_s=poll_s)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.removesuffix("+psycopg") not in POSTGRES_SCHEMES:
        raise Misconfigured(
            "the setting `database.url` has to be empty (SQLite in the data directory) or "
            "`postgresql://user@host:5432/name`"
        )
    from arkway.stores.postgres import PostgresStore  # psycopg is an extra

    return PostgresStore(url, poll_s=poll_s)
