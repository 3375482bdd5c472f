"""Collections, documents and chunks within one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from arkway.core.errors import InvalidField
from arkway.core.knowledge import Chunk, Collection, Document, Hit
from arkway.knowledge.records import chunk_of, collection_of, columns, document_of, listed, values
from arkway.knowledge.sql import Session, marks

BATCH = 500

_COLLECTION = f"SELECT {listed(Collection)} FROM knowledge_collections "  # noqa: S608 - names of columns
_DOCUMENT = f"SELECT {listed(Document)} FROM knowledge_documents "  # noqa: S608
_CHUNK = f"SELECT {listed(Chunk)} FROM knowledge_chunks "  # noqa: S608
_FOUND = (
    f"SELECT k.number, {listed(Chunk, 'k')}, {listed(Document, 'd')} FROM knowledge_chunks k "  # noqa: S608
    "JOIN knowledge_documents d ON d.id = k.document_id WHERE k.number IN "
)
_PUT_DOCUMENT = (
    f"INSERT INTO knowledge_documents ({listed(Document)}) VALUES ({marks(columns(Document))}) "  # noqa: S608
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name, type = excluded.type, title = excluded.title, "
    "content_hash = excluded.content_hash, size_bytes = excluded.size_bytes, chunks = excluded.chunks, "
    "meta = excluded.meta, updated_at = excluded.updated_at"
)
_ADD_CHUNK = (
    f"INSERT INTO knowledge_chunks (collection, {listed(Chunk)}) "  # noqa: S608
    f"VALUES (?, {marks(columns(Chunk))})"
)


class Kept(msgspec.Struct, frozen=True):
    """A chunk that is there already."""

    number: int
    ordinal: int


def no_collection() -> InvalidField:
    """What is said to who writes into a collection that is not there."""
    return InvalidField("the collection does not exist, or has been deleted meanwhile", "collection")


# Collections


def add_collection(session: Session, collection: Collection) -> int | None:
    """Its number; None where the project has one of that name."""
    names = columns(Collection)
    statement = (
        f"INSERT INTO knowledge_collections ({', '.join(names)}) VALUES ({marks(names)}) "  # noqa: S608
        "ON CONFLICT DO NOTHING RETURNING number"
    )
    rows = session.rows(statement, values(collection))
    return int(rows[0][0]) if rows else None


def change_collection(session: Session, collection: Collection) -> None:
    """Everything but its id, project, name, age and analyzer."""
    fixed = ("id", "account", "project", "name", "created_at", "analyzer")
    new = {
        name: value for name, value in zip(columns(Collection), values(collection), strict=True) if name not in fixed
    }
    settings = ", ".join(f"{name} = ?" for name in new)
    statement = f"UPDATE knowledge_collections SET {settings} WHERE id = ?"  # noqa: S608 - names of columns
    session.change(statement, [*new.values(), collection.id])


def touched(session: Session, collection_id: str) -> int | None:
    """The collection's number, None where there is none.

    Until the transaction's end nobody else writes into it, and what is kept of it in memory is of before.
    """
    statement = "UPDATE knowledge_collections SET generation = generation + 1 WHERE id = ? RETURNING number"
    rows = session.rows(statement, [collection_id])
    return int(rows[0][0]) if rows else None


def taken(session: Session, collection_id: str) -> int:
    """As `touched`. Raises InvalidField."""
    number = touched(session, collection_id)
    if number is None:
        raise no_collection()
    return number


def drop_collection(session: Session, number: int) -> None:
    """With all that is in it."""
    session.change("DELETE FROM knowledge_collections WHERE number = ?", [number])


def collections(session: Session, account: str, project: str) -> list[Collection]:
    """By name; ``project`` empty = all of the account's."""
    where = "WHERE account = ? AND (? = '' OR project = ?) ORDER BY name, project"
    return [collection_of(row) for row in session.rows(_COLLECTION + where, [account, project, project])]


def collection_named(session: Session, account: str, project: str, name: str) -> Collection | None:
    """None where the project has none of that name."""
    where = "WHERE account = ? AND project = ? AND name = ?"
    rows = session.rows(_COLLECTION + where, [account, project, name])
    return collection_of(rows[0]) if rows else None


def collection_by_id(session: Session, collection_id: str) -> Collection | None:
    """None where there is none."""
    rows = session.rows(_COLLECTION + "WHERE id = ?", [collection_id])
    return collection_of(rows[0]) if rows else None


def numbered(session: Session, collection_ids: Sequence[str]) -> dict[int, Collection]:
    """Those of them that are there, by number."""
    if not collection_ids:
        return {}
    statement = (
        f"SELECT number, {listed(Collection)} FROM knowledge_collections "  # noqa: S608
        f"WHERE id IN ({marks(collection_ids)}) ORDER BY number"
    )
    return {row[0]: collection_of(row[1:]) for row in session.rows(statement, list(collection_ids))}


# Documents


def put_document(session: Session, document: Document) -> None:
    """New, or in the place of the one with its id, whose age it keeps."""
    session.change(_PUT_DOCUMENT, values(document))


def remove_document(session: Session, document_id: str) -> None:
    """With its chunks and their vectors."""
    session.change("DELETE FROM knowledge_documents WHERE id = ?", [document_id])


def documents(session: Session, collection_id: str, offset: int, limit: int) -> tuple[list[Document], int]:
    """A page of them by name, and how many there are."""
    where = "WHERE collection_id = ? ORDER BY name, id LIMIT ? OFFSET ?"
    page = [document_of(row) for row in session.rows(_DOCUMENT + where, [collection_id, limit, offset])]
    count = session.rows("SELECT count(*) FROM knowledge_documents WHERE collection_id = ?", [collection_id])
    return page, int(count[0][0])


def document(session: Session, document_id: str) -> Document | None:
    """None where there is none."""
    rows = session.rows(_DOCUMENT + "WHERE id = ?", [document_id])
    return document_of(rows[0]) if rows else None


# Chunks


def kept_chunks(session: Session, document_id: str) -> dict[str, Kept]:
    """What a document has now, by chunk id."""
    statement = "SELECT id, number, ordinal FROM knowledge_chunks WHERE document_id = ?"
    return {row[0]: Kept(row[1], row[2]) for row in session.rows(statement, [document_id])}


def add_chunks(session: Session, collection: int, chunks: Sequence[Chunk]) -> None:
    """Into the table; the indices are others' business."""
    session.each(_ADD_CHUNK, [[collection, *values(chunk)] for chunk in chunks])


def remove_chunks(session: Session, numbers: Sequence[int]) -> None:
    """By number, with their vectors."""
    session.each("DELETE FROM knowledge_chunks WHERE number = ?", [[number] for number in numbers])


def move_chunks(session: Session, ordinals: Mapping[int, int]) -> None:
    """Their places in the document, by number."""
    rows = [[ordinal, number] for number, ordinal in ordinals.items()]
    session.each("UPDATE knowledge_chunks SET ordinal = ? WHERE number = ?", rows)


def chunks(session: Session, document_id: str) -> list[Chunk]:
    """Those of a document, in order."""
    rows = session.rows(_CHUNK + "WHERE document_id = ? ORDER BY ordinal, number", [document_id])
    return [chunk_of(row) for row in rows]


def chunk(session: Session, chunk_id: str) -> Chunk | None:
    """None where there is none."""
    rows = session.rows(_CHUNK + "WHERE id = ?", [chunk_id])
    return chunk_of(rows[0]) if rows else None


def chunk_numbers(session: Session, collection: int, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of those of them that are in the collection."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        statement = f"SELECT id, number FROM knowledge_chunks WHERE collection = ? AND id IN ({marks(batch)})"  # noqa: S608
        found.update((row[0], row[1]) for row in session.rows(statement, [collection, *batch]))
    return found


def without_vectors(session: Session, collection_id: str, limit: int) -> list[Chunk]:
    """The oldest ones first."""
    statement = (
        f"SELECT {listed(Chunk, 'k')} FROM knowledge_chunks k "  # noqa: S608
        "JOIN knowledge_collections c ON c.number = k.collection "
        "LEFT JOIN knowledge_vectors v ON v.chunk = k.number "
        "WHERE c.id = ? AND v.chunk IS NULL ORDER BY k.number LIMIT ?"
    )
    return [chunk_of(row) for row in session.rows(statement, [collection_id, limit])]


def of_collection(session: Session, collection: int) -> list[tuple[int, Chunk, str]]:
    """Every chunk with its number and its document's label, see `arkway.knowledge.indexing`."""
    statement = (
        f"SELECT k.number, coalesce(nullif(d.title, ''), d.name), {listed(Chunk, 'k')} "  # noqa: S608
        "FROM knowledge_chunks k JOIN knowledge_documents d ON d.id = k.document_id "
        "WHERE k.collection = ? ORDER BY k.number"
    )
    return [(row[0], chunk_of(row[2:]), row[1]) for row in session.rows(statement, [collection])]


def hits(session: Session, found: Sequence[tuple[int, float]], owner: Collection) -> dict[int, Hit]:
    """Chunks by number and their scores as hits."""
    if not found:
        return {}
    scores, split = dict(found), 1 + len(columns(Chunk))
    rows = session.rows(f"{_FOUND}({marks(found)})", list(scores))
    return {row[0]: Hit(chunk_of(row[1:split]), document_of(row[split:]), owner, scores[row[0]]) for row in rows}


def vectors_dropped(session: Session, collection: int) -> None:
    """All of a collection's."""
    session.change("DELETE FROM knowledge_vectors WHERE collection = ?", [collection])


def analyzed(session: Session, collection_id: str, analyzer: str) -> None:
    """Notes which analyzer has made the word index."""
    session.change("UPDATE knowledge_collections SET analyzer = ? WHERE id = ?", [analyzer, collection_id])
