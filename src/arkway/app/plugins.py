"""What bots look things up with, by the kind of action: knowledge, the web, the weather. All of it is tied in here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from arkway.app.knowledge import Knowledge, Opened
from arkway.app.search import weather, web_search
from arkway.config import Settings
from arkway.core.bot import ActionKind
from arkway.core.knowledge import Collection, Hit
from arkway.ports.lookup import KnowledgeStore, Plugin


class Plugins:
    """The plugins of one process. Raises Misconfigured for settings that contradict each other."""

    def __init__(self, settings: Settings, knowledge: Knowledge) -> None:
        self._web = web_search(settings, cast(KnowledgeStore, Pages(knowledge.store)))
        self._weather = weather(settings)
        self._by_kind: dict[ActionKind, Plugin] = {
            "knowledge": knowledge.plugin(),
            "web_search": self._web,
            "weather": self._weather,
        }

    def __call__(self) -> Mapping[ActionKind, Plugin]:
        """What there is just now."""
        return self._by_kind

    async def aclose(self) -> None:
        """Ends every connection; the knowledge is closed by whoever opened it."""
        await asyncio.gather(self._web.aclose(), self._weather.aclose())


class Pages:
    """What the offline web search needs of a `KnowledgeStore`, which it opens only where there is one."""

    def __init__(self, store: Opened) -> None:
        self._store = store

    def collections(self, account: str, project: str = "") -> list[Collection]:
        return self._store().collections(account, project) if self._store.is_used else []

    def words(self, collection_ids: Sequence[str], query: str, limit: int) -> list[Hit]:
        return self._store().words(collection_ids, query, limit)
