"""kiwix-serve, which serves whole sites as ZIM files: ``/search?…&format=xml``, and ``/suggest`` for titles.

Only over HTTP: the library behind it is under the GPL. https://kiwix-tools.readthedocs.io/en/latest/kiwix-serve.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from arkway.core.bot import Quest
from arkway.core.errors import BackendFailed
from arkway.search.asking import Service, decoded, each_decoded
from arkway.search.found import Found

RESULTS_MAX = 140
DEPTH_MAX = 4
TEXT_MAX_CHARS = 16_384
"""Of one field of a result; pieces that come when it has as many are left out."""


class _Suggestion(msgspec.Struct):
    """``kind`` is ``path`` for a page and ``pattern`` for the offer to search the text."""

    value: str
    kind: str = ""
    path: str = ""


class Kiwix:
    """Implements `arkway.search.found.Provider`.

    ``books``: names of ZIM files, all of one language. ``public_url``: where users reach the same server; the one that
    is asked, unless given.
    """

    name = "kiwix"
    on_the_web = False

    def __init__(self, service: Service, books: Sequence[str], public_url: str = "") -> None:
        self._service = service
        self._books = tuple(books)
        self._public_url = (public_url or service.base_url).rstrip("/")
        self._root = urlsplit(service.base_url).path

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """By the text, and by the titles of the first book where no text has it.

        A book without an index of its text, or that is not there, is a 404.
        """
        books = [("books.name", book) for book in self._books]
        asked = (*books, ("pattern", query), ("format", "xml"), ("pageLength", str(min(limit, RESULTS_MAX))))
        body = await self._service.find("/search", asked)
        # In a thread: a parser in Python takes a second for as much as a server may send.
        found = await asyncio.to_thread(self._results, body) if body is not None else []
        return found[:limit] or await self._suggestions(query, limit)

    async def aclose(self) -> None:
        await self._service.aclose()

    def _results(self, body: bytes) -> list[Found]:
        feed = _Feed()
        try:
            # Not closed: nothing is wanted of what has no end, and to look for it takes time without measure.
            feed.feed(body.decode())
        except (UnicodeError, AssertionError, ValueError):
            raise BackendFailed(f"`{self.name}` answers with something else than it should") from None
        if not feed.is_one:
            raise BackendFailed(f"`{self.name}` answers with something else than a list of results")
        return [
            Found(url=self._address(link), title=title, summary=text.strip(". "), site_name=book)
            for title, link, text, book in feed.items
        ]

    async def _suggestions(self, query: str, limit: int) -> list[Found]:
        if not self._books:
            return []
        book = self._books[0]
        asked = (("content", book), ("term", query), ("count", str(limit)))
        body = await self._service.find("/suggest", asked)
        entries = decoded(self.name, body, list[msgspec.Raw]) if body is not None else []
        suggested = each_decoded(self.name, entries, _Suggestion)
        return [
            Found(url=self._address(f"{self._root}/{quote(book)}/{quote(each.path)}"), title=each.value, site_name=book)
            for each in suggested
            if each.kind == "path" and each.path
        ]

    def _address(self, link: str) -> str:
        """Where users find what the server names by its path, which begins with the server's own root."""
        link = link.strip()
        if not link.startswith("/") or link.startswith("//"):
            return urljoin(f"{self._public_url}/", link)
        return self._public_url + (link.removeprefix(self._root) if self._root else link)


class _Feed(HTMLParser):
    """Reads the RSS of results. Not as XML: snippets hold markup, entities of a document are never wanted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.items: list[tuple[str, str, str, str]] = []
        self.is_one = False
        self._path: list[str] = []
        self._texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_one |= tag == "rss"
        if tag == "item":
            self._path, self._texts = [], {}
        elif tag in ("title", "link", "description", "book") and len(self._path) < DEPTH_MAX:
            self._path.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "item":
            texts = [self._texts.get(name, "").strip() for name in ("title", "link", "description", "book.title")]
            self.items.append((texts[0], texts[1], texts[2], texts[3]))
        elif self._path and self._path[-1] == tag:
            self._path.pop()

    def handle_data(self, data: str) -> None:
        name = ".".join(self._path)
        text = self._texts.get(name, "")
        if name and len(text) <= TEXT_MAX_CHARS:
            self._texts[name] = text + data
