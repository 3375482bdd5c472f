"""What only the SQLite file has: who may read it, versions, locks, rows that stay where they are."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from arkway.core.errors import Misconfigured, Overloaded, StoreUnavailable
from arkway.knowledge.opening import knowledge_path
from arkway.knowledge.sql import Counted, Row, Session
from arkway.knowledge.sqlite_store import STEPS, FtsIndex, SqliteDatabase, SqliteSession, open_sqlite
from arkway.knowledge.store import CONSIDERED, SqlKnowledge
from arkway.knowledge.vectors import ExactVectors
from tests.tools.shelf import chunks, collection, document, job, shelved, texts

BOOK = collection()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return knowledge_path(tmp_path / "home")


@pytest.fixture
def knowledge(path: Path) -> Iterator[SqlKnowledge]:
    store = open_sqlite(path)
    yield store
    store.close()


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_nobody_else_may_read_the_files(path: Path, knowledge: SqlKnowledge) -> None:
    knowledge.create(BOOK)
    knowledge.collections("acme")
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == [f"knowledge.db{end}" for end in ("", "-shm", "-wal", ".lock")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_unchanged_chunks_keep_their_rows_in_every_table(path: Path, knowledge: SqlKnowledge) -> None:
    knowledge.create(BOOK)
    written = document(BOOK, "a.md")
    pieces = chunks(written, "apples", "pears", "plums")
    knowledge.put(written, pieces, {piece.id: [1.0, 0.0] for piece in pieces})
    statement = (
        "SELECT k.text, k.number, v.number, w.rowid FROM knowledge_chunks k "
        "JOIN knowledge_vectors v ON v.chunk = k.number "
        "JOIN knowledge_words_1 w ON w.rowid = k.number ORDER BY k.number"
    )
    before = rows(path, statement)
    knowledge.put(written, chunks(written, "new", "plums", "apples"), {})
    assert rows(path, statement) == [row for row in before if row[0] != "pears"]
    assert rows(path, "SELECT chunk FROM knowledge_vectors ORDER BY chunk") == [(1,), (3,)]


def test_nothing_is_left_in_any_table_when_a_collection_is_dropped(path: Path, knowledge: SqlKnowledge) -> None:
    knowledge.create(BOOK)
    [piece] = shelved(knowledge, BOOK, "a.md", "apples")
    knowledge.add_vectors(BOOK.id, {piece.id: [1.0]})
    knowledge.drop(BOOK.id)
    names = [str(row[0]) for row in rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert {name for name in names if not name.startswith("sqlite_")} == {
        f"knowledge_{name}" for name in ("collections", "documents", "chunks", "vectors", "jobs", "job_bodies")
    }
    assert {name: rows(path, f"SELECT count(*) FROM {name}") for name in names if name.startswith("knowledge_")} == {
        name: [(0,)] for name in names if name.startswith("knowledge_")
    }


def test_the_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    open_sqlite(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="newer version of Arkway"):
        open_sqlite(path)
    assert path.read_bytes() == before


def test_another_programs_file_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(Misconfigured, match="another program"):
        open_sqlite(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_sqlite(path)


def test_a_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "knowledge.db").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_sqlite(tmp_path / "knowledge.db")


def test_a_first_opening_that_does_not_come_to_its_end_is_made_up_for(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    store = open_sqlite(path)
    assert store.create(BOOK)
    store.close()


def test_who_writes_keeps_writers_out_and_readers_in(path: Path, knowledge: SqlKnowledge) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "apples")
    assert texts(knowledge.words([BOOK.id], "apples", 5)) == ["apples"]
    impatient = open_sqlite(path, busy_s=0.05)
    impatient.collections("acme")
    other = SqliteDatabase(path, busy_s=30)
    with other.writing() as session:
        session.change("DELETE FROM knowledge_documents")
        with pytest.raises(StoreUnavailable, match="somebody else has been writing"):
            impatient.create(collection("second"))
        assert texts(impatient.words([BOOK.id], "apples", 5)) == ["apples"]
    assert impatient.create(collection("second"))
    assert impatient.documents(BOOK.id)[1] == 0
    impatient.close()
    other.close()


def test_a_closed_store_says_so_and_closing_twice_is_nothing(path: Path) -> None:
    store = open_sqlite(path)
    store.create(BOOK)
    store.close()
    store.close()
    for work in (lambda: store.collections("acme"), lambda: store.create(collection("second"))):
        with pytest.raises(StoreUnavailable, match="shutting down"):
            work()
    assert [file.name for file in path.parent.iterdir() if file.name.endswith("-wal")] == []


def test_a_reader_under_way_ends_after_the_store_is_closed(path: Path) -> None:
    database = SqliteDatabase(path, busy_s=30)
    inside, closed = threading.Event(), threading.Event()
    seen: list[object] = []

    def read() -> None:
        with database.reading() as session:
            inside.set()
            assert closed.wait(45)
            seen.extend(session.rows("SELECT count(*) FROM knowledge_collections"))

    thread = threading.Thread(target=read)
    thread.start()
    assert inside.wait(45)
    database.close()
    closed.set()
    thread.join(45)
    assert seen == [(0,)]


def test_a_question_of_a_whole_book_is_not_looked_up_word_by_word(path: Path) -> None:
    looked_up: list[int] = []

    class Counting(FtsIndex):
        def counted(self, session: Session, collection: int, terms: Sequence[str]) -> Counted:
            looked_up.append(len(terms))
            return super().counted(session, collection, terms)

    store = SqlKnowledge(SqliteDatabase(path, busy_s=30), Counting(), ExactVectors())
    store.create(BOOK)
    shelved(store, BOOK, "a.md", "apples")
    question = "apples " + " ".join(f"word{number}" for number in range(10_000))
    assert texts(store.words([BOOK.id], question, 5)) == ["apples"]
    assert store.coverage([BOOK.id], question) > 0
    assert 0 < max(looked_up) <= CONSIDERED
    store.close()


class Counting(SqliteDatabase):
    """Counts the rows that questions read."""

    read = 0

    @contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        with super().reading() as session:
            yield CountingSession(self, session)


class CountingSession(SqliteSession):
    def __init__(self, owner: Counting, session: SqliteSession) -> None:
        self._owner, self._session = owner, session

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        found = self._session.rows(statement, values)
        self._owner.read += len(found)
        return found


def test_a_change_of_a_collection_does_not_have_all_its_vectors_read_again(path: Path) -> None:
    database = Counting(path, busy_s=30)
    store = SqlKnowledge(database, FtsIndex(), ExactVectors())
    store.create(BOOK)
    written = document(BOOK, "a.md")
    pieces = chunks(written, *(f"part {number}" for number in range(1000)))
    store.put(written, pieces, {piece.id: [1.0, float(number)] for number, piece in enumerate(pieces)})
    assert texts(store.near(BOOK.id, [1.0, 0.0], 1)) == ["part 0"]
    assert database.read > 1000
    [new] = shelved(store, BOOK, "b.md", "words alone")
    database.read = 0
    assert texts(store.near(BOOK.id, [1.0, 0.0], 1)) == ["part 0"]
    store.add_vectors(BOOK.id, {new.id: [1.0, -0.1]})
    assert texts(store.near(BOOK.id, [1.0, -0.1], 2)) == ["words alone", "part 0"]
    assert database.read < 50
    store.remove(written.id)
    assert texts(store.near(BOOK.id, [1.0, 0.0], 2)) == ["words alone"]
    store.close()


def test_files_that_wait_do_not_fill_the_disk(path: Path) -> None:
    store = SqlKnowledge(SqliteDatabase(path, busy_s=30), FtsIndex(), ExactVectors(), waiting_bytes=10)
    second, others = collection("second"), collection(project="other")
    for one in (BOOK, second, others):
        store.create(one)
    for name in ("one", "two"):
        store.submit(structs.replace(job(BOOK, name), size_bytes=4), b"1234")
    with pytest.raises(Overloaded, match="wait to be taken"):
        store.submit(structs.replace(job(second, "three"), size_bytes=4), b"1234")
    store.submit(structs.replace(job(others, "four"), size_bytes=4), b"1234")
    claimed = store.claim(60, 100)
    assert claimed is not None
    store.finish(structs.replace(claimed[0], state="done"))
    store.submit(structs.replace(job(second, "three"), size_bytes=4), b"1234")
    store.close()


def test_words_of_a_document_survive_what_indexed_them(path: Path, knowledge: SqlKnowledge) -> None:
    """The index is whole by its own account, after everything that changes it."""
    knowledge.create(BOOK)
    written = document(BOOK, "a.md")
    for turn in range(6):
        knowledge.put(written, chunks(written, f"apples {turn}", "pears", f"plums {turn // 2}"), {})
    knowledge.reindex(BOOK.id)
    knowledge.put(document(BOOK, "a.md", title="New"), chunks(written, "pears"), {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO knowledge_words_1 (knowledge_words_1) VALUES ('integrity-check')")
    assert rows(path, "SELECT words FROM knowledge_words_1") == [("new pears",)]
    assert rows(path, "PRAGMA foreign_key_check") == []
