"""How rare words are, how well a text fits a question, and how much of a question a few texts have."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Final

from arkway.knowledge.sql import Counted

HITS: Final = 3
SATURATION: Final = 1.2
LENGTH_SHARE: Final = 0.75
DOUBT: Final = 0.1
MANY_TEXTS: Final = 100
"""Texts enough for a word to be common; among fewer, every question's words are."""


def rarity(total: int, having: int) -> float:
    """What a word weighs that ``having`` of ``total`` texts have: BM25's idf, never negative."""
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def weights(terms: Sequence[str], counted: Counted) -> dict[str, float]:
    return {term: rarity(counted.total, counted.having.get(term, 0)) for term in terms}


def bm25(weights: Mapping[str, float], texts: Sequence[Mapping[str, int]]) -> list[float]:
    """A score for each text, given as its words and how often it has them; all are taken together for their length."""
    lengths = [sum(text.values()) for text in texts]
    mean = max(1.0, sum(lengths) / max(1, len(lengths)))
    return [_score(weights, text, length / mean) for text, length in zip(texts, lengths, strict=True)]


def coverage(weights: Mapping[str, float], total: int, found: Sequence[Mapping[str, int]]) -> float:
    """The share of the words' weight that the texts found have, 0 to 1; 0 for a question without words.

    Half of it is what they have together, half what the best of them has alone: words of chit-chat are scattered. In
    a collection of any size a question of common words alone stays below 1, because such a word proves little.
    """
    whole = sum(weights.values())
    if not whole or not found:
        return 0.0
    together: set[str] = set().union(*found)
    shares = [_share(weights, text) for text in (together, *found)]
    doubt = DOUBT * rarity(total, 0) if total >= MANY_TEXTS else 0.0
    return (shares[0] + max(shares[1:])) / 2 / (whole + doubt)


def rarest(terms: Sequence[str], having: Mapping[str, int], limit: int) -> list[str]:
    """The rarest of the words that some text has, in the order of the question."""
    known = [term for term in terms if having.get(term)]
    kept = frozenset(sorted(known, key=lambda term: having[term])[:limit])
    return [term for term in known if term in kept]


def _score(weights: Mapping[str, float], text: Mapping[str, int], length: float) -> float:
    slowed = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length)
    return sum(
        weight * often * (SATURATION + 1) / (often + slowed)
        for term, weight in weights.items()
        if (often := text.get(term, 0))
    )


def _share(weights: Mapping[str, float], text: Container[str]) -> float:
    return sum(weight for term, weight in weights.items() if term in text)
