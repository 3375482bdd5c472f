"""Markdown as a row of blocks: headings, tables, code and prose. Line by line, in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

BlockKind = Literal["heading", "table", "code", "prose"]

HEADING_LIMIT: Final = 200
_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_CLOSING: Final = re.compile(r"(?:^|[ \t]+)#+$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")
_RULE: Final = re.compile(r" {0,3}([-*_=])(?:[ \t]*\1){2,}[ \t]*")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*")
_DELIMITER: Final = re.compile(r":?-+:?")
_ESCAPED: Final = re.compile(r"^([ \t]*)\\(?=[#|`~=>*+_:\-\\])", re.MULTILINE)
_MARKER: Final = re.compile(
    r"^([ \t]*)(?=#{1,6}(?:[ \t]|$)|`{3}|~{3}|\||[=\-_*][=\-_* \t]*$|[:-][-:| \t]*$|\\)", re.MULTILINE
)
_MARKED_LIMIT: Final = 1_000  # no heading is longer than this, however much white space it has


class Block(msgspec.Struct, frozen=True):
    """``level`` is a heading's, 1 to 6, else 0. ``text``: a heading's title, or the block as it is written."""

    kind: BlockKind
    text: str
    level: int = 0


def literal(text: str) -> str:
    """Text that happens to look like Markdown at the start of a line, written so that it is taken for text."""
    return _MARKER.sub(r"\1\\", text)


def plain(text: str) -> str:
    """The reverse of ``literal``."""
    return _ESCAPED.sub(r"\1", text)


def blocks(markdown: str) -> Iterator[Block]:
    """The blocks in order. Rules between sections, and blank lines, are nobody's."""
    lines = markdown.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip() or _RULE.fullmatch(line):
            at += 1
        elif fence := _FENCE.fullmatch(line):
            end = _fence_end(lines, at, fence[1])
            yield Block("code", "\n".join(lines[at:end]))
            at = end
        elif heading := _heading(line):
            if heading.text:
                yield heading
            at += 1
        elif _is_table(lines, at):
            end = _table_end(lines, at)
            yield Block("table", "\n".join(lines[at:end]))
            at = end
        else:
            end = _prose_end(lines, at)
            yield _prose(lines, at, end)
            at = end + _is_underlined(lines, at, end)


def _heading(line: str) -> Block | None:
    found = _ATX.fullmatch(line) if len(line) <= _MARKED_LIMIT else None
    if found is None:
        return None
    title = _CLOSING.sub("", (found[2] or "").strip()).strip()
    if not title or len(title) > HEADING_LIMIT:
        return Block("prose", title)
    return Block("heading", plain(title), len(found[1]))


def _fence_end(lines: list[str], at: int, mark: str) -> int:
    for number in range(at + 1, len(lines)):
        closing = lines[number].strip()
        if len(closing) >= len(mark) and not closing.strip(mark[0]) and not lines[number].startswith("    "):
            return number + 1
    return len(lines)


def _is_table(lines: list[str], at: int) -> bool:
    return (
        "|" in lines[at]
        and at + 1 < len(lines)
        and "|" in lines[at + 1]
        and all(_DELIMITER.fullmatch(cell.strip()) for cell in cells(lines[at + 1]))
    )


def cells(row: str) -> list[str]:
    """What stands between the bars of a table's row."""
    return row.strip().removeprefix("|").removesuffix("|").split("|")


def _table_end(lines: list[str], at: int) -> int:
    end = at + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def _prose_end(lines: list[str], at: int) -> int:
    """Where the paragraph that begins at ``at`` ends: a blank line, or a line that begins something else."""
    end = at + 1
    while end < len(lines) and not _interrupts(lines, end):
        end += 1
    return end


def _interrupts(lines: list[str], at: int) -> bool:
    line = lines[at]
    if not line.strip():
        return True
    if line.lstrip()[0] not in "#`~|=-_*" and "|" not in line:
        return False
    return bool(
        _ATX.fullmatch(line)
        or _FENCE.fullmatch(line)
        or _RULE.fullmatch(line)
        or _UNDERLINE.fullmatch(line)
        or _is_table(lines, at)
    )


def _is_underlined(lines: list[str], at: int, end: int) -> bool:
    """Whether the paragraph is one line that the next line underlines; ``=`` or ``-`` alone are text."""
    return end == at + 1 and end < len(lines) and _UNDERLINE.fullmatch(lines[end]) is not None


def _prose(lines: list[str], at: int, end: int) -> Block:
    title = lines[at].strip()
    if _is_underlined(lines, at, end) and len(title) <= HEADING_LIMIT:
        return Block("heading", plain(title), 1 if "=" in lines[end] else 2)
    return Block("prose", plain("\n".join(lines[at:end])))
