"""PDF as Markdown: paragraphs put together from lines, with the outline's entries as headings where they point to."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from arkway.knowledge.blocks import literal
from arkway.knowledge.parsing.parsed import TITLE_LIMIT, Gathered, Limits, Parsed, Unreadable, broken, encrypted
from arkway.knowledge.parsing.text import clean, ordinary
from arkway.knowledge.sentences import ends_a_sentence, is_wide, unwrapped

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

_WHAT: Final = "a PDF"
_OUTLINE_DEPTH: Final = 6
_OUTLINE_LIMIT: Final = 20_000
_REPEATED_FROM_PAGES: Final = 4
_FULL_LINE: Final = 0.85
_LEFT_EARLY: Final = 0.6
_TITLE_LINES: Final = 3
_NUMBER_ONLY: Final = re.compile(r"[第章节篇部附录chapterapendixsection\d一二三四五六七八九十百.:：、]*")
_DIGITS: Final = re.compile(r"\d+")
_SPACE: Final = re.compile(r"\s+")
_NUMBERED: Final = re.compile(
    r"(?:[-•·●▪◦‣*]|\d{1,3}[.)、．]|[（(][\d一二三四五六七八九十]{1,3}[)）]|[一二三四五六七八九十]{1,3}、)\s*\S"
)
_HYPHENS: Final = "\x02\ufffe\xad"


class Entry(msgspec.Struct, frozen=True):
    """One entry of the outline."""

    level: int
    title: str
    page: int


def parse_pdf(body: bytes, stem: str, limits: Limits) -> Parsed:
    """The text of a PDF. Scanned pages have none. Raises Unreadable."""
    import pypdfium2

    if b"%PDF-" not in body[:1024]:
        raise broken(_WHAT, "no PDF header")
    try:
        with pypdfium2.PdfDocument(body) as document:
            return _parsed(document, stem, limits)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise encrypted("PDF") from None
        raise broken(_WHAT, repr(error)) from None


def _parsed(document: PdfDocument, stem: str, limits: Limits) -> Parsed:
    count = len(document)
    if count > limits.pages:
        raise Unreadable("too_much", f"the PDF has {count} pages, and {limits.pages} are the limit; split it")
    entries = _outline(document)
    pages = _lines_of_pages(document, limits)
    gathered = Gathered(limits)
    for block in _blocks(_without_furniture(pages), entries):
        gathered.add(block)
    fields = document.get_metadata_dict(skip_empty=True)
    author = " ".join(clean(fields.get("Author", "")).split())[:TITLE_LIMIT]
    title = " ".join(clean(fields.get("Title", "")).split())
    meta = {"pages": str(count)} | ({"author": author} if author else {})
    return Parsed(kind="pdf", title=title or stem, markdown=gathered.markdown(), meta=meta)


def _lines_of_pages(document: PdfDocument, limits: Limits) -> list[list[str]]:
    held = Gathered(limits)
    pages = []
    for page in document:
        text_page = page.get_textpage()
        text = _readable(text_page.get_text_bounded())
        text_page.close()
        page.close()
        held.add(text)
        pages.append([line.strip() for line in text.split("\n")])
    return pages


def _readable(text: str) -> str:
    """A page's text; words hyphenated at the end of a line are put together again."""
    for hyphen in _HYPHENS:
        text = text.replace(f"{hyphen}\r\n", "").replace(hyphen, "")
    return ordinary(clean(text))


def _outline(document: PdfDocument) -> dict[int, list[Entry]]:
    """The entries by page, in order. Those that point nowhere, or have no name, are left out."""
    by_page: dict[int, list[Entry]] = defaultdict(list)
    for number, bookmark in enumerate(document.get_toc(max_depth=_OUTLINE_DEPTH)):
        if number >= _OUTLINE_LIMIT:
            break
        target = bookmark.get_dest()
        page = target.get_index() if target is not None else None
        title = " ".join(ordinary(clean(bookmark.get_title())).split())[:TITLE_LIMIT]
        if title and page is not None:
            by_page[page].append(Entry(bookmark.level + 1, title, page))
    return by_page


def _without_furniture(pages: list[list[str]]) -> list[list[str]]:
    """The pages without their numbers and without the running heads and feet that most of them share."""
    edges = [[line for line in page if line] for page in pages]
    seen = Counter(key for page in edges for key in {_running(line) for line in (*page[:1], *page[-1:])})
    often = {key for key, times in seen.items() if len(pages) >= _REPEATED_FROM_PAGES and times * 2 > len(pages)}
    often.add("")  # a page's number alone
    return [_trimmed(page, often) for page in edges]


def _running(line: str) -> str:
    """The line without what changes from page to page."""
    return _SPACE.sub("", _DIGITS.sub("", line)).strip("-–—·|/第页")


def _trimmed(page: list[str], often: set[str]) -> list[str]:
    start = 1 if page and _running(page[0]) in often else 0
    end = len(page) - 1 if len(page) > start and _running(page[-1]) in often else len(page)
    return page[start:end]


def _blocks(pages: list[list[str]], outline: dict[int, list[Entry]]) -> Iterator[str]:
    """Headings and paragraphs. A paragraph goes on over the end of a page."""
    held: list[str] = []
    for number, page in enumerate(pages):
        full = _full_width(page)
        for item in _with_headings(page, outline.get(number, [])):
            if isinstance(item, Entry):
                yield literal(unwrapped(held))
                yield f"{'#' * item.level} {item.title}"
                held = []
            else:
                if held and _begins(held[-1], item, full):
                    yield literal(unwrapped(held))
                    held = []
                held.append(item)
    yield literal(unwrapped(held))


def _with_headings(page: list[str], entries: list[Entry]) -> Iterator[str | Entry]:
    """The page's lines with each entry in the place of the line that says the same, else where the one before ends."""
    keys = [_key(line) for line in page]
    at = 0
    for entry in entries:
        found, lines = _place(keys, at, _key(entry.title))
        if lines:
            yield from page[at:found]
            at = found + lines
        yield entry
    yield from page[at:]


def _place(keys: list[str], start: int, title: str) -> tuple[int, int]:
    """Where a title stands and how many lines it takes; 0 lines = nowhere. A number before it may be missing."""
    for at in range(start, len(keys)):
        if not keys[at] or not (title.startswith(keys[at]) or keys[at].endswith(title)):
            continue
        if keys[at] == title or _NUMBER_ONLY.fullmatch(keys[at].removesuffix(title)):
            return at, 1
        for lines in range(2, _TITLE_LINES + 1):
            if "".join(keys[at : at + lines]) == title:
                return at, lines
    return start, 0


def _key(line: str) -> str:
    return _SPACE.sub("", line).casefold()


def _full_width(page: list[str]) -> int:
    """How long the page's long lines are."""
    widths = sorted(map(_width, page))
    return widths[len(widths) * 9 // 10] if widths else 0


def _width(line: str) -> int:
    return len(line) + sum(map(is_wide, line))


def _begins(before: str, line: str, full: int) -> bool:
    """Whether a line begins a paragraph: the line before it was left early, or it is an item of a list."""
    width = _width(before)
    left_early = width < full * _LEFT_EARLY or (width < full * _FULL_LINE and ends_a_sentence(before))
    return left_early or _NUMBERED.match(line) is not None
