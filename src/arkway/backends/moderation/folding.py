"""Text as words are compared: NFKC, without case, without characters that nobody sees.

Folding goes character by character, so that it does not matter how a text was cut into pieces. What is composed of
several characters (``e`` and an accent, the letters of a Korean syllable) is composed only where the words have such a
composition; marks that compose nothing are passed over, as invisible characters are.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

import msgspec

ODD = "\uffff"
"""Stands in a folded text for a character that has to be looked at by itself; no word has it."""
CACHED_MAX = 50_000
"""Characters whose folding is remembered: more than texts have, and less than there are."""
SKIP_MAX = 32
"""More characters than these without a look between two letters, and they belong to no word together."""

_MARKS = (
    (0x0300, 0x036F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
    (0x3099, 0x309A),
    (0xFE00, 0xFE0F),
    (0xE0100, 0xE01EF),
    (0x180B, 0x180D),
    (0x115F, 0x1160),
    (0x3164, 0x3164),
    (0x2800, 0x2800),
)
_LINE_BREAKS = "\t\n\r\v\f"
_ESCAPE = re.compile(
    r"\\(?:[^u]|u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u(?![dD][89aAbB])[0-9a-fA-F]{4}|u[dD][89aAbB][0-9a-fA-F]{2}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F]))",
    re.DOTALL,
)
_BEGUN_ESCAPE = re.compile(
    r"\\(?:u(?:[0-9a-fA-F]{0,4}|[dD][89aAbB][0-9a-fA-F]{2}\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]{0,2})?)?)?)?)?"
)


class Folded(msgspec.Struct, frozen=True, gc=False):
    """A folded text. Its character ``i`` stands for ``[starts[i], ends[i])`` of the original, of which everything
    before ``settled`` cannot look different whatever comes after it."""

    text: str
    starts: list[int]
    ends: list[int]
    settled: int

    def from_(self, original: int) -> int:
        """The first folded character that stands for what is at ``original`` or after it."""
        return bisect_left(self.starts, original)


Unit = tuple[str, int, int]
"""A character, and where it is in the original."""
Units = Callable[[str], tuple[list[Unit], int]]
"""Reads a text, or a part of it: its characters, and how far it can be read before more of it comes."""


def characters(text: str) -> tuple[list[Unit], int]:
    """Each character of a plain text, and how far it can be read."""
    return [(char, index, index + 1) for index, char in enumerate(text)], len(text)


def escaped(text: str) -> tuple[list[Unit], int]:
    """As `characters`, of JSON or a part of it: an escape is the character that it stands for."""
    units: list[Unit] = []
    index = 0
    while index < len(text):
        if text[index] != "\\":
            units.append((text[index], index, index + 1))
            index += 1
        elif (found := _ESCAPE.match(text, index)) is not None:
            units.append((_meant(found[0]), index, found.end()))
            index = found.end()
        elif _BEGUN_ESCAPE.fullmatch(text, index):
            break
        else:
            units.append(("\\", index, index + 1))
            index += 1
    return units, index


def _meant(escape: str) -> str:
    """One escape, or two that are one character."""
    if escape[1] != "u":
        return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(escape[1], escape[1])
    codes = [int(part, 16) for part in escape[2:].split("\\u")]
    if len(codes) == 1:
        return chr(codes[0])
    return chr(0x10000 + ((codes[0] - 0xD800) << 10) + (codes[1] - 0xDC00))


class Folding:
    """How texts are folded for one list of words."""

    def __init__(self, words: Iterable[str] = (), *, ignore_separators: bool = False) -> None:
        self._ignore_separators = ignore_separators
        self._ones = _Ones(self._passed_over)
        self._open: frozenset[str] = frozenset()
        folded = [self.word(word) for word in words]
        self._open = frozenset(_beginnings("".join(folded)))
        self.table = _Table(self)

    def word(self, text: str) -> str:
        """A word of the list, folded as a whole; empty where nothing is left of it."""
        composed = _normal(text).replace(ODD, "")
        return "".join(char for char in composed if not self._passed_over(char))

    def one(self, char: str) -> str:
        """One character by itself, folded: empty where it is passed over."""
        return self._ones[char]

    def plain(self, char: str) -> bool:
        """Whether the character is folded to one other, whatever stands beside it."""
        folded = self.one(char)
        return len(folded) == 1 and folded not in self._open

    def folded(self, units: Iterable[Unit], length: int, *, final: bool) -> Folded:
        """Any text, ``length`` characters long; ``final``: nothing comes after it."""
        result = Folded("", [], [], length)
        letters: list[str] = []
        skipped, ones = 0, self._ones
        base, begun, reached = "", 0, 0  # a character that what follows may change
        for char, start, end in units:
            if base and (more := _composed(base, char)):
                base, reached, skipped = more, end, 0
                continue
            folded = ones[char]
            if not folded:
                skipped += 1
                if skipped <= SKIP_MAX:
                    continue
                folded = ODD
            else:
                skipped = 0
            if base:
                _append(result, letters, base, begun, reached)
                base = ""
            if folded in self._open:
                base, begun, reached = folded, start, end
            else:
                _append(result, letters, folded, start, end)
        if base and final:
            _append(result, letters, base, begun, reached)
        settled = begun if base and not final else length
        return Folded("".join(letters), result.starts, result.ends, settled)

    def _passed_over(self, char: str) -> bool:
        code = ord(char)
        if any(low <= code <= high for low, high in _MARKS):
            return True
        category = unicodedata.category(char)
        if category == "Cf" or (category == "Cc" and char not in _LINE_BREAKS):
            return True
        return self._ignore_separators and (category[0] in "ZP" or char in _LINE_BREAKS)


class _Ones(dict[str, str]):
    """Characters, folded; filled as they are met, up to a bound."""

    def __init__(self, passed_over: Callable[[str], bool]) -> None:
        super().__init__()
        self._passed_over = passed_over

    def __missing__(self, char: str) -> str:
        found = "".join([each for each in _normal(char) if not self._passed_over(each)])
        if len(self) < CACHED_MAX:
            self[char] = found
        return found


class _Table(dict[int, str]):
    """For ``str.translate``: filled as characters are met, up to a bound. ODD for what is not `Folding.plain`."""

    def __init__(self, folding: Folding) -> None:
        super().__init__()
        self._folding = folding

    def __missing__(self, code: int) -> str:
        char = chr(code)
        found = self._folding.one(char) if self._folding.plain(char) else ODD
        if len(self) < CACHED_MAX:
            self[code] = found
        return found


def _append(result: Folded, letters: list[str], folded: str, start: int, end: int) -> None:
    letters.append(folded)
    result.starts.extend([start] * len(folded))
    result.ends.extend([end] * len(folded))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _composed(base: str, char: str) -> str:
    """Both as one character, or nothing where they are two."""
    both = unicodedata.normalize("NFC", base + _normal(char))
    return both if len(both) == 1 and both != base else ""


def _beginnings(letters: str) -> Iterator[str]:
    """The characters that with others after them make one of these letters."""
    for letter in set(letters):
        parts = unicodedata.normalize("NFD", letter)
        for count in range(1, len(parts)):
            begun = unicodedata.normalize("NFC", parts[:count])
            if len(begun) == 1:
                yield begun
