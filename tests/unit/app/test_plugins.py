"""What the bots of an installation look things up with, as its settings have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.app.knowledge import Knowledge
from arkway.app.lookup import collections_of
from arkway.app.plugins import Plugins
from arkway.config import Settings, load
from arkway.core.bot import ActionKind, BotAction, Findings, Quest
from arkway.core.errors import Misconfigured
from arkway.core.knowledge import Chunk, Collection, Document
from arkway.knowledge.opening import knowledge_path, open_knowledge
from arkway.stores.home import database_path
from arkway.stores.sqlite import SqliteStore
from arkway.testing import MemoryLedger
from tests.tools.databases import made

TEXT = "水泵的密封圈每两年更换一次。"
QUESTION = "水泵的密封圈多久更换一次"


def settings_of(home: Path, **sections: object) -> Settings:
    return load(environ={}, overrides={"home": str(home), **sections})


class Place:
    """An installation's knowledge and plugins, to be used within one event loop."""

    def __init__(self, settings: Settings, store: SqliteStore) -> None:
        self.knowledge = Knowledge(settings, store, lambda _: None, lambda *_: None, {}, MemoryLedger(), works=False)
        self.plugins = Plugins(settings, self.knowledge)

    async def find(self, kind: ActionKind, *collections: str, query: str = QUESTION) -> Findings:
        action = BotAction(kind=kind, collections=collections, deadline_s=30.0)
        return await self.plugins()[kind].find(Quest(account="default", project="default", query=query, action=action))

    async def aclose(self) -> None:
        await self.plugins.aclose()
        await self.knowledge.aclose()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made(database_path(tmp_path))
    return tmp_path


def keep(home: Path, name: str, *, pages: bool = False) -> None:
    """A collection with one document in it."""
    store = open_knowledge(home)
    try:
        collection = Collection(
            id=f"kb-{name}", account="default", project="default", name=name, kind="pages" if pages else "documents"
        )
        assert store.create(collection)
        document = Document(
            id=("a" if pages else "b") * 32, collection_id=collection.id, source="https://example.com/pumps",
            name="pumps", type="md", meta={"url": "https://example.com/pumps"} if pages else {},
        )  # fmt: skip
        chunk = Chunk(id=("c" if pages else "d") * 32, document_id=document.id, ordinal=0, text=TEXT)
        store.put(document, [chunk], {})
    finally:
        store.close()


async def test_where_nothing_is_kept_nothing_is_found_and_no_file_is_made(home: Path) -> None:
    with SqliteStore(database_path(home)) as store:
        place = Place(settings_of(home), store)
        try:
            assert set(place.plugins()) == {"knowledge", "web_search", "weather"}
            assert (await place.find("web_search")).snippets == ()
            assert (await place.find("weather", query="北京天气")).snippets == ()
            assert not place.knowledge.has_collection("default", "default", "manual")
        finally:
            await place.aclose()
    assert not knowledge_path(home).exists()


async def test_what_is_kept_is_found_by_the_plugin_of_its_kind(home: Path) -> None:
    keep(home, "manual")
    keep(home, "web", pages=True)
    with SqliteStore(database_path(home)) as store:
        place = Place(settings_of(home), store)
        try:
            found = await place.find("knowledge", "manual")
            assert [snippet.text for snippet in found.snippets] == [TEXT]
            (page,) = (await place.find("web_search")).snippets
            assert page.reference.url == "https://example.com/pumps"
            assert place.knowledge.has_collection("default", "default", "manual")
            assert not place.knowledge.has_collection("default", "second", "manual")
        finally:
            await place.aclose()


def test_commands_see_the_collections_that_are_there(home: Path) -> None:
    has_collection = collections_of(settings_of(home))
    assert not has_collection("default", "default", "manual")
    assert not knowledge_path(home).exists()
    keep(home, "manual")
    assert has_collection("default", "default", "manual")
    assert not has_collection("acme", "default", "manual")


def test_a_provider_without_what_it_needs_stops_the_start(home: Path) -> None:
    with SqliteStore(database_path(home)) as store, pytest.raises(Misconfigured, match="searxng_url"):
        Place(settings_of(home, search={"provider": "searxng"}), store)
