"""PPTX as Markdown: a heading per slide, its text and tables, and the speaker's notes."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from arkway.knowledge.blocks import literal
from arkway.knowledge.parsing.archive import checked_archive, read_member
from arkway.knowledge.parsing.parsed import TITLE_LIMIT, Gathered, Limits, Parsed, Unreadable, broken
from arkway.knowledge.parsing.tables import table
from arkway.knowledge.parsing.text import clean
from arkway.knowledge.parsing.word import properties

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_WHAT: Final = "a presentation (.pptx)"
_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P: Final = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_SHOW: Final = "ppt/presentation.xml"
_TITLES: Final = ("title", "ctrTitle")
_NOT_TEXT: Final = ("sldNum", "dt", "ftr", "hdr")


def parse_pptx(body: bytes, stem: str, limits: Limits) -> Parsed:
    """A presentation. Raises Unreadable."""
    archive = checked_archive(body, _WHAT, limits)
    names = _slide_names(archive)
    if len(names) > limits.pages:
        message = f"the presentation has {len(names)} slides, and {limits.pages} are the limit; split it"
        raise Unreadable("too_much", message)
    gathered = Gathered(limits)
    for number, name in enumerate(names, 1):
        for block in _slide(archive, name, number):
            gathered.add(block)
    title, author = properties(archive)
    meta = {"slides": str(len(names))} | ({"author": author} if author else {})
    return Parsed(kind="pptx", title=title or stem, markdown=gathered.markdown(), meta=meta)


def _xml(archive: zipfile.ZipFile, name: str) -> Element | None:
    from defusedxml.ElementTree import fromstring

    content = read_member(archive, name)
    root: Element | None = fromstring(content, forbid_dtd=True) if content else None
    return root


def _slide_names(archive: zipfile.ZipFile) -> list[str]:
    """The members that are slides, in the order they are shown."""
    show = _xml(archive, _SHOW)
    if show is None:
        raise broken(_WHAT, "no presentation part")
    targets = dict(_relations(archive, _SHOW))
    shown = (targets.get(slide.get(f"{_R}id", ""), ("", ""))[1] for slide in show.iter(f"{_P}sldId"))
    return [name for name in shown if name]


def _relations(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """(id, (kind, member)) of what a part refers to inside the file."""
    folder, base = posixpath.split(name)
    root = _xml(archive, f"{folder}/_rels/{base}.rels")
    for relation in root if root is not None else ():
        if relation.get("TargetMode") != "External":
            member = posixpath.normpath(posixpath.join(folder, relation.get("Target", ""))).lstrip("/")
            yield relation.get("Id", ""), (relation.get("Type", "").rpartition("/")[2], member)


def _slide(archive: zipfile.ZipFile, name: str, number: int) -> Iterator[str]:
    root = _xml(archive, name)
    if root is None:
        raise broken(_WHAT, "a slide is missing")
    texts = list(_texts(root))
    titles = [" ".join(text.split())[:TITLE_LIMIT] for role, text in texts if role in _TITLES]
    yield f"## {titles[0] if titles else f'Slide {number}'}"
    yield from (text for role, text in texts if role not in _TITLES or len(text) > TITLE_LIMIT)
    for kind, member in dict(_relations(archive, name)).values():
        notes = _xml(archive, member) if kind == "notesSlide" else None
        if notes is not None:
            yield from (text for role, text in _texts(notes) if role == "body")


def _texts(root: Element) -> Iterator[tuple[str, str]]:
    """(role, text) of the shapes and tables, in the order of the file."""
    for element in root.iter():
        if element.tag == f"{_P}sp":
            role, text = _role(element), literal("\n".join(_paragraphs(element)))
            if text and role not in _NOT_TEXT:
                yield role, text
        elif element.tag == f"{_A}tbl":
            rows = [[" ".join(_paragraphs(cell)) for cell in row.iter(f"{_A}tc")] for row in element.iter(f"{_A}tr")]
            yield "", table(rows)


def _role(shape: Element) -> str:
    """What the layout has the shape for: ``title``, ``body``, ``sldNum`` …; "" = a text box."""
    place = next(shape.iter(f"{_P}ph"), None)
    return "" if place is None else place.get("type", "body")


def _paragraphs(element: Element) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        runs = ("\n" if run.tag == f"{_A}br" else run.text or "" for run in paragraph.iter() if run.tag in _RUNS)
        if text := clean("".join(runs)).strip():
            yield text


_RUNS: Final = (f"{_A}t", f"{_A}br")
