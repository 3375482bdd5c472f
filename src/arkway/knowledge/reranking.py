"""Hits in the order that a reranking server gives them, when it answers in time.

The request is that of Jina and Cohere, which vLLM and llama-server take as well (``POST /v1/rerank`` or ``/rerank``,
answer ``{"results": [{"index", "relevance_score"}]}``), or that of Text Embeddings Inference (``texts``, answer
``[{"index", "score"}]``). Both answers are understood whichever was asked.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, structs

from arkway.core.errors import ArkwayError, BackendFailed
from arkway.core.knowledge import Hit

DEADLINE_S: Final = 0.3
CANDIDATES: Final = 30

Shape = Literal["jina", "tei"]
Post = Callable[[bytes], Awaitable[bytes]]
"""Sends a JSON body to the server and gives the body of its answer; raises errors of the tree, also for status 4xx."""

log = logging.getLogger("arkway.knowledge")


class _Ranked(msgspec.Struct):
    index: Annotated[int, Meta(ge=0)]
    score: float | None = None
    relevance_score: float | None = None

    @property
    def value(self) -> float:
        """NaN where there is none."""
        return next((one for one in (self.relevance_score, self.score) if one is not None), math.nan)


class _Results(msgspec.Struct):
    results: list[_Ranked]


async def reranked(
    post: Post,
    query: str,
    hits: Sequence[Hit],
    *,
    model: str = "",
    shape: Shape = "jina",
    candidates: int = CANDIDATES,
    deadline_s: float = DEADLINE_S,
) -> list[Hit]:
    """The first ``candidates`` of the hits by the server's scores, then the rest as they were.

    All as they were when the server fails, answers nonsense, or takes longer than ``deadline_s``.
    """
    asked = hits[:candidates]
    if len(asked) < 2:
        return list(hits)
    try:
        async with asyncio.timeout(deadline_s):
            answer = await post(msgspec.json.encode(_body(query, asked, model, shape)))
        return [*_ordered(asked, answer), *hits[candidates:]]
    except TimeoutError:
        log.warning("the reranking server has not answered within %g seconds", deadline_s)
    except ArkwayError as error:
        log.warning("the reranking server failed: %s", error)
    return list(hits)


def _body(query: str, hits: Sequence[Hit], model: str, shape: Shape) -> dict[str, Any]:
    texts = [hit.chunk.text for hit in hits]
    if shape == "tei":
        return {"query": query, "texts": texts, "truncate": True}
    named = {"model": model} if model else {}
    return {**named, "query": query, "documents": texts, "top_n": len(texts), "return_documents": False}


def _ordered(hits: Sequence[Hit], answer: bytes) -> list[Hit]:
    """Hits that the server says nothing of come after the others. Raises BackendFailed."""
    scores = _scores(answer)
    if not scores or max(scores) >= len(hits) or not all(map(math.isfinite, scores.values())):
        raise BackendFailed("its answer does not fit what was asked")
    best = sorted(scores, key=lambda place: (-scores[place], place))
    rest = [hit for place, hit in enumerate(hits) if place not in scores]
    return [structs.replace(hits[place], score=scores[place]) for place in best] + rest


def _scores(answer: bytes) -> dict[int, float]:
    try:
        found = msgspec.json.decode(answer, type=_Results | list[_Ranked])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BackendFailed(f"its answer cannot be read: {error}") from error
    ranked = found.results if isinstance(found, _Results) else found
    return {one.index: one.value for one in ranked}
