"""Hits in the order that a server gives them, and as they were when it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from arkway.core.errors import BackendUnavailable
from arkway.core.knowledge import Chunk, Collection, Document, Hit
from arkway.knowledge.reranking import Shape, reranked

DOCUMENT = Document(id="d", collection_id="c", source="s", name="d", type="md")
OWNER = Collection(id="c", account="a", project="p", name="c")
HITS = [Hit(Chunk(id=name, document_id="d", ordinal=0, text=f"text {name}"), DOCUMENT, OWNER, 0.5) for name in "abcd"]


class Server:
    """Answers with what it was given, and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.asked: list[Any] = []
        self._answer = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)

    async def post(self, body: bytes) -> bytes:
        self.asked.append(msgspec.json.decode(body))
        return self._answer


def names(hits: list[Hit]) -> str:
    return "".join(hit.chunk.id for hit in hits)


async def test_the_request_of_jina_and_its_answer() -> None:
    results = [
        {"index": 2, "relevance_score": 0.9},
        {"index": 0, "relevance_score": 0.1},
        {"index": 1, "relevance_score": -3},
    ]
    server = Server({"model": "m", "results": results, "usage": {}})
    found = await reranked(server.post, "why", HITS, model="m", candidates=3, deadline_s=45)
    assert names(found) == "cabd"
    assert [hit.score for hit in found] == [0.9, 0.1, -3, 0.5]
    texts = ["text a", "text b", "text c"]
    assert server.asked == [
        {"model": "m", "query": "why", "documents": texts, "top_n": 3, "return_documents": False},
    ]


async def test_the_request_of_text_embeddings_inference_and_its_answer() -> None:
    server = Server([{"index": 3, "score": 0.7}, {"index": 1, "score": 0.8}])
    found = await reranked(server.post, "why", HITS, shape="tei", deadline_s=45)
    assert names(found) == "bdac"
    assert server.asked == [{"query": "why", "texts": [f"text {name}" for name in "abcd"], "truncate": True}]


@pytest.mark.parametrize("shape", ["jina", "tei"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"\xff",
        {"error": "no such model"},
        {"results": []},
        {"results": [{"index": 4, "relevance_score": 1}]},
        {"results": [{"index": -1, "relevance_score": 1}]},
        {"results": [{"index": 1}]},
        {"results": [{"index": 1, "relevance_score": None}]},
        {"results": [{"index": "1", "relevance_score": 1}]},
        [1, 2],
        b'{"results": [], "usage": ' + b"[" * 200_000,
        b'{"results": [{"index": 0, "relevance_score": 1e999}]}',
        b'{"results": [{"index": 0, "relevance_score": ' + b"9" * 5000 + b"}]}",
    ],
)
async def test_an_answer_that_does_not_fit_changes_nothing(answer: object, shape: Shape) -> None:
    assert await reranked(Server(answer).post, "why", HITS, shape=shape, deadline_s=45) == HITS


async def test_a_server_that_fails_changes_nothing() -> None:
    async def post(body: bytes) -> bytes:
        raise BackendUnavailable("the server is away")

    assert await reranked(post, "why", HITS, deadline_s=45) == HITS


async def test_a_server_that_is_late_is_not_waited_for_and_hears_of_it() -> None:
    left = asyncio.Event()

    async def post(body: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return b""

    assert await reranked(post, "why", HITS, deadline_s=0.01) == HITS
    assert left.is_set()


async def test_a_caller_that_leaves_is_not_kept() -> None:
    begun = asyncio.Event()

    async def post(body: bytes) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    task = asyncio.create_task(reranked(post, "why", HITS, deadline_s=45))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("count", [0, 1])
async def test_nothing_to_order_is_not_asked_about(count: int) -> None:
    server = Server({"results": []})
    assert await reranked(server.post, "why", HITS[:count]) == HITS[:count]
    assert server.asked == []
