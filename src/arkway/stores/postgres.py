"""The database of several processes and hosts: PostgreSQL, by one connection that works and one that listens.

Nothing on the road of a call waits for it, so one thread with one connection is enough (docs/decisions/0008). While the
server is away, work fails at once (StoreUnavailable), those who keep data beside the road of a call try again, and
caches stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa

from arkway.core.errors import StoreUnavailable
from arkway.stores.listening import CHANNEL, Listener
from arkway.stores.migration import migrate_shared
from arkway.stores.postgres_link import AWAY, Link, cut, driver_of, is_lost, translated
from arkway.stores.store import Reload, Work
from arkway.stores.thread import StoreThread

T = TypeVar("T")

PING_AFTER_S = 0.1
RETRY_S = 0.25
STUCK_S = 5.0
CLOSE_S = 3.0
CUT_S = 1.0
SNAPSHOT = sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

# Advisory locks, by number; "arkw" in ASCII is the first half of each.
_SPACE = 0x61726B77
_SCHEMA, _CHANGES, _ALONE = 1, 2, 3

log = logging.getLogger("arkway.store")


class PostgresStore:
    """Implements `arkway.stores.store.Store` for any number of server processes.

    Opening makes the tables or migrates them; other processes go on meanwhile. Raises Misconfigured for a URL that
    cannot be read and for a database that is not Arkway's or newer than this program, StoreUnavailable when the server
    cannot be reached. Use as a context manager, or ``close()`` it.
    """

    def __init__(self, url: str, *, poll_s: float = 1.0, busy_s: float = 5.0) -> None:
        self._link = Link(url, busy_s=busy_s)
        self.name = self._link.name
        self._engine = self._link.engine()
        self._watchers: list[Reload] = []
        self._ticks: list[Callable[[], None]] = []
        self._reloading, self._alone = threading.Lock(), threading.Lock()
        self._used_s = self._retry_at_s = 0.0
        self._away_since_s = 0.0
        self._connection: sa.Connection | None = self._engine.connect()
        try:
            self._prepare(self._connection)
        except BaseException:
            self._connection.close()
            raise
        self._thread = StoreThread(self._poll, poll_s)
        self._thread.start()
        self._listener = Listener(self._link, self._reload, poll_s)

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shared(self) -> bool:
        return True

    @property
    def trouble(self) -> str:
        """Empty while the server answers."""
        since_s, busy_s = self._away_since_s, self._thread.busy_s
        away_s = time.monotonic() - since_s if since_s else busy_s if busy_s > STUCK_S else 0.0
        if not away_s:
            return ""
        return (
            f"the database has been away for {away_s:.0f} seconds; known keys go on, usage waits in the journal, "
            "and nothing can be changed"
        )

    @property
    def hears(self) -> bool:
        """Whether other processes' changes are told at once; otherwise they are found by looking every ``poll_s``."""
        return self._listener.hears

    def run_sync(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """Run ``work`` in a transaction and return its result. Not for the event loop, and not from inside ``work``.

        Raises StoreUnavailable when the database fails. If that happens at the very end, the change may have been made.
        """
        return self.submit(work, read=read, tell=tell).result()

    async def run(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """As ``run_sync``, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(work, read=read, tell=tell))

    def submit(self, work: Work[T], *, read: bool = False, tell: bool = False) -> Future[T]:
        """Start ``work`` without waiting for it; the only form allowed on the store's own thread."""
        return self._thread.submit(lambda: self._transacted(work, read, tell))

    def watch(self, reload: Reload) -> None:
        """Call ``reload`` now, after each ``run(tell=True)`` and when another process has told of a change.

        It is called on the store's thread or the listener's, never twice at a time.
        """
        self._thread.submit(lambda: self._first(reload)).result()

    def every_poll(self, tick: Callable[[], None]) -> None:
        """Call ``tick`` on the store's thread about once in ``poll_s``; it must be quick and may only submit work."""
        self._ticks.append(tick)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process is in such a block of this database. Raises StoreUnavailable after ``busy_s``."""
        with self._alone:  # the server's lock is the connection's, which all threads here share
            self.run_sync(lambda connection: connection.execute(_lock("pg_advisory_lock", _ALONE)))
            try:
                yield
            finally:
                # A lost connection has given the lock up already.
                with contextlib.suppress(StoreUnavailable):
                    self.run_sync(lambda connection: connection.execute(_lock("pg_advisory_unlock", _ALONE)))

    def checkpoint_sync(self) -> bool:
        """A committed row is on the server's disk: there is nothing to bring there."""
        return True

    def close(self) -> None:
        """Finish the work in hand and close; a server that does not answer is not waited for long."""
        if not self._thread.close(CLOSE_S):
            return
        if not self._thread.join(0) and self._connection is not None:
            cut(driver_of(self._connection))
        self._listener.close()
        if self._thread.join(CUT_S):
            self._drop()
        self._engine.dispose()

    # Opening

    def _prepare(self, connection: sa.Connection) -> None:
        """Make or migrate the tables, one process at a time."""
        with translated(), connection.begin():
            connection.execute(_lock("pg_advisory_xact_lock", _SCHEMA))
            migrate_shared(connection, self.name)

    # The store's thread, on which everything below runs but for `_reload`

    def _transacted(self, work: Work[T], read: bool, tell: bool) -> T:
        connection = self._usable()
        try:
            with translated(), connection.begin():
                if read:
                    connection.execute(SNAPSHOT)
                if tell:
                    connection.execute(_lock("pg_advisory_xact_lock", _CHANGES))
                result = work(connection)
                if tell:
                    connection.execute(sa.select(sa.func.pg_notify(CHANNEL, self._listener.name)))
        except StoreUnavailable as error:
            self._note(error)
            raise
        self._used_s = time.monotonic()
        if tell:
            self._tell(connection)
        return result

    def _tell(self, connection: sa.Connection) -> None:
        """The work is committed, whatever happens here: what cannot be read again now is read later."""
        try:
            self._reload(connection)
        except StoreUnavailable as error:
            self._note(error)
            self._listener.request()
            log.warning("a change is committed and takes effect later: %s", error)

    def _reload(self, connection: sa.Connection, watchers: Sequence[Reload] | None = None) -> None:
        """On either thread. One at a time, each with a snapshot of its own: an older one never comes last."""
        with self._reloading, translated(), connection.begin():
            connection.execute(SNAPSHOT)
            for reload in self._watchers if watchers is None else watchers:
                reload(connection)

    def _first(self, reload: Reload) -> None:
        """In the list before it is called: a change that comes in between is not missed."""
        connection = self._usable()
        self._watchers.append(reload)
        try:
            self._reload(connection, [reload])
        except BaseException:
            self._watchers.remove(reload)
            raise

    def _poll(self) -> None:
        try:
            self._usable()
        except StoreUnavailable as error:
            log.debug("the database did not answer a poll: %s", error)
        for tick in self._ticks:
            try:
                tick()
            except Exception:
                log.exception("a poll of the database failed")

    # The connection

    def _usable(self) -> sa.Connection:
        """The connection, tried if it has been idle and made anew if it is lost. Raises StoreUnavailable."""
        if self._connection is not None:
            if time.monotonic() - self._used_s < PING_AFTER_S or self._answers(self._connection):
                return self._connection
            self._drop()
        if time.monotonic() < self._retry_at_s:
            raise StoreUnavailable(AWAY)
        try:
            self._connection = self._engine.connect()
        except StoreUnavailable as error:
            self._away(error)
            raise StoreUnavailable(AWAY) from error
        self._back()
        return self._connection

    def _answers(self, connection: sa.Connection) -> bool:
        try:
            with connection.begin():
                connection.exec_driver_sql("SELECT 1")
        except sa.exc.DBAPIError:
            return False
        self._used_s = time.monotonic()
        return True

    def _note(self, error: StoreUnavailable) -> None:
        """After work that failed: is it the connection's fault?"""
        if is_lost(error.__cause__):
            self._drop()
            self._away(error)

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None

    def _away(self, error: StoreUnavailable) -> None:
        self._retry_at_s = time.monotonic() + RETRY_S
        if not self._away_since_s:
            self._away_since_s = time.monotonic()
            log.error("%s; usage waits in the journal meanwhile", error)

    def _back(self) -> None:
        self._used_s = time.monotonic()
        if self._away_since_s:
            log.warning("the database is back after %.1f seconds", time.monotonic() - self._away_since_s)
            self._away_since_s = 0.0


def _lock(function: str, number: int) -> sa.Select[Any]:
    return sa.select(getattr(sa.func, function)(_SPACE, number))
