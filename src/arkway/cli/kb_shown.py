"""What ``arkway kb`` shows of collections, documents and hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import echo_json, moment, print_table

if TYPE_CHECKING:
    from arkway.core.knowledge import Collection, Document, Hit
    from arkway.knowledge.holdings import Holdings

TEXT_SHOWN = 300


def finding(collection: Collection) -> str:
    """By what questions are answered, in words."""
    if not collection.endpoint_id:
        return "words"
    return "words, vectors" if collection.vector_weight else "words (vectors not proven yet)"


def with_count(collection: Collection, documents: int) -> dict[str, Any]:
    """For JSON: the collection, and how many documents it has."""
    import msgspec

    return {**msgspec.to_builtins(collection), "documents": documents}


def print_collection(collection: Collection, documents: int, as_json: bool) -> None:
    """Its facts, one a line; or JSON."""
    if as_json:
        echo_json(with_count(collection, documents))
        return
    _facts(
        ("id", collection.id),
        ("name", collection.name),
        ("kind", collection.kind),
        ("documents", str(documents)),
        ("found by", finding(collection)),
        ("endpoint", collection.endpoint_id),
        ("model", collection.embedding_model),
        ("analyzer", collection.analyzer),
        ("account", collection.account),
        ("project", collection.project),
        ("description", collection.description),
        ("created", f"{moment(collection.created_at)} UTC"),
    )


def _facts(*facts: tuple[str, str]) -> None:
    for label, value in facts:
        if value:
            click.echo(f"{label:<13}{value}")


def print_documents(documents: Sequence[Document], total: int, as_json: bool) -> None:
    """A page of them and how many there are; or JSON."""
    if as_json:
        echo_json({"documents": documents, "total": total})
        return
    if not documents:
        click.echo("there is no document; `arkway kb add` takes files in")
        return
    rows = [(d.id, d.source, d.title, moment(d.updated_at), str(d.chunks), str(d.size_bytes)) for d in documents]
    print_table(("id", "source", "title", "taken in (UTC)", "chunks", "bytes"), rows, numbers_from=4)
    if len(documents) < total:
        click.echo(f"{len(documents)} of {total}; --offset and --limit show the others")


def print_document(holdings: Holdings, document_id: str, as_json: bool) -> None:
    """The document, and its chunks in order; or JSON."""
    document, chunks = holdings.document(document_id), holdings.chunks(document_id)
    if as_json:
        echo_json({"document": document, "chunks": chunks})
        return
    _facts(
        ("id", document.id),
        ("source", document.source),
        ("title", document.title),
        ("type", document.type),
        ("taken in", f"{moment(document.updated_at)} UTC"),
        *sorted(document.meta.items()),
    )
    for chunk in chunks:
        click.echo(f"\n{chunk.ordinal + 1}. {' / '.join(chunk.path)}   ({chunk.id})\n{chunk.text}")


def print_deleted(document: Document, as_json: bool) -> None:
    """What is gone; or JSON."""
    if as_json:
        echo_json({"id": document.id, "source": document.source, "status": "deleted"})
        return
    click.echo(f"deleted {document.source} ({document.id})")


def print_hit(number: int, hit: Hit) -> None:
    """One chunk that was found, on two lines."""
    text = " ".join(hit.chunk.text.split())
    shown = text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 1]}…"
    click.echo(f"{number}. {' / '.join(hit.chunk.path)}   [{hit.document.source}]   {hit.score:.3f}\n   {shown}")
