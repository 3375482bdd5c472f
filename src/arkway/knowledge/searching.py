"""A question asked of collections: by words, by vectors where they have proven themselves, and reranked where that is
set up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from arkway.core.errors import ArkwayError, StoreUnavailable
from arkway.core.knowledge import Collection, Hit
from arkway.knowledge.embedding import Embeddings, embedded
from arkway.knowledge.fusion import fused
from arkway.knowledge.reranking import CANDIDATES
from arkway.knowledge.threads import in_thread
from arkway.knowledge.words import analyzer
from arkway.ports.lookup import KnowledgeStore

VECTOR_DEADLINE_S: Final = 1.0
"""How long the question's own vector may take; without it the words alone answer."""

Rerank = Callable[[str, Sequence[Hit]], Awaitable[Sequence[Hit]]]
"""The hits in a better order, or as they were; never raises."""

log = logging.getLogger("arkway.knowledge")


class Searching:
    """Belongs to one event loop; the store is asked in threads."""

    def __init__(
        self,
        store: Callable[[], KnowledgeStore],
        embeddings: Embeddings | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        self._open, self._embeddings, self._rerank = store, embeddings, rerank
        self._outdated: set[str] = set()

    async def search(self, collections: Sequence[Collection], query: str, limit: int) -> list[Hit]:
        """Best first. Raises StoreUnavailable; an embedding or reranking model that fails is done without."""
        store = await in_thread(self._open)
        wanted = max(limit, CANDIDATES)
        near = [
            asyncio.create_task(self._near(store, each, query, wanted)) for each in collections if each.vector_weight
        ]
        try:
            by_words = await in_thread(self._by_words, store, collections, query, wanted)
            by_vectors = [each for each in await asyncio.gather(*near) if each[1]]
        finally:  # whoever asked has left, or the words have failed: no model works for nobody
            for task in near:
                task.cancel()
        found = fused([(1.0, by_words), *by_vectors], wanted) if by_vectors else by_words
        if self._rerank is not None and found:
            found = list(await self._rerank(query, found))
        return found[:limit]

    async def coverage(self, collections: Sequence[Collection], query: str) -> float:
        """How much of what the question is about they have, 0 to 1. Raises StoreUnavailable."""
        store = await in_thread(self._open)
        return await in_thread(store.coverage, [each.id for each in collections], query)

    async def _near(
        self, store: KnowledgeStore, collection: Collection, query: str, limit: int
    ) -> tuple[float, Sequence[Hit]]:
        """By vectors, with what they count for."""
        if self._embeddings is None or not collection.endpoint_id:
            return 0.0, ()
        try:
            embedding = self._embeddings(collection)
            if embedding.model != collection.embedding_model:
                return 0.0, ()  # its vectors are about to be made anew
            async with asyncio.timeout(VECTOR_DEADLINE_S):
                (vector,) = await embedded(embedding.embed, [query])
            return collection.vector_weight, await in_thread(store.near, collection.id, vector, limit)
        except StoreUnavailable:
            raise
        except (ArkwayError, TimeoutError) as error:
            log.warning("the collection %s is searched without vectors: %s", collection.id, error or "too slow")
            return 0.0, ()

    def _by_words(self, store: KnowledgeStore, collections: Sequence[Collection], query: str, limit: int) -> list[Hit]:
        self._warn(collections)
        return store.words([collection.id for collection in collections], query, limit)

    def _warn(self, collections: Sequence[Collection]) -> None:
        """Once for each collection whose words were cut in another way than the question's are."""
        for each in collections:
            if each.analyzer not in ("", analyzer()) and each.id not in self._outdated:
                self._outdated.add(each.id)
                log.warning(
                    "the collection %s was indexed by %s and is asked by %s, which finds less: run `arkway kb reindex`",
                    each.id,
                    each.analyzer,
                    analyzer(),
                )
