"""What an HTML page says about itself: title, site, date, picture, other addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import msgspec

from arkway.core.reference import Cover
from arkway.search.cleaning import SUMMARY_MAX_CHARS, TITLE_MAX_CHARS, flat
from arkway.search.sites import web_url
from arkway.search.times import shown_time

HEAD_MAX_CHARS = 262_144
"""What is looked through of a page: heads are long, but not longer."""
LD_MAX_CHARS = 65_536
LD_DEPTH_MAX = 6

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset=[\"' ]*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_CHARSET_SAID = re.compile(r"charset=[\"' ]*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_DATES = (
    "article:published_time", "og:published_time", "datepublished", "publishdate", "pubdate", "publish_date",
    "publish-date", "publishtime", "weibo:article:create_at", "dc.date.issued", "dc.date", "dcterms.created", "date",
)  # fmt: skip


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses are absolute and of the web, or empty; the time is in the callers' form."""

    title: str = ""
    site_name: str = ""
    description: str = ""
    publish_time: str = ""
    canonical: str = ""
    logo_url: str = ""
    mobile_url: str = ""
    cover: Cover | None = None


def decoded_page(body: bytes, content_type: str = "") -> str:
    """HTML as text: by its byte order mark, what its server said, what it says itself; else UTF-8 or GB 18030."""
    said = _CHARSET_SAID.search(content_type)
    inside = _CHARSET.search(body[:4096])
    names = ["utf-8-sig"] if body.startswith(b"\xef\xbb\xbf") else []
    names += [said[1]] if said else []
    names += [inside[1].decode("ascii")] if inside else []
    for name in (*names, "utf-8", "gb18030"):
        try:
            # GB 2312 and GBK are what people call GB 18030, which holds both.
            return body.decode("gb18030" if name.lower() in ("gb2312", "gbk") else name)
        except (LookupError, UnicodeError, ValueError):
            continue
    return body.decode("utf-8", "replace")


def head_of(html: str, url: str) -> Head:
    """What the page that lies at ``url`` says about itself."""
    reader = _Reader()
    with suppress(AssertionError, ValueError):  # what its parser calls hopeless; what came before it counts
        reader.feed(html[:HEAD_MAX_CHARS])
    meta, links = reader.meta, reader.links
    title = meta.get("og:title") or reader.title or meta.get("title", "")
    return Head(
        title=flat(title, TITLE_MAX_CHARS),
        site_name=flat(meta.get("og:site_name") or meta.get("application-name", ""), TITLE_MAX_CHARS),
        description=flat(meta.get("og:description") or meta.get("description", ""), SUMMARY_MAX_CHARS),
        publish_time=_published(reader),
        canonical=_absolute(url, links.get("canonical") or meta.get("og:url", "")),
        logo_url=_absolute(url, links.get("icon") or links.get("apple-touch-icon", "")),
        mobile_url=_absolute(url, links.get("mobile") or links.get("amphtml", "")),
        cover=_cover(url, meta),
    )


class _Reader(HTMLParser):
    """Collects; the first one of each kind counts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.meta: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.times: list[str] = []
        self.linked_data: list[str] = []
        self.title = ""
        self._into: str = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}
        if tag == "meta":
            name = given.get("property") or given.get("name") or given.get("itemprop") or ""
            if given.get("content"):
                self.meta.setdefault(name.strip().lower(), given["content"])
        elif tag == "link":
            self._link(given)
        elif tag == "time" and given.get("datetime"):
            self.times.append(given["datetime"])
        elif tag == "title" and not self.title:
            self._into = "title"
        elif tag == "script" and "ld+json" in given.get("type", "").lower():
            self._into = "ld"
            self.linked_data.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("title", "script", "head"):
            self._into = ""

    def handle_data(self, data: str) -> None:
        if self._into == "title":
            self.title += data[:TITLE_MAX_CHARS]
        elif self._into == "ld" and len(self.linked_data[-1]) < LD_MAX_CHARS:
            self.linked_data[-1] += data

    def _link(self, given: dict[str, str]) -> None:
        if not given.get("href"):
            return
        for relation in given.get("rel", "").lower().split():
            handheld = relation == "alternate" and re.search(r"handheld|max-width", given.get("media", ""))
            self.links.setdefault("mobile" if handheld else relation, given["href"])


def _published(reader: _Reader) -> str:
    said = [reader.meta[name] for name in _DATES if name in reader.meta]
    for text in (*said, *_linked_dates(reader.linked_data), *reader.times[:1]):
        if time := shown_time(text):
            return time
    return ""


def _linked_dates(scripts: list[str]) -> Iterator[str]:
    """What JSON-LD says (schema.org's ``datePublished``)."""
    for script in scripts[:8]:
        try:
            value = msgspec.json.decode(script.strip().encode("utf-8", "replace"))
        except (msgspec.MsgspecError, RecursionError):
            continue
        yield from _dates_in(value, LD_DEPTH_MAX)


def _dates_in(value: Any, depth: int) -> Iterator[str]:
    if depth and isinstance(value, dict):
        if isinstance(date := value.get("datePublished"), str):
            yield date
        yield from _dates_in(value.get("@graph"), depth - 1)
    elif depth and isinstance(value, list):
        for each in value[:32]:
            yield from _dates_in(each, depth - 1)


def _cover(url: str, meta: dict[str, str]) -> Cover | None:
    picture = _absolute(url, meta.get("og:image") or meta.get("og:image:url") or meta.get("twitter:image", ""))
    if not picture:
        return None
    return Cover(picture, _pixels(meta.get("og:image:width", "")), _pixels(meta.get("og:image:height", "")))


def _pixels(text: str) -> int:
    digits = text.strip().removesuffix("px").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 7 else 0


def _absolute(url: str, link: str) -> str:
    try:
        return web_url(urljoin(url, link.strip())) if link.strip() else ""
    except ValueError:
        return ""
