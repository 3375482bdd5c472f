"""Knowledge in a SQLite file of its own: the words in FTS5, the vectors compared one by one.

Every collection has a word index of its own: what is common and what is rare is counted within it, and a collection is
dropped or indexed anew without a look at the others. Words come cut already, so FTS5 only has to split at spaces.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at the same moment, so
writing, opening and closing happen under a lock on ``<file>.lock``, of whichever process (docs/decisions/0003).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import FileLock, private_directory
from arkway.knowledge.sql import Counted, Row, Session, marks
from arkway.knowledge.store import SqlKnowledge
from arkway.knowledge.tables import tables
from arkway.knowledge.vectors import CACHE_BYTES, ExactVectors

BUSY_S: Final = 30.0
READY_READERS: Final = 4
"""Opening one waits for a writer, so a few are there from the beginning."""
IDLE_READERS: Final = 8
APPLICATION: Final = 0x61726B6B
PAUSE_S: Final = 0.005
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
CLOSED: Final = "the knowledge is closed: the server is shutting down"

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    f"journal_size_limit = {WAL_LIMIT_BYTES}",
)
_TYPES: Final = {
    "number": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "whole": "INTEGER",
    "real": "REAL",
    "bytes": "BLOB",
    "vector": "BLOB",
}
STEPS: Final[tuple[tuple[str, ...], ...]] = (tuple(tables(**_TYPES)),)
"""The schema, version by version: what is released is never changed, only added to."""


def open_sqlite(path: Path, *, busy_s: float = BUSY_S, cache_bytes: int = CACHE_BYTES) -> SqlKnowledge:
    """The file at ``path``, made or brought to this version's schema.

    Raises Misconfigured for a file that is another program's or a newer version's, StoreUnavailable where it cannot be
    opened or somebody else keeps it locked for ``busy_s``.
    """
    return SqlKnowledge(SqliteDatabase(path, busy_s=busy_s), FtsIndex(), ExactVectors(cache_bytes))


class SqliteSession:
    """Implements `arkway.knowledge.sql.Session`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Sequence[object] = ()) -> int:
        return self._connection.execute(statement, values).rowcount

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(statement, rows)


class SqliteDatabase:
    """Implements `arkway.knowledge.sql.Database`: one connection that writes, and one for each thread that reads."""

    def __init__(self, path: Path, *, busy_s: float) -> None:
        self.path, self._busy_s = path, busy_s
        private_directory(path.parent)
        self._turn = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._closed = threading.Event()
        self._connections = 0
        try:
            _private_file(path)
            self._lock = FileLock(path.with_name(path.name + ".lock"))
        except OSError as error:
            raise StoreUnavailable(f"the file {path} cannot be opened: {error.strerror}") from error
        try:
            with self._translated(), self._alone():
                self._writer = self._first()
                self._readers.extend(self._readable() for _ in range(READY_READERS))
        except BaseException:
            self._lock.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        with self._translated():
            connection = self._reader()
            try:
                connection.execute("BEGIN")
                yield SqliteSession(connection)
            finally:
                self._give_back(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        with self._translated(), self._alone():
            if self._closed.is_set():
                raise StoreUnavailable(CLOSED)
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteSession(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Readers that are under way come to their end; nothing begins any more."""
        with contextlib.suppress(StoreUnavailable), self._translated(), self._alone():
            if self._closed.is_set():
                return
            self._closed.set()
            while self._readers:
                self._ended(self._readers.pop())
            self._ended(self._writer)

    # Connections

    def _reader(self) -> sqlite3.Connection:
        if self._closed.is_set():
            raise StoreUnavailable(CLOSED)
        try:
            return self._readers.pop()
        except IndexError:
            with self._alone():
                return self._readable()

    def _readable(self) -> sqlite3.Connection:
        """It has read something, so that it is really there."""
        connection = self._opened()
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not self._closed.is_set() and len(self._readers) < IDLE_READERS:
            self._readers.append(connection)
            if not self._closed.is_set() or connection not in self._readers:
                return
            self._readers.remove(connection)
        with self._alone():
            self._ended(connection)

    def _ended(self, connection: sqlite3.Connection) -> None:
        connection.close()
        self._connections -= 1

    def _first(self) -> sqlite3.Connection:
        connection = self._opened()
        try:
            _migrate(connection)
        except BaseException:
            self._ended(connection)
            raise
        return connection

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            _refuse_others(connection, self.path)
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        self._connections += 1
        return connection

    # One writer of all threads and processes

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        deadline_s = time.monotonic() + self._busy_s
        if not self._turn.acquire(timeout=self._busy_s):
            raise StoreUnavailable(self._held)
        try:
            self._take(deadline_s)
            try:
                yield
            finally:
                self._let_go()
        finally:
            self._turn.release()

    def _take(self, deadline_s: float) -> None:
        if self._lock.closed:
            raise StoreUnavailable(CLOSED)
        while not self._lock.take():
            if time.monotonic() >= deadline_s:
                raise StoreUnavailable(self._held)
            time.sleep(PAUSE_S)

    def _let_go(self) -> None:
        """The file of the lock is closed after the last connection, which may be a reader's."""
        self._lock.release()
        if self._closed.is_set() and not self._connections:
            self._lock.close()

    @property
    def _held(self) -> str:
        return f"somebody else has been writing to {self.path.name} for {self._busy_s:g} seconds; try again in a moment"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the database {self.path.name} failed: {error}") from error


class FtsIndex:
    """Implements `arkway.knowledge.sql.WordIndex` by one FTS5 table for each collection."""

    def make(self, session: Session, collection: int) -> None:
        # `ascii` takes everything beyond ASCII for a part of a word; the words have no other separators in them.
        table = "CREATE VIRTUAL TABLE knowledge_words_# USING fts5(words, tokenize = 'ascii', detail = 'full')"
        session.change(_of(collection, table))
        counts = "CREATE VIRTUAL TABLE knowledge_counts_# USING fts5vocab(knowledge_words_#, 'row')"
        session.change(_of(collection, counts))

    def drop(self, session: Session, collection: int) -> None:
        session.change(_of(collection, "DROP TABLE knowledge_counts_#"))
        session.change(_of(collection, "DROP TABLE knowledge_words_#"))

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
        statement = _of(collection, "INSERT INTO knowledge_words_# (rowid, words) VALUES (?, ?)")
        session.each(statement, [(chunk, " ".join(words)) for chunk, words in rows])

    def remove(self, session: Session, collection: int, chunks: Sequence[int]) -> None:
        statement = _of(collection, "DELETE FROM knowledge_words_# WHERE rowid = ?")
        session.each(statement, [(chunk,) for chunk in chunks])

    def counted(self, session: Session, collection: int, terms: Sequence[str]) -> Counted:
        statement = _of(collection, "SELECT doc FROM knowledge_counts_# WHERE term = ?")
        found = {term: session.rows(statement, (term,)) for term in terms}
        total = session.rows("SELECT count(*) FROM knowledge_chunks WHERE collection = ?", (collection,))
        return Counted(total[0][0], {term: rows[0][0] for term, rows in found.items() if rows})

    def best(self, session: Session, collection: int, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        statement = _of(
            collection,
            "SELECT rowid, -rank FROM knowledge_words_# WHERE knowledge_words_# MATCH ? ORDER BY rank LIMIT ?",
        )
        return [(row[0], row[1]) for row in session.rows(statement, (" OR ".join(map(_quoted, terms)), limit))]

    def words_of(self, session: Session, collection: int, chunks: Sequence[int]) -> list[Mapping[str, int]]:
        statement = _of(collection, "SELECT rowid, words FROM knowledge_words_# WHERE rowid IN ")
        rows: dict[int, str] = dict(session.rows(f"{statement}({marks(chunks)})", chunks))
        return [Counter(rows.get(chunk, "").split()) for chunk in chunks]


def _of(collection: int, statement: str) -> str:
    """The statement about this collection's tables: their names have its number in them."""
    return statement.replace("#", str(int(collection)))


def _quoted(term: str) -> str:
    """A word that FTS5 takes for nothing but a word."""
    return '"' + term.replace('"', '""') + '"'


def _private_file(path: Path) -> None:
    """SQLite gives the files that it makes beside it the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _migrate(connection: sqlite3.Connection) -> None:
    """Every step that the file has not had, in one transaction."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == len(STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in (statement for step in STEPS[found:] for statement in step):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {len(STEPS)}")
    connection.execute("COMMIT")


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    """Before anything is changed in it."""
    owner, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] and owner != APPLICATION:
        raise Misconfigured(f"{path} is a database of another program; move it away or name another file")
    if version > len(STEPS):
        raise Misconfigured(
            f"{path} was written by a newer version of Arkway; install that version again, or restore the file from a "
            "backup made before the update"
        )
