"""Prose cut into sentences, Chinese and English, and what is too long cut where it hurts least. In linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

CLOSING: Final = "\"'”’」』）》】〉)]}"
TERMINATORS: Final = "。！？!?…."
_QUOTES: Final = f"[{re.escape(CLOSING)}]*+"
# The look behind keeps a line of dots, as tables of contents have them, from being tried at each of its dots.
_END: Final = re.compile(rf"[。！？…]++{_QUOTES}|(?<![.!?])[.!?]++{_QUOTES}(?=\s|$)")
_ABBREVIATION: Final = re.compile(
    r"mr|mrs|ms|dr|prof|st|no|figs?|eqs?|secs?|ch|vols?|pp?|cf|vs|al|eds?|e\.g|i\.e|etc|inc|ltd|co|corp|approx|dept|est|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|u\.s|u\.k|[A-Z]",
    re.IGNORECASE,
)
_LAST_WORD: Final = 12
_SOFT: Final = (re.compile(r"[；;]\s*"), re.compile(r"[，、：]|[,:]\s"), re.compile(r"\s+"))
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+•·●▪◦‣]|\d{1,3}[.)、．]|[（(]?[一二三四五六七八九十]{1,3}[)）、])\s*\S")
_WRAPPED_FROM_BYTES: Final = 45  # 45 Latin letters, 15 Chinese characters: nobody wraps lines that short


def ends_a_sentence(text: str) -> bool:
    """Whether the text ends as a sentence does, possibly inside quotation marks or brackets."""
    return text.rstrip().rstrip(CLOSING + "*_`").endswith(tuple(TERMINATORS))


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The sentences of one line or paragraph as (start, end); white space between them belongs to none."""
    start = _filled(text, 0)
    for end in _END.finditer(text):
        if end.start() >= start and not _goes_on(text, start, end):
            yield start, end.end()
            start = _filled(text, end.end())
    if start < len(text):
        yield start, start + len(text[start:].rstrip())


def lines(paragraph: str) -> Iterator[str]:
    """The lines of a paragraph as its author meant them: what was only wrapped to a width is joined again.

    A line that is short, ends a sentence, or stands before an item of a list, was ended on purpose.
    """
    held: list[str] = []
    for line in paragraph.split("\n"):
        line = line.strip()
        if held and line and _ends_on_purpose(held[-1], line):
            yield unwrapped(held)
            held = []
        if line:
            held.append(line)
    if held:
        yield unwrapped(held)


def _ends_on_purpose(line: str, following: str) -> bool:
    return (
        len(line.encode("utf-8", "replace")) < _WRAPPED_FROM_BYTES
        or ends_a_sentence(line)
        or line[-1] in ":："
        or _LIST_ITEM.match(following) is not None
    )


def unwrapped(held: list[str]) -> str:
    """One line of several: a space between words, none between Chinese characters."""
    parts = held[:1]
    for before, after in pairwise(held):
        if not (is_wide(before[-1]) and is_wide(after[0])):
            parts.append(" ")
        parts.append(after)
    return "".join(parts)


def is_wide(character: str) -> bool:
    """Chinese, Japanese and full-width characters: those that are written without spaces between words."""
    return "\u2e80" <= character <= "\ud7a3" or "\uf900" <= character <= "\ufaff" or "\uff00" <= character <= "\uffef"


def cut(text: str, limit: int) -> Iterator[str]:
    """Parts of at most ``limit`` characters: cut after a semicolon, else a comma, else between words, else anywhere.

    The parts put together are the text, but for white space at the cuts.
    """
    start = _filled(text, 0)
    while len(text) - start > limit:
        end = _softest(text, start, start + limit)
        yield text[start:end].rstrip()
        start = _filled(text, end)
    if rest := text[start:].rstrip():
        yield rest


def _softest(text: str, start: int, end: int) -> int:
    for mark in _SOFT:
        last = 0
        for found in mark.finditer(text, start + (end - start) // 2, end):
            last = found.end()
        if last:
            return last
    return end


def _filled(text: str, at: int) -> int:
    """Where the white space that begins at ``at`` ends."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _goes_on(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether a full stop only ends an abbreviation, an initial, or the number of an item."""
    if not end[0].startswith(".") or end[0].startswith(".."):
        return False
    following = text[end.end() : end.end() + 2].strip()
    if following and following[0].islower():
        return True
    before = text[max(start, end.start() - _LAST_WORD) : end.start()]
    words = before.split()
    word = words[-1].lstrip("(（[\"'“") if words else ""
    is_item_number = word.isdigit() and len(word) <= 3 and end.start() - len(word) == start
    return is_item_number or _ABBREVIATION.fullmatch(word) is not None
