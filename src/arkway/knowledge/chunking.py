"""A parsed document cut into chunks: never across headings, at ends of sentences, with tables and code kept together.

Chunks are filled one after the other. So that an insertion changes only the chunks around it, and not every one up to
the next heading, a chunk that is well filled also ends before a sentence whose checksum says so: behind an insertion
the cuts fall on the same sentences again after a few chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from arkway.core.knowledge import Chunk
from arkway.knowledge.blocks import Block, blocks
from arkway.knowledge.identity import chunk_ids
from arkway.knowledge.parsing.parsed import Parsed
from arkway.knowledge.sentences import cut, lines, sentences

CHUNK_LIMIT: Final = 500
LEAST_LIMIT: Final = 50
_CUT_ONE_IN: Final = 8

Piece = tuple[tuple[str, ...], str]


class Unit(msgspec.Struct, frozen=True):
    """What is not cut any further. ``glue`` stands between it and the unit before it in the same chunk. ``header`` is
    the head of the table it is a row of: a chunk that begins with such a row begins with the head."""

    text: str
    glue: str = ""
    header: str = ""


def chunk(parsed: Parsed, document_id: str, limit: int = CHUNK_LIMIT) -> list[Chunk]:
    """The chunks of a document in order, each of at most ``limit`` characters (``LEAST_LIMIT`` or more).

    ``path`` of each is the document's title and the headings above it. A heading with nothing below it is a chunk.
    """
    if limit < LEAST_LIMIT:
        raise ValueError(f"chunks cannot be limited to less than {LEAST_LIMIT} characters")
    pieces = list(_pieces(parsed, limit))
    return [
        Chunk(id=identity, document_id=document_id, ordinal=ordinal, text=text, path=path)
        for ordinal, (identity, (path, text)) in enumerate(zip(chunk_ids(document_id, pieces), pieces, strict=True))
    ]


def _pieces(parsed: Parsed, limit: int) -> Iterator[Piece]:
    for path, section in _sections(parsed):
        units = [unit for block in section for unit in _units(block, limit)]
        for text in _packed(units, limit):
            yield path, text


def _sections(parsed: Parsed) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """What stands between two headings, with the path there. A heading without text or headings below stands for it."""
    open_headings: list[Block] = []
    section: list[Block] = []
    for block in blocks(parsed.markdown):
        if block.kind != "heading":
            section.append(block)
            continue
        if section or _is_bare(open_headings, block.level):
            yield _path(parsed.title, open_headings), section or [Block("prose", open_headings[-1].text)]
        open_headings = [above for above in open_headings if above.level < block.level] + [block]
        section = []
    if section or open_headings:
        yield _path(parsed.title, open_headings), section or [Block("prose", open_headings[-1].text)]


def _is_bare(open_headings: list[Block], next_level: int) -> bool:
    return bool(open_headings) and next_level <= open_headings[-1].level


def _path(title: str, headings: list[Block]) -> tuple[str, ...]:
    texts = tuple(heading.text for heading in headings)
    return texts if texts[:1] == (title,) else (title, *texts)


def _units(block: Block, limit: int) -> Iterator[Unit]:
    if block.kind != "prose" and len(block.text) <= limit:
        yield Unit(block.text, "\n\n")
    elif block.kind == "table":
        yield from _rows(block.text, limit)
    elif block.kind == "code":
        yield from _listings(block.text, limit)
    else:
        yield from _spoken(block.text, limit)


def _spoken(text: str, limit: int) -> Iterator[Unit]:
    """The sentences of a paragraph."""
    glue = "\n\n"
    for line in lines(text):
        before = 0
        for start, end in sentences(line):
            if before:
                glue = line[before:start]
            yield from _fitting(line[start:end], glue, limit)
            before = end
        glue = "\n"


def _fitting(text: str, glue: str, limit: int) -> Iterator[Unit]:
    for part in cut(text, limit):
        yield Unit(part, glue)
        glue = " " if part[-1:].isascii() else ""


def _rows(table: str, limit: int) -> Iterator[Unit]:
    """The rows of a table that is too long for one chunk. A head that leaves no room for rows is not repeated."""
    head, delimiter, *rows = table.split("\n")
    header = f"{head}\n{delimiter}"
    if len(header) > limit // 2:
        yield from _fitting(head, "\n\n", limit)
        header = ""
    elif not rows:
        yield Unit(header, "\n\n")
    for row in rows:
        if len(header) + 1 + len(row) <= limit:
            yield Unit(row, "\n", header)
        else:
            yield from _fitting(row, "\n", limit)


def _listings(code: str, limit: int) -> Iterator[Unit]:
    """A long piece of code as several, each between fences of its own."""
    opening, *body = code.split("\n")
    mark = opening.strip()[:1]
    fence = mark * (len(opening.strip()) - len(opening.strip().lstrip(mark)))
    if body and body[-1].strip() and not body[-1].strip().strip(mark) and len(body[-1].strip()) >= len(fence):
        body.pop()
    opening = opening if len(opening) + len(fence) + 2 <= limit // 2 else fence
    room = limit - len(opening) - len(fence) - 2
    if room < limit // 2:  # a fence as wide as a chunk
        yield from (unit for line in (opening, *body) for unit in _fitting(line, "\n", limit))
        return
    for part in _packed([Unit(bit, "\n") for line in body for bit in _slices(line, room)], room):
        yield Unit(f"{opening}\n{part}\n{fence}", "\n\n")


def _slices(line: str, size: int) -> Iterator[str]:
    yield line[:size]
    for start in range(size, len(line), size):
        yield line[start : start + size]


def _packed(units: list[Unit], limit: int) -> Iterator[str]:
    """Units put together as long as they fit."""
    text, header = "", ""
    for unit in units:
        glue = f"\n\n{unit.header}\n" if unit.header and unit.header != header else unit.glue
        if text and (len(text) + len(glue) + len(unit.text) > limit or _ends_before(unit, len(text), limit)):
            yield text
            text = ""
        if text:
            text += glue + unit.text
        else:
            text = f"{unit.header}\n{unit.text}" if unit.header else unit.text
        header = unit.header
    if text.strip():
        yield text


def _ends_before(unit: Unit, size: int, limit: int) -> bool:
    """Whether a chunk of this size ends before the unit though there is room: well filled, and one unit in eight."""
    return size * 5 >= limit * 3 and crc32(unit.text.encode("utf-8", "replace")) % _CUT_ONE_IN == 0
