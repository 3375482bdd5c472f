"""The database: one SQLite file, one connection, one thread that alone uses it.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at the same moment, and a
server and a command line are two. So every write transaction, every checkpoint, and the opening and closing of a
connection happen under an exclusive lock on ``<file>.lock`` (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import private_directory
from arkway.stores.locks import FileLock
from arkway.stores.migration import migrate, revision_of
from arkway.stores.schema import REVISION

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

CHECKPOINT_TRANSACTIONS = 1000
CHECKPOINT_S = 60.0
CHECKPOINT_WAIT_MS = 50

log = logging.getLogger("arkway.store")


class SqliteStore:
    """Hands functions to the thread that owns the connection, each run in one transaction.

    Opening creates the file or migrates it. Raises Misconfigured for a file that is damaged, newer than this program or
    in use by an older one, StoreUnavailable when it cannot be opened or another process keeps the lock for ``busy_s``.
    Use as a context manager, or ``close()`` it.
    """

    def __init__(self, path: Path, *, poll_s: float = 1.0, busy_s: float = 5.0) -> None:
        self.path = path
        self._poll_s, self._busy_s = poll_s, busy_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watchers: list[Callable[[sa.Connection], None]] = []
        self._ticks: list[Callable[[], None]] = []
        self._uncheckpointed = 0
        self._checkpointed_s = time.monotonic()
        self._version = -1
        self._reading = False
        self._closed = False
        private_directory(path.parent)
        try:
            self._lock = FileLock(path.with_name(path.name + ".lock"))
            self._users = FileLock(path.with_name(path.name + ".users"))
        except OSError as error:
            raise StoreUnavailable(f"the database {path} cannot be opened: {error.strerror}") from error
        self._engine = sa.create_engine("sqlite://", creator=self._opened, poolclass=NullPool)
        sa.event.listen(self._engine, "begin", self._begin)
        self._connection = self._first_connection()
        self._thread = threading.Thread(target=self._work, name="arkway-store", daemon=True)
        self._thread.start()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_sync(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """Run ``work`` in a transaction and return its result; ``read``: it writes nothing; ``tell``: see ``watch``.

        Not for the event loop, and not from inside ``work``. Raises StoreUnavailable when the database fails.
        """
        return self._submitted(work, read, tell).result()

    async def run(self, work: Work[T], *, read: bool = False, tell: bool = False) -> T:
        """As ``run_sync``, without blocking the event loop."""
        return await asyncio.wrap_future(self._submitted(work, read, tell))

    def checkpoint_sync(self) -> bool:
        """Bring every committed row into the database file and onto the disk; False when a reader was in the way."""
        done: Future[bool] = Future()
        self._submit(lambda: _settle(done, self._checkpointed))
        return done.result()

    def watch(self, reload: Callable[[sa.Connection], None]) -> None:
        """Call ``reload`` on the store's thread now, after each ``run(tell=True)`` and after another's commit."""
        self.run_sync(reload, read=True)
        self._watchers.append(reload)

    def every_poll(self, tick: Callable[[], None]) -> None:
        """Call ``tick`` on the store's thread about once in ``poll_s``; it must be quick and may only submit work."""
        self._ticks.append(tick)

    def submit(self, work: Work[T], *, read: bool = False, tell: bool = False) -> Future[T]:
        """Start ``work`` without waiting for it; the only form allowed on the store's own thread."""
        return self._submitted(work, read, tell)

    def close(self) -> None:
        """Finish the work in hand, checkpoint and close."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        with contextlib.suppress(StoreUnavailable), self._translated(), self._lock.held(self._busy_s):
            try:
                self._checkpoint()
            finally:
                self._connection.close()
        self._engine.dispose()
        self._lock.close()
        self._users.close()

    # Opening

    def _first_connection(self) -> sa.Connection:
        try:
            with self._translated(), self._lock.held(self._busy_s):
                self._prepare()
                return self._engine.connect()
        except BaseException:
            self._users.close()
            self._lock.close()
            raise

    def _prepare(self) -> None:
        if revision_of(self.path) != REVISION:
            if not self._users.take():
                raise Misconfigured(
                    f"{self.path} has another version's schema and is in use by another Arkway process; "
                    "stop that process, then start again"
                )
            migrate(self.path)
        if not self._users.take(shared=True):
            raise StoreUnavailable(f"{self.path} is being migrated by another process; try again in a moment")

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    # The thread

    def _submit(self, job: Callable[[], None]) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed: the server is shutting down")
        self._jobs.put(job)

    def _submitted(self, work: Work[T], read: bool, tell: bool) -> Future[T]:
        done: Future[T] = Future()
        self._submit(lambda: _settle(done, lambda: self._transacted(work, read, tell)))
        return done

    def _work(self) -> None:
        poll_at = time.monotonic() + self._poll_s
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, poll_at - time.monotonic()))
                if job is None:
                    return
                job()
            except queue.Empty:
                pass
            if time.monotonic() >= poll_at:
                poll_at = time.monotonic() + self._poll_s
                self._poll()

    def _transacted(self, work: Work[T], read: bool, tell: bool) -> T:
        with self._translated():
            self._reading = read
            if read:
                with self._connection.begin():
                    return work(self._connection)
            with self._lock.held(self._busy_s):
                with self._connection.begin():
                    result = work(self._connection)
                self._uncheckpointed += 1
                if self._uncheckpointed >= CHECKPOINT_TRANSACTIONS:
                    self._checkpoint()
        if tell:
            self._tell()
        return result

    def _tell(self) -> None:
        """The work is committed, whatever happens here: what cannot be read again now is read at the next poll."""
        try:
            self._reload()
        except StoreUnavailable as error:
            self._version = -1
            log.warning("a change is committed and takes effect later: %s", error)

    def _poll(self) -> None:
        try:
            self._notice_others()
            if self._uncheckpointed and time.monotonic() - self._checkpointed_s >= CHECKPOINT_S:
                self._checkpointed()
            for tick in self._ticks:
                tick()
        except (sa.exc.SQLAlchemyError, StoreUnavailable) as error:
            log.warning("the database did not answer a poll: %s", error)
        except Exception:
            log.exception("a poll of the database failed")

    def _notice_others(self) -> None:
        """``PRAGMA data_version`` changes when another connection has committed, and only then."""
        version = int(self._driver().execute("PRAGMA data_version").fetchone()[0])
        if version != self._version:
            self._reload()
            self._version = version

    def _begin(self, connection: sa.Connection) -> None:
        """Take SQLite's own write lock at once: a transaction that reads first and writes later cannot wait for it."""
        connection.exec_driver_sql("BEGIN" if self._reading else "BEGIN IMMEDIATE")

    def _reload(self) -> None:
        for reload in self._watchers:
            self._transacted(reload, read=True, tell=False)

    # Checkpoints

    def _checkpointed(self) -> bool:
        with self._translated(), self._lock.held(self._busy_s):
            return self._checkpoint()

    def _checkpoint(self) -> bool:
        """Called under the lock. Waits for readers only briefly: the next one will do."""
        driver = self._driver()
        driver.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            driver.execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")
        self._uncheckpointed = 0
        self._checkpointed_s = time.monotonic()
        return not busy

    def _driver(self) -> sqlite3.Connection:
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return driver

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise StoreUnavailable(f"the database {self.path.name} failed: {error.orig}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the database {self.path.name} failed: {error}") from error


def _settle(done: Future[Any], work: Callable[[], Any]) -> None:
    """The outcome of ``work`` into the future; a future that its waiter has cancelled stays cancelled."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(result)
