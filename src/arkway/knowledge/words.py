"""Text as the words that it is found by.

Runs of Han characters are cut by rjieba's search mode, which gives long words and the short ones within them; without
it (the extra ``knowledge``) they become pairs of neighbours, which finds less. Other scripts that are written without
spaces always become pairs. Everything else is a word from one separator to the next, in lower case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from arkway.knowledge.stopwords import STOP_WORDS

LONGEST_WORD: Final = 64
RULES: Final = 1
"""Counts the changes of this module and of the stop words: an index that was made by other rules has to be remade."""

_HAN: Final = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SOLID: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\uac00-\ud7ff"
)
_OTHER: Final = rf"[^\W_{_HAN}{_SOLID}]"
_MARKS: Final = "[\u0300-\u036f\u0900-\u0dff]"  # signs within words that are not letters to Python
_RUN: Final = re.compile(rf"([{_HAN}]+)|([{_SOLID}]+)|{_OTHER}+(?:{_MARKS}+{_OTHER}*)*")

Cut = Callable[[str], list[str]]
_PAIRS: Final = "bigrams"
WITHOUT_RJIEBA: Final = f"{_PAIRS}/{RULES}"
"""What `analyzer` says where rjieba is not installed."""


def analyzer() -> str:
    """Name and version of what `words` does in this installation: ``rjieba-0.2.2/1``, or ``bigrams/1``."""
    return f"{_han()[0]}/{RULES}"


def words(text: str) -> list[str]:
    """Every word of the text in order, without those that say nothing. At most 64 characters each."""
    return [word for word in _cut(text) if word not in STOP_WORDS]


def terms(question: str) -> list[str]:
    """The different words of a question, in order."""
    return list(dict.fromkeys(words(question)))


def pairs(run: str) -> list[str]:
    """Neighbours of a run without spaces: ``一二三`` is ``一二`` and ``二三``."""
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


def _cut(text: str) -> Iterator[str]:
    cut = _han()[1]
    for found in _RUN.finditer(unicodedata.normalize("NFKC", text).lower()):
        if found.lastindex == 1:
            yield from cut(found[0])
        elif found.lastindex == 2:
            yield from pairs(found[0])
        else:
            yield found[0][:LONGEST_WORD]


@cache
def _han() -> tuple[str, Cut]:
    """What cuts Han characters here, and its name."""
    try:
        import rjieba
    except ImportError:
        return _PAIRS, pairs
    from importlib.metadata import version

    return f"rjieba-{version('rjieba')}", rjieba.cut_for_search
