"""What makes the vectors of a collection, as the application hands it in."""

from __future__ import annotations

import contextlib
import logging
import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from arkway.core.errors import BackendFailed, BackendUnavailable, BadRequest, StoreUnavailable
from arkway.core.knowledge import Chunk, Collection
from arkway.knowledge.vectors import DIMENSIONS_LIMIT

BATCH: Final = 32
"""Texts that are sent to an embedding model at a time."""
ANY_WORD: Final = "word"
"""What every embedding model takes."""

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

log = logging.getLogger("arkway.knowledge")


class Embedding(msgspec.Struct, frozen=True):
    """An embedding model that answers just now. ``embed`` gives a vector for each text; raises errors of the tree."""

    model: str
    embed: Embed


Embeddings = Callable[[Collection], Embedding]
"""That of a collection's endpoint. Raises errors of the tree where it cannot be used."""


def shown(chunk: Chunk) -> str:
    """What of a chunk an embedding model gets to see: the headings above it, and its text."""
    return "\n".join((*chunk.path, chunk.text))


async def embedded(embed: Embed, texts: Sequence[str]) -> list[array[float]]:
    """A vector for each text, in batches, all of one size and of finite numbers.

    Raises what ``embed`` raises, and BackendFailed where what it gives is anything else. That the ledger does not take
    the call is the model's being away: whose store it is matters to nobody here.
    """
    found: list[array[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        try:
            given = await embed(batch)
        except StoreUnavailable as error:
            raise BackendUnavailable(error.message) from error
        found += [array("f", vector) for vector in given]
        if len(found) != start + len(batch):
            raise BackendFailed("the embedding model did not give one vector for each text")
    if not all(0 < len(vector) <= DIMENSIONS_LIMIT and math.isfinite(math.hypot(*vector)) for vector in found):
        raise BackendFailed("the embedding model gave a vector that is empty, too long, or not of finite numbers")
    if len({len(vector) for vector in found}) > 1:
        raise BackendFailed("the embedding model gave vectors of several sizes")
    return found


async def vectors_of(embedding: Embedding, chunks: Sequence[Chunk]) -> dict[str, array[float]]:
    """By chunk id. Raises as `embedded_or_nothing`."""
    vectors = await embedded_or_nothing(embedding.embed, [shown(chunk) for chunk in chunks])
    return {chunk.id: vector for chunk, vector in zip(chunks, vectors, strict=True)}


async def embedded_or_nothing(embed: Embed, texts: Sequence[str]) -> list[array[float]]:
    """As `embedded`; a text that the model refuses gets a vector of zeroes, which is close to nothing.

    One text that is too long for the model, or not to its liking, must not keep all the others out. Raises BadRequest
    where the model does not take any text at all.
    """
    with contextlib.suppress(BadRequest):
        return await embedded(embed, texts)
    (one,) = await embedded(embed, [ANY_WORD])
    return [await _alone(embed, text, len(one)) for text in texts]


async def _alone(embed: Embed, text: str, size: int) -> array[float]:
    try:
        (vector,) = await embedded(embed, [text])
    except BadRequest as error:
        log.warning("a text is found by words alone, since the embedding model refuses it: %s", error.message)
        return array("f", [0.0] * size)
    return vector
