"""The plugin of bots: when it is wanted, what it finds, and what callers hear of where it is from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from arkway.core.bot import BotAction, Findings, Quest
from arkway.core.errors import BackendUnavailable, StoreUnavailable
from arkway.core.knowledge import Collection, Hit
from arkway.core.reference import Cover
from arkway.knowledge.embedding import Embedding, vectors_of
from arkway.knowledge.plugin import KnowledgePlugin
from arkway.knowledge.searching import Searching
from arkway.ports.lookup import KnowledgeStore, Plugin
from tests.unit.knowledge.shelf import NOW_S, Shelf, shelf

GUIDE = """# 图书馆指南

## 开放时间

图书馆周二至周日九点开放，周一闭馆。

## Lending

A card costs nothing. Ten books may be taken home for four weeks.
"""
FEES = "# Fees\n\nA late book costs 0.20 a day.\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        holdings = made.holdings()
        holdings.create("guide", NOW_S)
        holdings.create("fees", NOW_S)
        holdings.upload("guide", "指南.md", GUIDE.encode(), NOW_S)
        holdings.upload("fees", "fees.md", FEES.encode(), NOW_S)
        foreign = made.holdings("umbrella")
        foreign.create("guide", NOW_S)
        foreign.upload("guide", "secret.md", b"# Secret\n\nA late book of umbrella costs 9.99 a day.\n", NOW_S)
        made.work_off()
        yield made


def quest(query: str, *collections: str, limit: int = 5, account: str = "acme") -> Quest:
    action = BotAction(kind="knowledge", collections=collections or ("guide", "fees"), limit=limit)
    return Quest(account=account, project="default", query=query, action=action)


def found(plugin: Plugin, asked: Quest) -> Findings:
    return asyncio.run(plugin.find(asked))


def plugin(place: Shelf, coverage: float = 0.6) -> KnowledgePlugin:
    return KnowledgePlugin(place.opened, Searching(place.opened), coverage)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("图书馆的开放时间是什么？", True),
        ("What costs does a late book have a day?", True),
        ("May ten books be taken home?", True),
        ("你好，请写一首关于秋天的诗", False),
        ("What is 12 times 12?", False),
        ("", False),
    ],
)
def test_it_is_wanted_where_the_collections_have_what_is_asked(place: Shelf, query: str, wanted: bool) -> None:
    assert asyncio.run(plugin(place).wanted(quest(query))) is wanted


def test_the_threshold_is_a_setting(place: Shelf) -> None:
    asked = quest("late book in Antarctica")
    assert asyncio.run(plugin(place, 0.1).wanted(asked))
    assert not asyncio.run(plugin(place, 1.0).wanted(asked))


def test_every_field_of_a_reference_is_there(place: Shelf) -> None:
    findings = found(plugin(place), quest("图书馆周一开放吗"))
    snippet = findings.snippets[0]
    (document,), _ = place.holdings().documents("guide")
    chunk = place.holdings().chunks(document.id)[0]
    reference = snippet.reference
    assert snippet.text == chunk.text == "图书馆周二至周日九点开放，周一闭馆。"
    assert (reference.collection_name, reference.project) == ("guide", "default")
    assert (reference.doc_id, reference.doc_name, reference.doc_type) == (document.id, "指南", "md")
    assert reference.doc_title == "图书馆指南/开放时间\n开放时间"
    assert (reference.chunk_id, reference.chunk_title) == (chunk.id, "开放时间")
    assert (reference.idx, reference.title, reference.summary) == (0, "图书馆指南", chunk.text)
    assert findings.count == 1


def test_what_is_said_of_a_page_is_told(place: Shelf) -> None:
    meta = {
        "url": "https://example.com/fees",
        "site_name": "Example",
        "title": "All fees",
        "cover_url": "https://example.com/a.png",
        "cover_width": "640",
        "cover_height": "9" * 5000,
    }
    place.holdings().upload("fees", "page.html", b"<p>A lost zeppelin costs 300.</p>", NOW_S, meta=meta)
    place.work_off()
    reference = found(plugin(place), quest("lost zeppelin")).snippets[0].reference
    assert (reference.url, reference.site_name, reference.title) == ("https://example.com/fees", "Example", "All fees")
    assert (reference.doc_type, reference.cover) == ("url", Cover("https://example.com/a.png", 640, 0))


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JavaScript://https://x", "data:text/html,x", "//example.com", "file:///etc/passwd"],
)
def test_an_address_that_a_document_gives_itself_is_one_on_the_web(place: Shelf, address: str) -> None:
    said = f"---\nurl: {address}\nlogo_url: {address}\nmobile_url: {address}\ncover_url: {address}\n---\n"
    page = f"{said}# Zeppelins\n\nA lost zeppelin costs 300.\n"
    place.holdings().upload("fees", "zeppelin.md", page.encode(), NOW_S, meta={"url": address})
    place.work_off()
    reference = found(plugin(place), quest("lost zeppelin")).snippets[0].reference
    assert (reference.url, reference.logo_url, reference.mobile_url, reference.cover) == ("", "", "", None)


def test_another_accounts_collection_of_the_same_name_is_not_searched(place: Shelf) -> None:
    texts = [snippet.text for snippet in found(plugin(place), quest("late book of umbrella")).snippets]
    assert texts
    assert not any("9.99" in text for text in texts)
    own = found(plugin(place), quest("late book of umbrella", "guide", account="umbrella"))
    assert ["9.99" in snippet.text for snippet in own.snippets] == [True]


def test_a_collection_that_is_gone_is_left_out(place: Shelf) -> None:
    place.holdings().delete("guide")
    assert found(plugin(place), quest("late book")).snippets
    gone = quest("late book", "guide")
    assert found(plugin(place), gone) == Findings(count=0)
    assert not asyncio.run(plugin(place).wanted(gone))


def test_no_more_is_found_than_the_action_takes(place: Shelf) -> None:
    assert len(found(plugin(place), quest("book", limit=1)).snippets) == 1


def test_the_event_loop_never_waits_for_the_store(place: Shelf) -> None:
    threads: set[int] = set()

    def opened() -> KnowledgeStore:
        threads.add(threading.get_ident())
        return place.store

    asked = KnowledgePlugin(opened, Searching(opened))
    assert asyncio.run(asked.wanted(quest("late book")))
    assert found(asked, quest("late book")).snippets
    assert threads
    assert threading.get_ident() not in threads


def test_a_store_that_is_away_is_an_error_of_the_tree(place: Shelf) -> None:
    place.store.close()
    with pytest.raises(StoreUnavailable):
        found(plugin(place), quest("late book"))


# Vectors


class Model:
    """Two numbers, by whether a text is about money, in whatever words."""

    model = "model-1"
    away = False

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.away:
            raise BackendUnavailable("the model is away")
        return [[1.0, 0.1] if "cost" in text or "penalty" in text else [0.1, 1.0] for text in texts]

    def __call__(self, collection: Collection) -> Embedding:
        return Embedding(self.model, self.embed)


async def vectorized(place: Shelf, model: Model, weight: float) -> None:
    for collection in place.holdings().list():
        bound = structs.replace(collection, endpoint_id="ep-1", embedding_model="model-1", vector_weight=weight)
        place.store.change(bound)
        missing = place.store.without_vectors(collection.id, 100)
        place.store.add_vectors(collection.id, await vectors_of(model(bound), missing))


def ask(place: Shelf, model: Model, query: str) -> list[Hit]:
    return asyncio.run(Searching(place.opened, model).search(place.holdings().list(), query, 3))


def test_vectors_find_what_no_word_does_where_they_count(place: Shelf) -> None:
    model = Model()
    asyncio.run(vectorized(place, model, 0.5))
    assert "0.20" in ask(place, model, "penalty")[0].chunk.text
    asyncio.run(vectorized(place, model, 0.0))
    assert ask(place, model, "penalty") == []


@pytest.mark.parametrize("trouble", ["away", "another model"])
def test_without_vectors_the_words_answer(place: Shelf, trouble: str) -> None:
    model = Model()
    asyncio.run(vectorized(place, model, 0.5))
    model.away, model.model = trouble == "away", "model-2" if trouble == "another model" else "model-1"
    assert ask(place, model, "penalty") == []
    assert "0.20" in ask(place, model, "late book")[0].chunk.text


def test_a_reranking_server_has_the_last_word(place: Shelf) -> None:
    async def last_first(query: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        return hits[::-1]

    plain = Searching(place.opened)
    turned = Searching(place.opened, None, last_first)
    own = place.holdings().list()
    first = [hit.chunk.id for hit in asyncio.run(plain.search(own, "books costs", 10))]
    assert len(first) > 1
    assert [hit.chunk.id for hit in asyncio.run(turned.search(own, "books costs", 10))] == first[::-1]
