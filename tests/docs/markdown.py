"""Just enough Markdown for the tests of the documentation: fenced blocks, headings, links, prose."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from scripts.generate_docs import ROOT, documents

FENCE = re.compile(r"(?:<!-- (runs|compiles|shown) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class Block(msgspec.Struct, frozen=True):
    """A fenced block. ``mark`` is what stands before it: ``runs``, ``compiles``, ``shown`` or nothing."""

    path: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks_of(path: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    text = text_of(path)
    return [
        Block(path, text.count("\n", 0, found.start()) + 1, found[1] or "", found[2], found[3])
        for found in FENCE.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Every block of these languages in all documents."""
    return [block for path in documents() for block in blocks_of(path) if block.language in languages]


def prose_of(path: Path) -> str:
    """The document without its fenced blocks."""
    return FENCE.sub("", text_of(path))


def anchors_of(path: Path) -> set[str]:
    """What headings can be linked to by, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose_of(path)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while (name := slug if not count else f"{slug}-{count}") in found:
            count += 1
        found.add(name)
    return found
