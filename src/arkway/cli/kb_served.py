"""A question put to a running server by its Admin API: there vectors count, and a reranking server where one is set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from arkway.core.knowledge import Chunk, Collection, Document, Hit

if TYPE_CHECKING:
    from arkway.cli.tenant import Place

T = TypeVar("T")
DEADLINE_S = 60.0


class _Found(msgspec.Struct):
    score: float
    chunk: Chunk
    document: Document


class _Page(msgspec.Struct):
    items: list[_Found]


class _Error(msgspec.Struct):
    message: str


class _Failure(msgspec.Struct):
    error: _Error


def asked_of_server(url: str, key: str, place: Place, collection: str, question: str, limit: int) -> list[Hit]:
    """Best first. Raises ClickException where the server does not answer, or refuses."""
    if not key:
        raise click.ClickException(
            "no API key: set ARK_API_KEY or pass --api-key (`arkway keys create --role viewer` makes one)"
        )
    return asyncio.run(_asked(url, key, place, collection, {"query": question, "limit": limit}))


async def _asked(url: str, key: str, place: Place, collection: str, question: dict[str, Any]) -> list[Hit]:
    import aiohttp

    path = f"{url}/admin/v1/collections/{quote(collection, safe='')}"
    within = {"account": place.account, "project": place.project}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    timeout = aiohttp.ClientTimeout(DEADLINE_S)
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            owner = await _read(session.get(path, params=within), Collection)
            body = msgspec.json.encode(question)
            page = await _read(session.post(f"{path}/search", params=within, data=body), _Page)
    except (aiohttp.ClientError, TimeoutError):
        raise click.ClickException(f"no server answers at {url}; start one with `arkway serve`") from None
    return [Hit(each.chunk, each.document, owner, each.score) for each in page.items]


async def _read(request: Any, kind: type[T]) -> T:
    async with request as response:
        body = await response.read()
    try:
        if response.status == 200:
            return msgspec.json.decode(body, type=kind)
        message = msgspec.json.decode(body, type=_Failure).error.message
    except msgspec.MsgspecError:
        raise click.ClickException(f"what answers at {response.url.origin()} is no Arkway server") from None
    raise click.ClickException(f"{response.status}: {message}")
