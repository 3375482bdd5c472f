"""The reranking server of the configuration, asked over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from arkway.app.knowledge import Reranking, reranking
from arkway.config import load
from arkway.core.knowledge import Chunk, Collection, Document, Hit
from arkway.wire import json

COLLECTION = Collection(id="kb-1", account="default", project="default", name="manual")
DOCUMENT = Document(id="d", collection_id="kb-1", source="a.md", name="a", type="md")
HITS = [Hit(Chunk(id=f"c{n}", document_id="d", ordinal=n, text=f"text {n}"), DOCUMENT, COLLECTION, 1.0) for n in (0, 1)]

Serve = Callable[[web.Request], Awaitable[web.Response]]


async def order(serve: Serve, tmp_path: Path, **section: object) -> list[str]:
    """The ids of the hits as they come back."""
    app = web.Application()
    app.router.add_post("/v1/rerank", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/rerank"
    knowledge = {"rerank_url": url, "rerank_deadline_s": 30.0, **section}
    asked = reranking(load(environ={}, overrides={"home": str(tmp_path), "knowledge": knowledge}))
    assert isinstance(asked, Reranking)
    try:
        return [hit.chunk.id for hit in await asked.rerank("what", HITS)]
    finally:
        await asked.aclose()
        await runner.cleanup()


async def test_the_server_gets_question_texts_model_and_key_and_has_the_last_word(tmp_path: Path) -> None:
    seen: list[tuple[object, str]] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append((json.loads(await request.read()), request.headers["authorization"]))
        results = [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}]
        return web.Response(body=json.dumps({"results": results}), content_type="application/json")

    assert await order(serve, tmp_path, rerank_model="m", rerank_key="secret") == ["c1", "c0"]
    body = {"model": "m", "query": "what", "documents": ["text 0", "text 1"], "top_n": 2, "return_documents": False}
    assert seen == [(body, "Bearer secret")]


@pytest.mark.parametrize("answer", [(500, b"no"), (200, b"nonsense"), (200, b"x" * 5_000_000), (302, b"")])
async def test_a_server_that_fails_changes_nothing(tmp_path: Path, answer: tuple[int, bytes]) -> None:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(status=answer[0], body=answer[1], headers={"Location": "http://127.0.0.1:9/"})

    assert await order(serve, tmp_path) == ["c0", "c1"]


def test_there_is_none_unless_it_is_configured(tmp_path: Path) -> None:
    settings = load(environ={}, overrides={"home": str(tmp_path), "knowledge": {"rerank_key": "secret"}})
    assert reranking(settings) is None
    assert "secret" not in repr(settings.knowledge)
