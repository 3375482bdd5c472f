"""Bocha, a search service made for models: ``POST /v1/web-search``, its answer in the shape of Bing's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from arkway.core.bot import Quest
from arkway.core.errors import BackendFailed
from arkway.core.reference import Cover
from arkway.search.asking import Service, decoded, each_decoded
from arkway.search.found import Found
from arkway.search.times import shown_time

RESULTS_MAX = 50


class _Page(msgspec.Struct):
    url: str
    name: str | None = None
    snippet: str | None = None
    summary: str | None = None
    siteName: str | None = None  # noqa: N815 - the names there
    siteIcon: str | None = None  # noqa: N815
    datePublished: str | None = None  # noqa: N815
    dateLastCrawled: str | None = None  # noqa: N815


class _Image(msgspec.Struct):
    hostPageUrl: str  # noqa: N815
    thumbnailUrl: str | None = None  # noqa: N815
    contentUrl: str | None = None  # noqa: N815
    width: int | None = None
    height: int | None = None


class _Values(msgspec.Struct):
    value: list[msgspec.Raw] | None = None


class _Data(msgspec.Struct):
    webPages: _Values | None = None  # noqa: N815
    images: _Values | None = None


class _Answer(msgspec.Struct):
    """``code`` is 200, as a number or a string, when all is well."""

    code: int | str = 200
    data: _Data | None = None


class Bocha:
    """Implements `arkway.search.found.Provider`."""

    name = "bocha"
    on_the_web = True

    def __init__(self, service: Service) -> None:
        self._service = service

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """With its summaries, which are longer than its snippets."""
        asked = {"query": query, "summary": True, "freshness": "noLimit", "count": min(limit, RESULTS_MAX)}
        answer = decoded(self.name, await self._service.post("/v1/web-search", msgspec.json.encode(asked)), _Answer)
        if str(answer.code) != "200":
            raise BackendFailed(f"`{self.name}` answers with the code {str(answer.code)[:16]}")
        data = answer.data or _Data()
        pages = each_decoded(self.name, _values(data.webPages)[:limit], _Page)
        covers = _covers(each_decoded(self.name, _values(data.images), _Image))
        return [_found(page, covers.get(page.url)) for page in pages]

    async def aclose(self) -> None:
        await self._service.aclose()


def _values(values: _Values | None) -> Sequence[msgspec.Raw]:
    return (values.value if values else None) or ()


def _covers(images: Sequence[_Image]) -> dict[str, Cover]:
    """The first picture of each page."""
    covers: dict[str, Cover] = {}
    for image in images:
        url = image.thumbnailUrl or image.contentUrl
        if url:
            covers.setdefault(image.hostPageUrl, Cover(url, image.width or 0, image.height or 0))
    return covers


def _found(page: _Page, cover: Cover | None) -> Found:
    return Found(
        url=page.url,
        title=page.name or "",
        text=page.summary or page.snippet or "",
        summary=page.snippet or page.summary or "",
        site_name=page.siteName or "",
        logo_url=page.siteIcon or "",
        publish_time=shown_time(page.datePublished) or _crawled(page.dateLastCrawled),
        cover=cover,
    )


def _crawled(text: str | None) -> str:
    """Its times end in Z and are China's all the same."""
    return shown_time((text or "").removesuffix("Z"))
