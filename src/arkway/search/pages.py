"""Pages that were crawled before, read from the disk: what a collection of the kind ``pages`` is filled with.

Three forms: a tree of HTML and Markdown files with the address that it was crawled from (``wget --mirror``, a site's
build), such a tree with the ``sitemap.xml`` of the site, and JSON Lines with one page a line. Nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import msgspec

from arkway.core.errors import Misconfigured
from arkway.core.reference import Cover
from arkway.search.cleaning import SUMMARY_MAX_CHARS, TITLE_MAX_CHARS, flat
from arkway.search.page_head import Head, decoded_page, head_of
from arkway.search.sites import URL_MAX_CHARS, favicon_of, host_of, site_of, web_url
from arkway.search.times import shown_time

PAGE_MAX_BYTES = 5_242_880
SITEMAP_MAX_BYTES = 52_428_800  # what sitemaps.org allows

_HTML = (".html", ".htm", ".xhtml")
_MARKDOWN = (".md", ".markdown")
_LINES = (".jsonl", ".ndjson")
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
# What is around a value is stripped afterwards: to match it takes time without measure on lines that anybody made.
_FIELD = re.compile(r"^([A-Za-z_][\w-]*)[ \t]*:(.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#[ \t]+(\S.*)$", re.MULTILINE)
_IN_A_PATH = "/~!$&'()*+,;=:@-._?%"

Skip = Callable[[str, str], None]
"""Told of what is left out: its name, and why."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page to be taken in.

    ``source`` is its address, and what replaces it later. ``file_name`` has the extension that says how ``body`` is
    read (``.html``, ``.md``). ``meta`` is that of `arkway.core.knowledge.Document`, without what is not known.
    """

    source: str
    file_name: str
    body: bytes
    title: str = ""
    meta: dict[str, str] = {}


def read_pages(
    source: Path, base_url: str = "", *, sitemap: Path | None = None, skipped: Skip | None = None
) -> Iterator[Page]:
    """The pages of a directory or of a file of JSON Lines, in the order of their names or lines.

    ``base_url`` is the address of the directory itself; without it only pages that name their own are taken. With a
    ``sitemap`` only the pages that it lists. Raises Misconfigured for what cannot be read at all.
    """
    if base_url and not web_url(base_url):
        raise Misconfigured(
            f"`{base_url[:200]}` is no address of the web; give one such as `https://docs.example.com/`"
        )
    told = skipped or _unheard
    if source.is_dir():
        return _from_tree(source, base_url, _listed(sitemap) if sitemap else None, told)
    if source.suffix.lower() in _LINES and source.is_file():
        return _from_lines(source, told)
    raise Misconfigured(f"`{source}` is neither a directory of pages nor a file of JSON Lines (.jsonl)")


def read_sitemap(path: Path) -> dict[str, str]:
    """The addresses of a ``sitemap.xml`` and when each was last changed, "" where it does not say.

    Raises Misconfigured.
    """
    return _listed(path)


def _unheard(*_: str) -> None:
    """Nobody wants to know what is left out."""


# Trees


def _from_tree(root: Path, base_url: str, listed: dict[str, str] | None, skipped: Skip) -> Iterator[Page]:
    wanted = {_same(url): (url, changed) for url, changed in listed.items()} if listed is not None else None
    inside = root.resolve()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() not in _HTML + _MARKDOWN or any(part.startswith(".") for part in Path(name).parts):
            continue
        body = _body(path, inside)
        if body is None:
            skipped(name, "it cannot be read, leads out of the directory, or is larger than 5 MiB")
            continue
        page = _page(name, body, _address(base_url, name))
        if page is None:
            skipped(name, "it has no address: give the one that the directory was crawled from")
        elif wanted is None:
            yield page
        elif _same(page.source) in wanted:
            yield _as_listed(page, *wanted[_same(page.source)])
        else:
            skipped(name, "the sitemap does not list it")


def _body(path: Path, inside: Path) -> bytes | None:
    try:
        there = path.resolve()
        if not there.is_relative_to(inside) or not there.is_file() or there.stat().st_size > PAGE_MAX_BYTES:
            return None
        return there.read_bytes()
    except OSError:
        return None


def _address(base_url: str, name: str) -> str:
    """Where a file of the tree lies in the web: a directory's index is the directory."""
    if not base_url:
        return ""
    path = PurePosixPath(name)
    if path.name.lower() in ("index.html", "index.htm", "index.md"):
        name = f"{path.parent}/" if path.parent != PurePosixPath() else ""
    return f"{base_url.rstrip('/')}/{quote(name, safe=_IN_A_PATH)}"


def _same(url: str) -> str:
    """Addresses that mean one page to a sitemap and to a tree of files, alike."""
    parts = urlsplit(url)
    path = re.sub(r"(?:/index)?\.(?:html?|xhtml|md|markdown)$", "", unquote(parts.path)).rstrip("/")
    return f"{parts.netloc.lower()}{path}?{parts.query}"


def _as_listed(page: Page, url: str, changed: str) -> Page:
    """Under the address that the sitemap has, and with its time where the page itself does not say one."""
    meta = {**page.meta, "url": url}
    if changed:
        meta.setdefault("publish_time", changed)
    return msgspec.structs.replace(page, source=url, meta=meta)


# Pages


def _page(name: str, body: bytes, url: str) -> Page | None:
    """None for one without an address."""
    text = decoded_page(body)
    is_html = Path(name).suffix.lower() in _HTML
    head = head_of(text, url) if is_html else _markdown_head(text)
    # A page may name its own address, but none of somebody else.
    own = head.canonical if not url or site_of(head.canonical) == site_of(url) else ""
    source = own or url
    if not web_url(source):
        return None
    return Page(
        source=source, file_name=PurePosixPath(name).name, body=body, title=head.title, meta=_meta(source, head)
    )


def _meta(url: str, head: Head) -> dict[str, str]:
    """The fields of a document's ``meta``, without the empty ones."""
    cover = head.cover or Cover()
    fields = {
        "url": url,
        "site_name": head.site_name or site_of(url),
        "publish_time": head.publish_time,
        "summary": head.description,
        "logo_url": head.logo_url or favicon_of(url),
        "mobile_url": head.mobile_url,
        "cover_url": cover.url,
        "cover_width": str(cover.width or ""),
        "cover_height": str(cover.height or ""),
    }
    return {name: value for name, value in fields.items() if value}


def _markdown_head(text: str) -> Head:
    """From the front matter, and the first heading."""
    front = _FRONT.match(text)
    said = {key.lower(): value.strip(" \t").strip("\"'") for key, value in _FIELD.findall(front[1])} if front else {}
    heading = _HEADING.search(text)
    return Head(
        title=flat(said.get("title") or (heading[1].rstrip(" \t#") if heading else ""), TITLE_MAX_CHARS),
        site_name=flat(said.get("site_name", ""), TITLE_MAX_CHARS),
        description=flat(said.get("description") or said.get("summary", ""), SUMMARY_MAX_CHARS),
        publish_time=shown_time(said.get("date") or said.get("publish_time") or said.get("published")),
        canonical=web_url(said.get("url") or said.get("canonical", "")),
        cover=Cover(said["image"]) if web_url(said.get("image", "")) else None,
    )


# JSON Lines


class _Line(msgspec.Struct):
    """``html`` or ``markdown`` is the page; what else is given goes before what the page says of itself."""

    url: str
    html: str | None = None
    markdown: str | None = None
    title: str | None = None
    site_name: str | None = None
    publish_time: str | None = None
    summary: str | None = None


def _from_lines(path: Path, skipped: Skip) -> Iterator[Page]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                page = _from_line(line)
                if page is None:
                    skipped(
                        f"line {number}", "it is no JSON object with an `url` and `html` or `markdown`, or too large"
                    )
                else:
                    yield page
    except OSError as error:
        raise Misconfigured(f"cannot read the pages {path}: {error.strerror}") from None


def _from_line(line: bytes) -> Page | None:
    try:
        given = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    markup = given.html or given.markdown or ""
    body = markup.encode("utf-8", "replace")
    if not web_url(given.url) or not body or len(body) > PAGE_MAX_BYTES:
        return None
    head = head_of(markup, given.url) if given.html else _markdown_head(markup)
    head = msgspec.structs.replace(
        head,
        title=flat(given.title or "", TITLE_MAX_CHARS) or head.title,
        site_name=flat(given.site_name or "", TITLE_MAX_CHARS) or head.site_name,
        publish_time=shown_time(given.publish_time) or head.publish_time,
        description=flat(given.summary or "", SUMMARY_MAX_CHARS) or head.description,
    )
    stem = PurePosixPath(unquote(urlsplit(given.url).path)).stem or host_of(given.url)
    file_name = f"{stem[:100]}.{'html' if given.html else 'md'}"
    return Page(source=given.url, file_name=file_name, body=body, title=head.title, meta=_meta(given.url, head))


# Sitemaps


class _Sitemap(HTMLParser):
    """Reads ``url`` elements of a sitemap. Not as XML: no entity of a stranger's document is ever expanded."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.listed: dict[str, str] = {}
        self._into = ""
        self._texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "url":
            self._texts = {}
        self._into = tag if tag in ("loc", "lastmod") else ""

    def handle_endtag(self, tag: str) -> None:
        url = self._texts.get("loc", "").strip()
        if tag == "url" and web_url(url):
            self.listed[url] = shown_time(self._texts.get("lastmod"))
        self._into = ""

    def handle_data(self, data: str) -> None:
        text = self._texts.get(self._into, "")
        if self._into and len(text) <= URL_MAX_CHARS:  # of what is longer, nothing comes
            self._texts[self._into] = text + data

    def unknown_decl(self, data: str) -> None:
        if data.startswith("CDATA["):
            self.handle_data(data.removeprefix("CDATA["))


def _listed(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > SITEMAP_MAX_BYTES:
            raise Misconfigured(f"the sitemap {path} is larger than {SITEMAP_MAX_BYTES} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Misconfigured(f"cannot read the sitemap {path}: {error.strerror}") from None
    except UnicodeError:
        raise Misconfigured(f"the sitemap {path} is not UTF-8") from None
    sitemap = _Sitemap()
    sitemap.feed(text)
    if not sitemap.listed:
        raise Misconfigured(f"the sitemap {path} lists no page (a list of sitemaps is not followed)")
    return sitemap.listed
