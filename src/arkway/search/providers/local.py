"""The offline default: pages that were kept in collections of the kind ``pages`` of the asking project."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from arkway.core.bot import Quest
from arkway.core.knowledge import Document, Hit
from arkway.core.reference import Cover
from arkway.ports.lookup import KnowledgeStore
from arkway.search.cleaning import TEXT_MAX_CHARS
from arkway.search.found import Found
from arkway.search.times import shown_time

HITS_PER_PAGE = 4
THREADS = 4


class LocalPages:
    """Implements `arkway.search.found.Provider`. Where nothing was kept, nothing is found.

    On threads of its own: a store that hangs holds up other searches here, and nothing else of the server.
    """

    name = "local"
    on_the_web = False

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, "arkway-pages")

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """By words, in every such collection of the project, or in those that the action names."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._search, quest, query, limit)

    async def aclose(self) -> None:
        """Whoever still searches is not waited for. The store is not this provider's."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        wanted = quest.action.collections
        ids = [
            collection.id
            for collection in self._store.collections(quest.account, quest.project)
            if collection.kind == "pages" and (not wanted or collection.name in wanted)
        ]
        hits = self._store.words(ids, query, limit * HITS_PER_PAGE) if ids else []
        return [_found(document, of_it) for document, of_it in _by_document(hits)][:limit]


def _by_document(hits: Iterable[Hit]) -> list[tuple[Document, list[Hit]]]:
    """The hits of each document together, in the order of its best one."""
    together: dict[str, tuple[Document, list[Hit]]] = {}
    for hit in hits:
        together.setdefault(hit.document.id, (hit.document, []))[1].append(hit)
    return list(together.values())


def _found(document: Document, hits: list[Hit]) -> Found:
    meta = document.meta
    text = "\n".join(hit.chunk.text for hit in hits)[:TEXT_MAX_CHARS]
    return Found(
        url=meta.get("url") or document.source,
        title=document.title or document.name,
        text=text,
        summary=meta.get("summary") or hits[0].chunk.text,
        site_name=meta.get("site_name", ""),
        logo_url=meta.get("logo_url", ""),
        mobile_url=meta.get("mobile_url", ""),
        publish_time=shown_time(meta.get("publish_time")),
        cover=_cover(meta),
    )


def _cover(meta: dict[str, str]) -> Cover | None:
    if not meta.get("cover_url"):
        return None
    return Cover(meta["cover_url"], _pixels(meta.get("cover_width")), _pixels(meta.get("cover_height")))


def _pixels(text: str | None) -> int:
    text = text or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
