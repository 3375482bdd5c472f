"""The web as a bot's plugin: asks the provider that the bot names, and reads the best pages where that is on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

import msgspec

from arkway.core.bot import Findings, Quest
from arkway.core.errors import ArkwayError, BackendTimeout, Misconfigured
from arkway.search.cleaning import asked
from arkway.search.found import Found, Provider, snippet, usable
from arkway.search.lexicon import asks_the_web
from arkway.search.page_head import Head

QUERY_MAX_CHARS = 400
RESULTS_MAX = 50
IN_PLACE_CHARS = 65_536
"""To make more text plain takes longer than the event loop can do without. Sensible results have a tenth of this."""
LAST_S = 0.3
"""What is left of an action's time when the reading of pages ends: enough to end what reads, on a busy machine too, and
to hand over what is there. An action that is late has found nothing.
"""

log = logging.getLogger("arkway.search")


class Read(msgspec.Struct, frozen=True):
    """A page that was fetched: what it says of itself, and its main text."""

    head: Head
    text: str = ""


class Reading(Protocol):
    """Reads pages that lie anywhere, as far as it can in the time."""

    async def read(self, urls: list[str], timeout_s: float) -> Mapping[str, Read]:
        """By their addresses; those that could not be read are not among them. Raises errors of the tree."""
        ...


class WebSearch:
    """Implements `arkway.ports.lookup.Plugin`."""

    source = "search_engine"
    action_name = "WebBrowsingPlus"

    def __init__(
        self, providers: Mapping[str, Provider], default: str, *, reading: Reading | None = None, pages: int = 0
    ) -> None:
        """``pages``: how many of the first results are read through ``reading``."""
        self._providers = dict(providers)
        self._default = default
        self._reading = reading
        self._pages = pages

    async def wanted(self, quest: Quest) -> bool:
        """By the words of the question."""
        return asks_the_web(quest.query, quest.lexicon)

    async def find(self, quest: Quest) -> Findings:
        """Never takes longer than the action may: raises BackendTimeout, or leaves out pages that are late."""
        provider = self._provider(quest.action.provider)
        query = asked(quest.query, QUERY_MAX_CHARS)
        limit = min(quest.action.limit, RESULTS_MAX)
        if not query or limit <= 0:
            return Findings(count=0)
        deadline_s = asyncio.get_running_loop().time() + quest.action.deadline_s
        try:
            async with asyncio.timeout_at(deadline_s):
                found = usable(await provider.search(quest, query, limit), limit)
        except TimeoutError:
            raise BackendTimeout(
                f"`{provider.name}` did not answer within {quest.action.deadline_s:g} seconds"
            ) from None
        if provider.on_the_web:
            found = await self._with_pages(found, deadline_s)
        if sum(len(each.title) + len(each.text) + len(each.summary) for each in found) > IN_PLACE_CHARS:
            return await asyncio.to_thread(_findings, provider.name, query, found)
        return _findings(provider.name, query, found)

    async def aclose(self) -> None:
        """Closes every provider."""
        for provider in self._providers.values():
            await provider.aclose()

    def _provider(self, name: str) -> Provider:
        """Raises Misconfigured."""
        provider = self._providers.get(name or self._default)
        if provider is None:
            known = ", ".join(f"`{each}`" for each in sorted(self._providers))
            raise Misconfigured(
                f"the search provider `{name[:64]}` is not configured on this server; there are {known}"
            )
        return provider

    async def _with_pages(self, found: list[Found], deadline_s: float) -> list[Found]:
        """The same, the first ones with what their pages say. Whatever goes wrong with a page is left at that."""
        left_s = deadline_s - LAST_S - asyncio.get_running_loop().time()
        urls = [each.url for each in found[: self._pages]]
        if self._reading is None or not urls or left_s <= 0:
            return found
        try:
            read = await self._reading.read(urls, left_s)
        except ArkwayError as error:
            log.warning("pages of a search could not be read: %s", error.message)
            return found
        return [enriched(each, read[each.url]) if each.url in read else each for each in found]


def enriched(found: Found, read: Read) -> Found:
    """What the finder told goes before what the page says of itself; the page's text goes before the finder's."""
    head = read.head
    return msgspec.structs.replace(
        found,
        text=read.text or found.text or head.description,
        summary=found.summary or head.description or read.text,
        title=found.title or head.title,
        site_name=found.site_name or head.site_name,
        logo_url=found.logo_url or head.logo_url,
        mobile_url=found.mobile_url or head.mobile_url,
        publish_time=found.publish_time or head.publish_time,
        cover=found.cover or head.cover,
    )


def _findings(provider: str, query: str, found: list[Found]) -> Findings:
    snippets = tuple(snippet(each, idx) for idx, each in enumerate(found))
    shown = [{"url": each.reference.url, "title": each.reference.title} for each in snippets]
    return Findings(snippets=snippets, count=1, output={"provider": provider, "query": query, "results": shown})
