"""HTML as Markdown: headings, lists, tables and code; no links, pictures or scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from arkway.knowledge.parsing.parsed import Limits, Parsed, too_much_text
from arkway.knowledge.parsing.text import clean, decoded

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

_LEFT_OUT: Final = ("script", "style", "noscript", "template", "svg", "iframe", "object", "nav", "head", "title")
_ONLY_TEXT: Final = ["a", "img", "b", "strong", "i", "em", "u", "s", "del", "sub", "sup", "font", "video"]
_LOOK_BACK: Final = 64
_BLOCKS: Final = (
    "address article aside blockquote center details div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr "
    "main menu nav ol p pre section table ul"
)
# Element -> (which open elements it ends, where to stop looking for one).
_ENDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    **dict.fromkeys(_BLOCKS.split(), (("p",), ("table", "td", "th", "caption", "button", "object"))),
    **dict.fromkeys(("td", "th"), (("td", "th"), ("tr", "table"))),
    **dict.fromkeys(("dt", "dd"), (("dt", "dd"), ("dl",))),
    **dict.fromkeys(("thead", "tbody", "tfoot"), (("thead", "tbody", "tfoot"), ("table",))),
    "tr": (("tr",), ("table",)),
    "li": (("li",), ("ul", "ol", "menu")),
    "option": (("option",), ("select",)),
}
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_LINE_ENDING_SPACE: Final = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)


def parse_html(body: bytes, stem: str, limits: Limits) -> Parsed:
    """A web page. The title is that of the page, the site's part of it included."""
    text, encoding = decoded(body, limits)
    title, markdown = markdown_of(text, limits)
    return Parsed(kind="html", title=title or stem, markdown=markdown, meta={"encoding": encoding})


def markdown_of(html: str, limits: Limits) -> tuple[str, str]:
    """(what ``<title>`` says, the page as Markdown). Raises Unreadable for more text than allowed."""
    from markdownify import MarkdownConverter

    soup = _page(html)
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for element in soup.find_all(_LEFT_OUT):
        element.decompose()
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=_ONLY_TEXT,
        escape_asterisks=False,
        escape_underscores=False,
        table_infer_header=True,
        newline_style="SPACES",
    )
    markdown: str = converter.convert_soup(soup)
    markdown = _tidy(markdown)
    if len(markdown.encode("utf-8", "replace")) > limits.text_bytes:
        raise too_much_text(limits)
    return title, markdown


def _page(html: str) -> BeautifulSoup:
    """The page as a tree. Elements whose end may be left out (HTML, section 13.1.2.4) end where the next one begins;
    the parser alone would put each into the one before it."""
    from bs4 import BeautifulSoup

    class Page(BeautifulSoup):
        def handle_starttag(self, name: str, *rest: Any, **named: Any) -> Any:
            ended, outermost = _ENDS.get(name, ((), ()))
            for tag in reversed(self.tagStack[-_LOOK_BACK:] if ended else ()):
                if tag.name in outermost:
                    break
                if tag.name in ended:
                    self.handle_endtag(tag.name)
                    break
            return super().handle_starttag(name, *rest, **named)

    return Page(html, "html.parser")


def _tidy(markdown: str) -> str:
    markdown = _LINE_ENDING_SPACE.sub("", clean(markdown).replace("\xa0", " "))
    return _BLANK_LINES.sub("\n\n", markdown).strip("\n")
