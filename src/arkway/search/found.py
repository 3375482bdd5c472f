"""What a search finds, whoever made it, and what makes searches."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from arkway.core.bot import Quest, Snippet
from arkway.core.reference import Cover, Reference
from arkway.search.cleaning import SUMMARY_MAX_CHARS, TEXT_MAX_CHARS, TITLE_MAX_CHARS, flat, lines
from arkway.search.sites import favicon_of, site_of, web_url

SITE_NAME_MAX_CHARS = 100


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One page, as its finder tells of it: untrusted, and empty where it does not tell.

    ``text`` is for the model and may have lines; ``summary`` is for people. ``publish_time`` is in the callers' form
    (`arkway.search.times`).
    """

    url: str
    title: str = ""
    text: str = ""
    summary: str = ""
    site_name: str = ""
    logo_url: str = ""
    mobile_url: str = ""
    publish_time: str = ""
    freshness_info: str = ""
    cover: Cover | None = None
    extra: dict[str, Any] = {}


class Provider(Protocol):
    """Something that searches. ``on_the_web``: its pages lie where they say and could be fetched for more of them."""

    name: str
    on_the_web: bool

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """At most about ``limit`` pages, best first. Raises errors of the tree."""
        ...

    async def aclose(self) -> None: ...


def snippet(found: Found, idx: int) -> Snippet:
    """As bots take it: every field in its form, and what is not known made up from the address."""
    reference = Reference(
        idx=idx,
        url=found.url,
        logo_url=web_url(found.logo_url) or favicon_of(found.url),
        mobile_url=web_url(found.mobile_url) or found.url,
        site_name=flat(found.site_name, SITE_NAME_MAX_CHARS) or site_of(found.url),
        title=flat(found.title, TITLE_MAX_CHARS),
        summary=flat(found.summary or found.text, SUMMARY_MAX_CHARS),
        publish_time=found.publish_time,
        freshness_info=flat(found.freshness_info, SITE_NAME_MAX_CHARS),
        cover=cover_of(found.cover),
        extra=found.extra,
    )
    return Snippet(lines(found.text or found.summary, TEXT_MAX_CHARS), reference)


def cover_of(cover: Cover | None) -> Cover | None:
    """The picture, if its address is one of the web; a size that is none becomes 0."""
    if cover is None or not web_url(cover.url):
        return None
    return Cover(cover.url, max(0, cover.width), max(0, cover.height))


def usable(found: list[Found], limit: int) -> list[Found]:
    """Those with an address of the web, each address once, at most ``limit``."""
    first: dict[str, Found] = {}
    for each in found:
        if web_url(each.url):
            first.setdefault(each.url, each)
    return list(first.values())[:limit]
