"""DOCX as Markdown, by way of HTML: headings, lists, tables, footnotes; no pictures."""

from __future__ import annotations

import io
import zipfile
from typing import Final

from arkway.knowledge.parsing.archive import checked_archive, read_member
from arkway.knowledge.parsing.parsed import Limits, Parsed, broken
from arkway.knowledge.parsing.web import markdown_of

_WHAT: Final = "a Word document (.docx)"
_DUBLIN: Final = "{http://purl.org/dc/elements/1.1/}"
_STYLES: Final = "\n".join(
    ["p[style-name='Title'] => title:fresh", "p[style-name='标题'] => title:fresh"]
    + [f"p[style-name='标题 {level}'] => h{level}:fresh" for level in range(1, 7)]
)


def parse_docx(body: bytes, stem: str, limits: Limits) -> Parsed:
    """A Word document. Raises Unreadable."""
    import mammoth

    archive = checked_archive(body, _WHAT, limits)
    if "word/document.xml" not in archive.namelist() and "_rels/.rels" not in archive.namelist():
        raise broken(_WHAT, "no main part")
    no_pictures = mammoth.images.img_element(lambda _: {})
    html = mammoth.convert_to_html(
        io.BytesIO(body), convert_image=no_pictures, style_map=_STYLES, include_embedded_style_map=False
    ).value
    title, author = properties(archive)
    styled, markdown = markdown_of(html, limits)
    if styled:
        markdown = f"# {styled}\n\n{markdown}"
    return Parsed(
        kind="docx", title=styled or title or stem, markdown=markdown, meta={"author": author} if author else {}
    )


def properties(archive: zipfile.ZipFile) -> tuple[str, str]:
    """(title, author) as the file gives them; "" for what it does not give."""
    from defusedxml.ElementTree import fromstring

    content = read_member(archive, "docProps/core.xml")
    if not content:
        return "", ""
    root = fromstring(content, forbid_dtd=True)
    title, author = (root.findtext(f"{_DUBLIN}{name}") or "" for name in ("title", "creator"))
    return " ".join(title.split()), " ".join(author.split())
