"""SearXNG, a search engine of one's own: ``GET /search?q=…&format=json``.

Its settings have to list ``json`` among ``search.formats``: it answers 403 otherwise.
"""

from __future__ import annotations

import msgspec

from arkway.core.bot import Quest
from arkway.core.reference import Cover
from arkway.search.asking import Service, decoded, each_decoded
from arkway.search.found import Found
from arkway.search.times import shown_time


class _Result(msgspec.Struct):
    url: str
    title: str | None = None
    content: str | None = None
    publishedDate: str | None = None  # noqa: N815 - its name there
    thumbnail: str | None = None
    img_src: str | None = None


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw]


class SearXNG:
    """Implements `arkway.search.found.Provider`."""

    name = "searxng"
    on_the_web = True

    def __init__(self, service: Service) -> None:
        self._service = service

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """Its first page of results, up to ``limit``."""
        body = await self._service.get("/search", (("q", query), ("format", "json")))
        answer = decoded(self.name, body, _Answer)
        return [_found(result) for result in each_decoded(self.name, answer.results[:limit], _Result)]

    async def aclose(self) -> None:
        await self._service.aclose()


def _found(result: _Result) -> Found:
    picture = result.thumbnail or result.img_src
    return Found(
        url=result.url,
        title=result.title or "",
        summary=result.content or "",
        publish_time=shown_time(result.publishedDate),
        cover=Cover(picture) if picture else None,
    )
