"""The database: one SQLite file, one connection, one thread that alone uses it.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at the same moment, and a
server and a command line are two. So every write transaction, every checkpoint, and the opening and closing of a
connection happen under an exclusive lock on ``<file>.lock`` (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import FileLock, private_directory
from arkway.stores.migration import migrate, revision_of
from arkway.stores.schema import REVISION
from arkway.stores.store import Reload, Work
from arkway.stores.thread import StoreThread

T = TypeVar("T")

CHECKPOINT_TRANSACTIONS = 1000
CHECKPOINT_S = 60.0
CHECKPOINT_WAIT_MS = 50
STUCK_S = 10.0

log = logging.getLogger("arkway.store")


class SqliteStore:
    """Implements `arkway.stores.store.Store` for one server process and the command line beside it.

    Opening creates the file or migrates it. Raises Misconfigured for a file that is damaged, newer than this program or
    in use by an older one, StoreUnavailable when it cannot be opened or another process keeps the lock for ``busy_s``.
    Use as a context manager, or ``close()`` it.
    """

    def __init__(self, path: Path, *, poll_s: float = 1.0, busy_s: float = 5.0) -> None:
        self.path = path
        self._busy_s = busy_s
        self._watchers: list[Reload] = []
        self._ticks: list[Callable[[], None]] = []
        self._uncheckpointed = 0
        self._checkpointed_s = time.monotonic()
        self._reading = False
        self._thread = StoreThread(self._poll, poll_s)
        private_directory(path.parent)
        try:
            self._lock = FileLock(path.with_name(path.name + ".lock"))
            self._users = FileLock(path.with_name(path.name + ".users"))
        except OSError as error:
            raise StoreUnavailable(f"the database {path} cannot be opened: {error.strerror}") from error
        self._engine = sa.create_engine("sqlite://", creator=self._opened, poolclass=NullPool)
        sa.event.listen(self._engine, "begin", self._begin)
        self._connection = self._first_connection()
        with self._translated():
            self._version = self._data_version()
        self._thread.start()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shared(self) -> bool:
        """Never: the file belongs to one server process, beside which the command line works."""
        return False

    @property
    def trouble(self) -> str:
        """A file on this machine is there; what can be is that somebody keeps it locked."""
        busy_s = self._thread.busy_s
        return f"the database has not answered for {busy_s:.0f} seconds" if busy_s > STUCK_S else ""

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
        return self._thread.submit(self._checkpointed).result()

    def watch(self, reload: Reload) -> None:
        """Call ``reload`` on the store's thread now, after each ``run(tell=True)`` and after another's commit."""
        self.run_sync(reload, read=True)
        self._watchers.append(reload)

    def every_poll(self, tick: Callable[[], None]) -> None:
        """Call ``tick`` on the store's thread about once in ``poll_s``; it must be quick and may only submit work."""
        self._ticks.append(tick)

    def submit(self, work: Work[T], *, read: bool = False, tell: bool = False) -> Future[T]:
        """Start ``work`` without waiting for it; the only form allowed on the store's own thread."""
        return self._submitted(work, read, tell)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process is in such a block of the same file. Raises StoreUnavailable after ``busy_s``."""
        lock = FileLock(self.path.with_name(self.path.name + ".alone"))
        try:
            with lock.held(self._busy_s):
                yield
        finally:
            lock.close()

    def close(self) -> None:
        """Finish the work in hand, checkpoint and close."""
        if not self._thread.close():
            return
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

    def _submitted(self, work: Work[T], read: bool, tell: bool) -> Future[T]:
        return self._thread.submit(lambda: self._transacted(work, read, tell))

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
        version = self._data_version()
        if version != self._version:
            self._reload()
            self._version = version

    def _data_version(self) -> int:
        """It changes when another connection has committed, and only then."""
        return int(self._driver().execute("PRAGMA data_version").fetchone()[0])

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
