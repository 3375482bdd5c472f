"""The offline default over a real store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from arkway.core.bot import Quest
from arkway.core.knowledge import Chunk, Collection, Document
from arkway.core.reference import Cover
from arkway.knowledge.opening import open_knowledge
from arkway.ports.lookup import KnowledgeStore
from arkway.search.providers.local import LocalPages
from arkway.search.web_search import WebSearch
from tests.tools.waiting import PATIENCE_S
from tests.unit.search.scripted import quest

META = {
    "url": "https://news.example.com/a", "site_name": "示例新闻", "publish_time": "2025-04-08T10:30:00+08:00",
    "summary": "概要",
    "logo_url": "https://news.example.com/l.png", "mobile_url": "https://m.example.com/a",
    "cover_url": "https://i.test/c.png",
    "cover_width": "30", "cover_height": "2x",
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KnowledgeStore]:
    store = open_knowledge(tmp_path)
    yield store
    store.close()


def filled(
    store: KnowledgeStore, name: str, texts: list[str], *, kind: str = "pages", account: str = "1000", meta: bool = True
) -> None:
    """A collection with one document of these chunks."""
    made = Collection(id=f"kb-{account}-{name}", account=account, project="default", name=name, kind=kind)  # type: ignore[arg-type]
    assert store.create(made)
    number = f"{abs(hash((account, name))):032x}"[:32]
    document = Document(
        id=number,
        collection_id=made.id,
        source=f"https://{name}.test/page",
        name="page",
        type="html",
        title=f"{name} 标题",
        meta=META if meta else {},
    )
    chunks = [
        Chunk(id=f"{number[:-2]}{ordinal:02d}", document_id=number, ordinal=ordinal, text=text)
        for ordinal, text in enumerate(texts)
    ]
    store.put(document, chunks, {})


async def search(store: KnowledgeStore, asked: Quest) -> list[str]:
    findings = await WebSearch({"local": LocalPages(store)}, "local").find(asked)
    return [snippet.reference.url for snippet in findings.snippets]


async def test_where_nothing_is_kept_nothing_is_found(store: KnowledgeStore) -> None:
    findings = await WebSearch({"local": LocalPages(store)}, "local").find(quest("今天的新闻"))
    assert (findings.snippets, findings.count, findings.output["results"]) == ((), 1, [])


async def test_a_pages_fields_are_those_of_its_document(store: KnowledgeStore) -> None:
    filled(store, "news", ["长江流域迎来洪水", "今年的洪水比往年早", "体育比赛"])
    findings = await WebSearch({"local": LocalPages(store)}, "local").find(quest("长江洪水"))
    assert len(findings.snippets) == 1
    snippet, reference = findings.snippets[0], findings.snippets[0].reference
    assert sorted(snippet.text.split("\n"))[-1] == "长江流域迎来洪水"
    assert (reference.url, reference.title, reference.site_name) == (
        "https://news.example.com/a",
        "news 标题",
        "示例新闻",
    )
    assert (reference.summary, reference.publish_time) == ("概要", "2025年04月08日 10:30:00(CST) 星期二")
    assert (reference.logo_url, reference.mobile_url) == ("https://news.example.com/l.png", "https://m.example.com/a")
    assert reference.cover == Cover("https://i.test/c.png", 30, 0)


async def test_a_page_without_fields_has_those_of_its_address(store: KnowledgeStore) -> None:
    filled(store, "plain", ["长江流域迎来洪水"], meta=False)
    findings = await WebSearch({"local": LocalPages(store)}, "local").find(quest("长江洪水"))
    reference = findings.snippets[0].reference
    assert (reference.url, reference.site_name) == ("https://plain.test/page", "plain.test")
    assert (reference.logo_url, reference.summary) == ("https://plain.test/favicon.ico", "长江流域迎来洪水")


async def test_only_pages_and_only_the_projects_own_are_searched(store: KnowledgeStore) -> None:
    filled(store, "mine", ["长江流域迎来洪水"], meta=False)
    filled(store, "more", ["长江流域迎来洪水"], meta=False)
    filled(store, "documents", ["长江流域迎来洪水"], kind="documents", meta=False)
    filled(store, "theirs", ["长江流域迎来洪水"], account="2000", meta=False)
    assert sorted(await search(store, quest("长江洪水"))) == ["https://mine.test/page", "https://more.test/page"]
    assert await search(store, quest("长江洪水", collections=("more", "documents", "theirs"))) == [
        "https://more.test/page"
    ]
    assert len(await search(store, quest("长江洪水", limit=1))) == 1


async def test_a_store_that_hangs_takes_no_threads_of_others() -> None:
    go = threading.Event()

    class Hanging:
        """A store that answers when it may."""

        def collections(self, account: str, project: str = "") -> list[Collection]:
            assert go.wait(2 * PATIENCE_S)
            return []

    pages = LocalPages(cast(KnowledgeStore, Hanging()))
    searches = [asyncio.ensure_future(pages.search(quest(), "x", 5)) for _ in range(100)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(go.is_set), PATIENCE_S) is False
    finally:
        go.set()
    assert await asyncio.gather(*searches) == [[]] * 100
    await pages.aclose()
