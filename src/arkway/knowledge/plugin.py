"""Collections of documents as a bot's plugin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from arkway.core.bot import Findings, Quest, Snippet
from arkway.core.knowledge import Collection, Hit
from arkway.core.reference import Cover, Reference
from arkway.knowledge.holdings import QUERY_MAX_CHARACTERS, RESULTS_MAX
from arkway.knowledge.searching import Searching
from arkway.knowledge.threads import in_thread
from arkway.ports.lookup import KnowledgeStore

COVERAGE: Final = 0.6
SUMMARY_MAX_CHARACTERS: Final = 200

log = logging.getLogger("arkway.knowledge")


class KnowledgePlugin:
    """Implements `arkway.ports.lookup.Plugin` over the collections that a quest's action names, of its own project.

    A collection that is gone is searched no more; that is for the log. ``coverage``: how much of what a question is
    about has to be there, 0 to 1, for the plugin to be wanted.
    """

    source = "knowledge_base"
    action_name = "KnowledgeBase"

    def __init__(self, store: Callable[[], KnowledgeStore], searching: Searching, coverage: float = COVERAGE) -> None:
        self._open, self._searching, self._coverage = store, searching, coverage

    async def wanted(self, quest: Quest) -> bool:
        """By how much of the question the best hits have. Raises StoreUnavailable."""
        collections = await in_thread(self._named, quest)
        return bool(collections) and await self._searching.coverage(collections, _asked(quest)) >= self._coverage

    async def find(self, quest: Quest) -> Findings:
        """Raises StoreUnavailable."""
        collections = await in_thread(self._named, quest)
        query, limit = _asked(quest), min(quest.action.limit, RESULTS_MAX)
        if not collections or not query.strip() or limit <= 0:
            return Findings(count=0)
        hits = await self._searching.search(collections, query, limit)
        searched = [collection.name for collection in collections]
        return Findings(
            snippets=tuple(_snippet(idx, hit) for idx, hit in enumerate(hits)),
            output={"query": query, "collections": searched},
        )

    def _named(self, quest: Quest) -> Sequence[Collection]:
        store = self._open()
        found = []
        for name in dict.fromkeys(quest.action.collections):
            collection = store.collection(quest.account, quest.project, name)
            if collection is None:
                log.warning("the collection %s of a bot's action is gone", name)
            else:
                found.append(collection)
        return found


def _asked(quest: Quest) -> str:
    return quest.query[:QUERY_MAX_CHARACTERS]


def _snippet(idx: int, hit: Hit) -> Snippet:
    return Snippet(hit.chunk.text, reference_of(hit, idx))


def reference_of(hit: Hit, idx: int) -> Reference:
    """A chunk as callers hear of it; what was said of a page when it was kept is told as well (protocol §6.2)."""
    chunk, document, meta = hit.chunk, hit.document, hit.document.meta
    path = chunk.path or (document.title or document.name,)
    return Reference(
        idx=idx,
        url=_address(meta, "url"),
        logo_url=_address(meta, "logo_url"),
        mobile_url=_address(meta, "mobile_url"),
        site_name=meta.get("site_name", ""),
        title=document.title or document.name,
        summary=meta.get("summary", "") or chunk.text[:SUMMARY_MAX_CHARACTERS],
        publish_time=meta.get("publish_time", ""),
        cover=_cover(meta),
        collection_name=hit.collection.name,
        doc_id=document.id,
        doc_name=document.name,
        doc_type=document.type,
        doc_title="/".join(path) + "\n" + path[-1],
        chunk_id=chunk.id,
        chunk_title=path[-1],
        project=hit.collection.project,
    )


def _cover(meta: dict[str, str]) -> Cover | None:
    sizes = [
        int(text) if (text := meta.get(name, "")).isdecimal() and len(text) <= 6 else 0
        for name in ("cover_width", "cover_height")
    ]
    return Cover(address, *sizes) if (address := _address(meta, "cover_url")) else None


def _address(meta: dict[str, str], name: str) -> str:
    """On the web, or "": a document says of itself what it likes, and a browser does what ``javascript:`` says."""
    address = meta.get(name, "")
    return address if address.lower().startswith(("http://", "https://")) and address.isprintable() else ""
