"""Patterns, found in a text that comes in pieces.

A pattern says how long a match can be and which characters it may consist of. So it is known of every place in a text
when all that can decide about it is there, and only places that are undecided are held back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from arkway.backends.moderation.scanning import Hit, Span, masked
from arkway.core.errors import Misconfigured

EDGE = "\n"
"""Stands before and after every text: nothing that a pattern knows begins or ends in the middle of it."""

Find = Callable[[str, int], Span | None]


class Pattern(msgspec.Struct, frozen=True):
    """``find(text, from)`` gives the first match that begins there or later.

    Whether and how far there is a match at a place has to depend on the character before it, the ``width`` characters
    from it on and one more, and on none beyond the first that is not of ``chars`` (None = any). ``opens`` finds, from a
    place on, the first one where a match may begin of which only the beginning is there.
    """

    hit: Hit
    width: int
    find: Find
    chars: str | None = None
    opens: Callable[[str, int], Any] | None = None

    def scanner(self) -> PatternScanner:
        return PatternScanner(self)


class PatternScanner:
    """Implements `arkway.backends.moderation.scanning.Scanner` for one pattern."""

    __slots__ = ("_before", "_gone", "_held", "_pattern", "found")

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self.found: Hit | None = None
        self._before = EDGE  # the character before what is held
        self._held = ""
        self._gone = 0  # how much of it has gone out all the same

    def feed(self, piece: str, *, final: bool = False) -> str:
        text = f"{self._before}{self._held}{piece}{EDGE if final else ''}"
        stop = len(text) - final
        undecided = stop if final else self._undecided(text)
        position, begun = 1, 1 + self._gone
        masks: list[Span] = []
        find = self._pattern.find
        while position < undecided and (match := find(text, position)) is not None and match[0] < undecided:
            if self._pattern.hit.blocks:
                self.found = self._pattern.hit
                return masked(text, masks, begun, max(match[0], begun))
            masks.append(match)
            position = match[1]
        hold = min(stop, max(undecided, position))
        out = masked(text, masks, begun, max(hold, begun))
        self._before, self._held = text[hold - 1], text[hold:stop]
        self._gone = max(0, begun - hold)
        return out

    def release(self) -> str:
        out, self._gone = self._held[self._gone :], len(self._held)
        return out

    def _undecided(self, text: str) -> int:
        """The first place of the text of which what comes next may decide."""
        pattern, count = self._pattern, len(text)
        if pattern.chars is None:
            return max(1, count - pattern.width)
        start = max(len(text.rstrip(pattern.chars)), count - pattern.width, 1)
        if pattern.opens is None or start == count:
            return start
        opening = pattern.opens(text, start)
        return count if opening is None else int(opening.start())


def operator_pattern(pattern: str, hit: Hit, *, width: int, alphabet: str, where: str) -> Pattern:
    """A pattern of the operator's, in RE2's syntax. Raises Misconfigured for what cannot be taken, naming ``where``."""
    expression = _compiled(pattern, where)
    if expression.match("") is not None:
        raise Misconfigured(f"{where}: the pattern `{pattern[:80]}` is found in an empty text")
    chars = _listed(alphabet, where) if alphabet else None
    outside = re.compile(f"[^{re.escape(chars)}]") if chars else None

    def find(text: str, start: int) -> Span | None:
        text = text.encode(errors="replace").decode()  # a lone surrogate is no text to RE2
        while (match := expression.search(text, start)) is not None:
            low, high = match.span()
            end = min(low + width, len(text))
            if outside is not None and (other := outside.search(text, low, end)) is not None:
                end = other.start()
            if high > end:
                match = expression.match(text, low, end) if end > low else None
                high = match.end() if match is not None else low
            if high > low:
                return low, high
            start = low + 1
        return None

    return Pattern(hit, width, find, chars)


def _compiled(pattern: str, where: str) -> Any:
    try:
        import re2
    except ImportError:
        raise Misconfigured(
            "patterns of moderation need the extra `moderation`: install it with `pip install 'arkway[moderation]'`"
        ) from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        words = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise Misconfigured(f"{where}: RE2 cannot take the pattern `{pattern[:80]}`: {words}") from None


def _listed(alphabet: str, where: str) -> str:
    """Every character of ``a-z0-9_``: a hyphen between two characters is a range, elsewhere itself."""
    found: list[str] = []
    index = 0
    while index < len(alphabet):
        if alphabet[index + 1 : index + 2] == "-" and index + 2 < len(alphabet):
            low, high = ord(alphabet[index]), ord(alphabet[index + 2])
            if not 0 <= high - low < 1024:
                raise Misconfigured(f"{where}: `{alphabet[index : index + 3]}` is no range of an alphabet")
            found.extend(map(chr, range(low, high + 1)))
            index += 3
        else:
            found.append(alphabet[index])
            index += 1
    return "".join(dict.fromkeys(found))
