"""Holdings over a real store in a file, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arkway.core.audit import Entry
from arkway.core.errors import InvalidField
from arkway.core.knowledge import Collection, Hit, Job
from arkway.knowledge.holdings import Backing, Holdings
from arkway.knowledge.ingestion import Ingestion, Work
from arkway.knowledge.searching import Searching
from arkway.knowledge.sqlite_store import open_sqlite
from arkway.ports.lookup import KnowledgeStore

NOW_S = 1_700_000_000
ENDPOINT = "ep-1"


class Shelf:
    """``entries`` is what went on record; projects have the endpoint ``ep-1`` and no other."""

    def __init__(self, store: KnowledgeStore) -> None:
        self.store = store
        self.entries: list[Entry] = []
        self.backing = Backing(self.opened, self._ask, _check_endpoint, self.entries.append)

    def opened(self) -> KnowledgeStore:
        return self.store

    def holdings(self, account: str = "acme", project: str = "default") -> Holdings:
        return Holdings(self.backing, account, project)

    def ingestion(self, work: Work | None = None) -> Ingestion:
        return Ingestion(self.opened, None, work)

    def work_off(self) -> list[Job]:
        """Every job that there is to do."""
        return asyncio.run(worked_off(self.ingestion()))

    def _ask(self, collections: Sequence[Collection], query: str, limit: int) -> list[Hit]:
        return asyncio.run(Searching(self.opened).search(collections, query, limit))


async def worked_off(ingestion: Ingestion) -> list[Job]:
    done = []
    while (job := await ingestion.step()) is not None:
        done.append(job)
    return done


@contextmanager
def shelf(folder: Path) -> Iterator[Shelf]:
    store = open_sqlite(folder / "knowledge.db")
    try:
        yield Shelf(store)
    finally:
        store.close()


def _check_endpoint(account: str, project: str, endpoint_id: str) -> None:
    if endpoint_id != ENDPOINT:
        raise InvalidField("there is no such endpoint", "endpoint_id")
