"""Cutting a long text into windows that end where sentences end, on the pieces the tokenizer made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WINDOW_TOKENS: Final = 200
WORD_START: Final = "▁"
# The tokenizer's normaliser has already turned full-width marks into their ASCII forms, all but the Chinese full stop.
_ALWAYS_ENDS: Final = ("。", "!", "?", "؟", "।")
_ENDS_BEFORE_SPACE: Final = (".", "…", ";", ":")


def windows(pieces: Sequence[str], limit: int = WINDOW_TOKENS) -> list[tuple[int, int]]:
    """Half-open ranges of at most ``limit`` pieces that cover ``pieces`` in order, each as long as its cut allows.

    Cuts fall behind the last sentence end within reach, else before the last word start, else at the limit.
    """
    ranges = []
    start = 0
    while len(pieces) - start > limit:
        stop = _cut(pieces, start, start + limit)
        ranges.append((start, stop))
        start = stop
    ranges.append((start, len(pieces)))
    return ranges


def _cut(pieces: Sequence[str], start: int, limit: int) -> int:
    reach = range(limit, start, -1)
    sentence = next((at for at in reach if _sentence_ends(pieces, at)), None)
    return sentence or next((at for at in reach if pieces[at].startswith(WORD_START)), limit)


def _sentence_ends(pieces: Sequence[str], at: int) -> bool:
    """Does a sentence end between piece ``at - 1`` and piece ``at``?"""
    before = pieces[at - 1]
    return before.endswith(_ALWAYS_ENDS) or (before.endswith(_ENDS_BEFORE_SPACE) and pieces[at].startswith(WORD_START))
