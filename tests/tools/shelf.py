"""Collections, documents and chunks for tests, and stores of knowledge that fail on demand."""

from __future__ import annotations

from collections.abc import Sequence

from arkway.core.knowledge import Change, Chunk, Collection, Document, Hit, Job
from arkway.knowledge.identity import chunk_ids, document_id
from arkway.ports.lookup import KnowledgeStore


def collection(
    name: str = "handbook", *, account: str = "acme", project: str = "default", **more: object
) -> Collection:
    own_id = f"kb-{account}-{project}-{name}"
    return Collection(id=own_id, account=account, project=project, name=name, created_at=1, updated_at=1, **more)  # type: ignore[arg-type]


def document(of: Collection, source: str, *, title: str = "", updated_at: int = 1) -> Document:
    own_id = document_id(of.id, source)
    return Document(
        id=own_id,
        collection_id=of.id,
        source=source,
        name=source.rpartition(".")[0],
        type="md",
        title=title,
        meta={"url": f"https://example.com/{source}"},
        created_at=updated_at,
        updated_at=updated_at,
    )


def chunks(of: Document, *texts: str, path: tuple[str, ...] = ()) -> list[Chunk]:
    ids = chunk_ids(of.id, [(path, text) for text in texts])
    return [
        Chunk(id=own_id, document_id=of.id, ordinal=ordinal, text=text, path=path)
        for ordinal, (own_id, text) in enumerate(zip(ids, texts, strict=True))
    ]


def shelved(store: KnowledgeStore, of: Collection, source: str, *texts: str, title: str = "") -> list[Chunk]:
    """A document with these chunks, put into the collection."""
    written = document(of, source, title=title)
    pieces = chunks(written, *texts)
    assert store.put(written, pieces, {}) == Change(len(texts), 0, 0)
    return pieces


def job(of: Collection, name: str, created_at: int = 1) -> Job:
    return Job(
        id=name, collection_id=of.id, source=f"{name}.md", file_name=f"{name}.md", size_bytes=4, created_at=created_at
    )


def texts(hits: Sequence[Hit]) -> list[str]:
    return [hit.chunk.text for hit in hits]
