"""Two lists of hits as one, and whether an embedding model is good enough for its list to count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import structs

from arkway.core.knowledge import Chunk, Collection, Hit
from arkway.knowledge.embedding import Embed, embedded_or_nothing
from arkway.knowledge.threads import in_thread
from arkway.knowledge.words import words
from arkway.ports.lookup import KnowledgeStore

RANK_OFFSET: Final = 60
SAMPLES: Final = 50
TOP: Final = 10
TOLERANCE: Final = 0.05
QUESTION_WORDS: Final = 3


def fused(lists: Sequence[tuple[float, Sequence[Hit]]], limit: int) -> list[Hit]:
    """Weighted reciprocal rank fusion: a hit scores ``weight / (60 + rank)`` in every list that has it.

    Hits are the same when their chunk's id is. What is equal stays in the order of the lists. A list of weight 0 or
    less adds nothing.
    """
    scores: dict[str, float] = {}
    found: dict[str, Hit] = {}
    for weight, hits in lists:
        for rank, hit in enumerate(hits if weight > 0 else (), 1):
            found.setdefault(hit.chunk.id, hit)
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + weight / (RANK_OFFSET + rank)
    best = sorted(found, key=lambda chunk_id: -scores[chunk_id])[:limit]
    return [structs.replace(found[chunk_id], score=scores[chunk_id]) for chunk_id in best]


class SelfTest(msgspec.Struct, frozen=True):
    """How often a chunk was among the first ten hits for a question made of its own words, 0 to 1."""

    samples: int
    by_words: float
    by_vectors: float

    @property
    def passed(self) -> bool:
        """Vectors may have a weight: they find about as much as words do. Never without a sample."""
        return self.samples > 0 and self.by_vectors >= self.by_words - TOLERANCE


async def self_test(store: KnowledgeStore, collection: Collection, embed: Embed, samples: int = SAMPLES) -> SelfTest:
    """Asks for chunks from all over the collection, by words and by vectors, which have to be there already.

    ``embed`` gives the vectors of questions. Raises what `embedded_or_nothing` and the store raise.
    """
    chosen = await in_thread(_sample, store, collection, samples)
    questions = _questions(chosen)
    if not questions:
        return SelfTest(0, 0.0, 0.0)
    vectors = await embedded_or_nothing(embed, list(questions.values()))

    def ask() -> SelfTest:
        by_words = by_vectors = 0
        for (chunk_id, question), vector in zip(questions.items(), vectors, strict=True):
            by_words += _has(store.words([collection.id], question, TOP), chunk_id)
            by_vectors += _has(store.near(collection.id, vector, TOP), chunk_id)
        return SelfTest(len(questions), by_words / len(questions), by_vectors / len(questions))

    return await in_thread(ask)


def _sample(store: KnowledgeStore, collection: Collection, samples: int) -> list[Chunk]:
    """Chunks at equal distances within documents at equal distances."""
    _, total = store.documents(collection.id, 0, 1)
    some = min(samples, total)
    chosen: list[Chunk] = []
    for number in range(some):
        page, _ = store.documents(collection.id, number * total // some, 1)
        chunks = [chunk for document in page for chunk in store.chunks(document.id)]
        share = samples * (number + 1) // some - samples * number // some
        chosen += _spread(chunks, share)
    return chosen


def _spread(chunks: Sequence[Chunk], count: int) -> list[Chunk]:
    taken = min(count, len(chunks))
    return [chunks[(2 * number + 1) * len(chunks) // (2 * taken)] for number in range(taken)]


def _questions(chosen: Sequence[Chunk]) -> dict[str, str]:
    """Three words of each chunk that set it apart from the others of the sample; chunks with fewer are left out."""
    cut = {chunk.id: words(chunk.text) for chunk in chosen}
    having = Counter(word for found in cut.values() for word in set(found))
    questions: dict[str, str] = {}
    for chunk_id, found in cut.items():
        often = Counter(word for word in found if len(word) > 1)
        best = sorted(often, key=lambda word: (having[word], -often[word], -len(word), word))[:QUESTION_WORDS]
        if len(best) == QUESTION_WORDS:
            questions[chunk_id] = " ".join(best)
    return questions


def _has(hits: Sequence[Hit], chunk_id: str) -> bool:
    return any(hit.chunk.id == chunk_id for hit in hits)
