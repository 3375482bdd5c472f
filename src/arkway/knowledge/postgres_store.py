"""Knowledge in PostgreSQL: the words in a ``tsvector`` beside each chunk, the vectors in pgvector where there is one.

Words come cut already and go in as they are, without a parser or dictionary of PostgreSQL's: what it takes for a word
would depend on the locale of the database. Its rank functions know nothing of how rare a word is, so the score is BM25,
made of them: ``ts_rank_cd`` for a single word is a tenth of how often the text has it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import sqlalchemy as sa

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.knowledge.coverage import rarity
from arkway.knowledge.sql import Counted, Row, Session
from arkway.knowledge.store import SqlKnowledge
from arkway.knowledge.tables import tables
from arkway.knowledge.vectors import CACHE_BYTES, ExactVectors

if TYPE_CHECKING:
    import psycopg

CONNECTIONS: Final = 4
MORE_CONNECTIONS: Final = 12
WAIT_S: Final = 10.0
CANDIDATES: Final = 1000
KNOWN_WORDS: Final = 10_000
AWAY: Final = "the database cannot be reached just now"
SETUP_LOCK: Final = (0x61726B77, 0x6B6E6F77)

_TYPES: Final = {
    "number": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "whole": "BIGINT",
    "real": "DOUBLE PRECISION",
    "bytes": "BYTEA",
}
_INDICES: Final = (
    "ALTER TABLE knowledge_chunks ADD COLUMN words TSVECTOR, ADD COLUMN length BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX knowledge_chunks_by_words ON knowledge_chunks USING gin (words)",
)
VERSION: Final = 1
_LOCK_WAIT: Final = "55P03"


def open_postgres(connect: Callable[[], psycopg.Connection], *, cache_bytes: int = CACHE_BYTES) -> SqlKnowledge:
    """The tables ``knowledge_…`` of the database that ``connect`` connects to; they are made if they are not there.

    The main tables have to be there already: they want an empty database. Raises Misconfigured for tables of a newer
    version, StoreUnavailable where the database cannot be reached.
    """
    database = PostgresDatabase(connect)
    try:
        with database.writing() as session:
            kind = _set_up(session)
    except BaseException:
        database.close()
        raise
    vectors = PgVectors() if kind == "vector" else ExactVectors(cache_bytes)
    return SqlKnowledge(database, TsIndex(), vectors, " FOR UPDATE SKIP LOCKED")


class PostgresSession:
    """Implements `arkway.knowledge.sql.Session`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        return [tuple(row) for row in self._done(statement, values)]

    def change(self, statement: str, values: Sequence[object] = ()) -> int:
        return self._done(statement, values).rowcount

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        many = [tuple(row) for row in rows]
        if many:
            self._connection.exec_driver_sql(statement.replace("?", "%s"), many)

    def _done(self, statement: str, values: Sequence[object]) -> sa.CursorResult[tuple[object, ...]]:
        return self._connection.exec_driver_sql(statement.replace("?", "%s"), tuple(values))


class PostgresDatabase:
    """Implements `arkway.knowledge.sql.Database` with a few connections that are kept."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=connect,
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=WAIT_S,
            pool_pre_ping=True,
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        with _translated(), self._engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield PostgresSession(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield PostgresSession(connection)

    def close(self) -> None:
        self._engine.dispose()


class _Counts(msgspec.Struct):
    """What has been counted in a collection since its last change: chunks, their mean length, and which have a word."""

    generation: int
    total: int
    length: float
    having: dict[str, int]


class TsIndex:
    """Implements `arkway.knowledge.sql.WordIndex` by columns of the table of chunks."""

    def __init__(self) -> None:
        self._known: dict[int, _Counts] = {}
        self._lock = threading.Lock()

    def make(self, session: Session, collection: int) -> None:
        """Nothing to make: the column is everybody's."""

    def drop(self, session: Session, collection: int) -> None:
        statement = "UPDATE knowledge_chunks SET words = NULL, length = 0 WHERE collection = ?"
        session.change(statement, [collection])

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
        statement = "UPDATE knowledge_chunks SET words = CAST(? AS tsvector), length = ? WHERE number = ?"
        session.each(statement, [(_tsvector(words), len(words), chunk) for chunk, words in rows])

    def remove(self, session: Session, collection: int, chunks: Sequence[int]) -> None:
        statement = "UPDATE knowledge_chunks SET words = NULL, length = 0 WHERE number = ?"
        session.each(statement, [(chunk,) for chunk in chunks])

    def counted(self, session: Session, collection: int, terms: Sequence[str]) -> Counted:
        known = self._counts(session, collection)
        missing = [term for term in terms if term not in known.having]
        if missing:
            known.having.update(
                (str(term), int(number)) for term, number in session.rows(_HAVING, [collection, missing])
            )
        return Counted(known.total, {term: known.having[term] for term in terms if known.having[term]})

    def _counts(self, session: Session, collection: int) -> _Counts:
        """Counting the whole collection for every question would take longer than the search."""
        statement = "SELECT generation FROM knowledge_collections WHERE number = ?"
        [(generation,)] = session.rows(statement, [collection])
        with self._lock:
            known = self._known.get(collection)
        if known is None or known.generation != generation or len(known.having) > KNOWN_WORDS:
            [(total, length)] = session.rows(_TOTAL, [collection])
            known = _Counts(generation, int(total), float(length), {})
            with self._lock:
                self._known[collection] = known
        return known

    def best(self, session: Session, collection: int, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        counted = self.counted(session, collection, terms)
        weights = {term: rarity(counted.total, number) for term, number in counted.having.items()}
        few = _rare_ones(counted)
        found = self._ranked(session, collection, few, weights, limit)
        if len(found) < limit and len(few) < len(weights):
            found = self._ranked(session, collection, list(weights), weights, limit)
        return found

    def _ranked(
        self, session: Session, collection: int, looked_up: Sequence[str], weights: dict[str, float], limit: int
    ) -> list[tuple[int, float]]:
        """Of the chunks that have one of the words looked up, those that score best by all."""
        if not looked_up:
            return []
        words = [_quoted(term) for term in weights]
        length = max(1.0, self._counts(session, collection).length)
        values = [length, words, list(weights.values()), " | ".join(map(_quoted, looked_up)), collection, limit]
        return [(int(number), float(score)) for number, score in session.rows(_BM25, values)]

    def words_of(self, session: Session, collection: int, chunks: Sequence[int]) -> list[Mapping[str, int]]:
        statement = (
            "SELECT k.number, w.lexeme, cardinality(w.positions) FROM knowledge_chunks k "
            "CROSS JOIN LATERAL unnest(k.words) AS w WHERE k.number = ANY(?)"
        )
        found: dict[int, dict[str, int]] = {}
        for chunk, word, often in session.rows(statement, [list(chunks)]):
            found.setdefault(chunk, {})[word] = often
        return [found.get(chunk, {}) for chunk in chunks]


_TOTAL: Final = "SELECT count(*), coalesce(avg(length), 0) FROM knowledge_chunks WHERE collection = ?"
_HAVING: Final = """
    SELECT t.term, (
        SELECT count(*) FROM knowledge_chunks k
        WHERE k.collection = ? AND k.words @@ CAST('''' || t.term || '''' AS tsquery))
    FROM unnest(CAST(? AS text[])) AS t (term)
"""
_BM25: Final = """
    SELECT k.number, sum(s.weight * s.often * 2.2 / (s.often + 1.2 * (0.25 + 0.75 * k.length / mean.length))) AS score
    FROM knowledge_chunks k
    CROSS JOIN (SELECT CAST(? AS float8) AS length) AS mean
    CROSS JOIN LATERAL (
        SELECT w.weight, 10 * ts_rank_cd(k.words, w.word) AS often
        FROM unnest(CAST(? AS tsquery[]), CAST(? AS float8[])) AS w (word, weight) WHERE k.words @@ w.word
    ) AS s
    WHERE k.words @@ CAST(? AS tsquery) AND k.collection = ?
    GROUP BY k.number ORDER BY score DESC, k.number LIMIT ?
"""


class PgVectors:
    """Implements `arkway.knowledge.sql.VectorIndex` by pgvector; every vector of the collection is compared."""

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, bytes]]) -> None:
        session.each("DELETE FROM knowledge_vectors WHERE chunk = ?", [[chunk] for chunk, _ in rows])
        statement = "INSERT INTO knowledge_vectors (collection, chunk, vector) VALUES (?, ?, CAST(? AS vector))"
        session.each(statement, [(collection, chunk, _pgvector(vector)) for chunk, vector in rows])

    def best(self, session: Session, collection: int, vector: bytes, limit: int) -> list[tuple[int, float]]:
        # The vectors have length 1, so the inner product is the cosine, and 0 for one of zeroes instead of nothing.
        statement = (
            "SELECT chunk, -(vector <#> CAST(? AS vector)) AS closeness FROM knowledge_vectors "
            "WHERE collection = ? ORDER BY closeness DESC, chunk LIMIT ?"
        )
        rows = session.rows(statement, [_pgvector(vector), collection, limit])
        return [(int(chunk), float(closeness)) for chunk, closeness in rows]


def _set_up(session: Session) -> str:
    """Makes the tables unless they are there; the type of the column of vectors."""
    session.rows("SELECT pg_advisory_xact_lock(?, ?)", SETUP_LOCK)
    if not session.rows("SELECT 1 WHERE to_regclass('knowledge_version') IS NOT NULL"):
        kind = "vector" if _has_pgvector(session) else "bytea"
        for statement in (*tables(**_TYPES, vector=kind), *_INDICES):
            session.change(statement)
        session.change("CREATE TABLE knowledge_version (version BIGINT NOT NULL, vectors TEXT NOT NULL)")
        session.change("INSERT INTO knowledge_version (version, vectors) VALUES (?, ?)", [VERSION, kind])
    version, kind = session.rows("SELECT version, vectors FROM knowledge_version")[0]
    if version > VERSION:
        raise Misconfigured(
            "the tables `knowledge_…` were written by a newer version of Arkway; install that version again"
        )
    return str(kind)


def _has_pgvector(session: Session) -> bool:
    """Installed here, or installed now, if that is allowed."""
    if session.rows("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
        return True
    if not session.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        return False
    session.change("SAVEPOINT extension")
    try:
        session.change("CREATE EXTENSION vector")
    except sa.exc.DBAPIError:
        session.change("ROLLBACK TO SAVEPOINT extension")
        return False
    return True


def _rare_ones(counted: Counted) -> list[str]:
    """Words enough for a thousand candidates, the rarest first: texts with common words alone are not worth a look."""
    few: list[str] = []
    candidates = 0
    for term, number in sorted(counted.having.items(), key=lambda item: item[1]):
        if few and candidates + number > CANDIDATES:
            break
        few.append(term)
        candidates += number
    return few


def _tsvector(words: Sequence[str]) -> str:
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, 1):
        places.setdefault(word, []).append(str(min(place, 16383)))
    return " ".join(f"{_quoted(word)}:{','.join(at)}" for word, at in places.items())


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _pgvector(vector: bytes) -> str:
    return f"[{','.join(map(repr, memoryview(vector).cast('f').tolist()))}]"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of the database become StoreUnavailable, with nothing of a row in them."""
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable("the database is busy; try again in a moment") from error
    except sa.exc.DBAPIError as error:
        raise StoreUnavailable(_said(error)) from error


def _said(error: sa.exc.DBAPIError) -> str:
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or state is None:
        return AWAY
    if state == _LOCK_WAIT:
        return "somebody else has kept the knowledge locked for too long; try again in a moment"
    return f"the database refused: {getattr(error.orig, 'diag').message_primary}"  # noqa: B009
