"""What makes the vectors of a collection, as the application hands it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from arkway.core.knowledge import Chunk, Collection

BATCH: Final = 32
"""Texts that are sent to an embedding model at a time."""

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]


class Embedding(msgspec.Struct, frozen=True):
    """An embedding model that answers just now. ``embed`` gives a vector for each text; raises errors of the tree."""

    model: str
    embed: Embed


Embeddings = Callable[[Collection], Embedding]
"""That of a collection's endpoint. Raises errors of the tree where it cannot be used."""


def shown(chunk: Chunk) -> str:
    """What of a chunk an embedding model gets to see: the headings above it, and its text."""
    return "\n".join((*chunk.path, chunk.text))


async def vectors_of(embedding: Embedding, chunks: Sequence[Chunk]) -> dict[str, Sequence[float]]:
    """By chunk id, in batches. Raises what ``embed`` raises."""
    found: dict[str, Sequence[float]] = {}
    for start in range(0, len(chunks), BATCH):
        batch = chunks[start : start + BATCH]
        vectors = await embedding.embed([shown(chunk) for chunk in batch])
        found |= {chunk.id: vector for chunk, vector in zip(batch, vectors, strict=True)}
    return found
