"""Patterns, found in a text that comes in pieces.

A pattern says how long a match can be and which characters it may consist of. So it is known of every place in a text
when all that can decide about it is there, and only places that are undecided are held back.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

import msgspec

from arkway.backends.moderation.folding import Units, characters
from arkway.backends.moderation.scanning import Hit, Span, masked
from arkway.core.errors import Misconfigured

EDGE = "\n"
"""Stands before and after every text: nothing that a pattern knows begins or ends in the middle of it."""

_PLAIN = f"{string.digits}{string.ascii_letters}@._+-% "
_WIDE = "".join([chr(ord(char) + 0xFEE0) for char in _PLAIN[:-1]]) + "\u3000"
_NARROW = str.maketrans(_WIDE, _PLAIN)
"""Full-width forms of what numbers and addresses consist of. All of them or none: else it would matter how a text is
cut."""
_has_wide = re.compile(f"[{_WIDE}]").search
_NOTHING: list[Span] = []

Find = Callable[[str, int], Span | None]


class Pattern(msgspec.Struct, frozen=True):
    """``find(text, from)`` gives the first match that begins there or later.

    Whether and how far there is a match at a place has to depend on the character before it, the ``width`` characters
    from it on and one more, and on none beyond the first that is not of ``chars`` (None = any). ``opens`` finds, from a
    place on, the first one where a match may begin of which only the beginning is there. ``narrow``: full-width forms
    are shown to all of them as what they stand for.
    """

    hit: Hit
    width: int
    find: Find
    chars: str | None = None
    opens: Callable[[str, int], Any] | None = None
    narrow: bool = False

    def scanner(self, units: Units = characters) -> PatternScanner:
        return PatternScanner(self, units)


class PatternScanner:
    """Implements `arkway.backends.moderation.scanning.Scanner` for one pattern.

    What is searched is the text as it is meant, with the character before it at its place 0.
    """

    __slots__ = ("_before", "_gone", "_held", "_pattern", "_units", "found", "masks")

    def __init__(self, pattern: Pattern, units: Units = characters) -> None:
        self._pattern, self._units = pattern, units
        self.found: Hit | None = None
        self.masks = False
        self._before = EDGE  # the character before what is held
        self._held = ""
        self._gone = 0  # how much of it has gone out all the same

    def feed(self, piece: str, *, final: bool = False) -> str:
        said, pattern = self._held + piece, self._pattern
        meant, places = said, None
        if (pattern.narrow and _has_wide(said)) or (self._units is not characters and "\\" in said):
            meant, places = self._read(said, final)
        text = f"{self._before}{meant}{EDGE if final else ''}"
        stop = len(text) - final
        undecided = stop if final else self._undecided(text)
        if (match := pattern.find(text, 1)) is None or match[0] >= undecided:
            hold, spans = undecided, _NOTHING
        else:
            spans, position, blocked = self._searched(text, undecided, places)
            if blocked is not None:
                return masked(said, spans, self._gone, max(blocked, self._gone))
            hold = min(stop, max(undecided, position))
        place = hold - 1 if places is None else places[hold - 1]
        out = masked(said, spans, self._gone, max(place, self._gone)) if spans else said[self._gone : place]
        self._before, self._held = text[hold - 1], said[place:]
        self._gone = max(0, self._gone - place)
        return out

    def release(self) -> str:
        held = self._held
        if self._gone >= len(held):
            return ""
        meant, places = self._read(held, final=True)
        text = f"{self._before}{meant}{EDGE}"
        spans, _, blocked = self._searched(text, len(text) - 1, places)
        out = masked(held, spans, self._gone, len(held) if blocked is None else max(blocked, self._gone))
        self._gone = len(held)
        return out

    def _read(self, said: str, final: bool) -> tuple[str, list[int] | None]:
        """What it means, and where each character of that begins and the last one ends; None = where it stands."""
        places: list[int] | None = None
        if self._units is not characters and "\\" in said:
            units, length = self._units(said)
            if final:
                units += [(char, length + index, 0) for index, char in enumerate(said[length:])]
                length = len(said)
            said = "".join([unit[0] for unit in units])
            places = [*(unit[1] for unit in units), length]
        if self._pattern.narrow and _has_wide(said):
            said = said.translate(_NARROW)
        return said, places

    def _searched(self, text: str, undecided: int, places: list[int] | None) -> tuple[list[Span], int, int | None]:
        """What is to be masked, and where the last of it ends in the text; and where what was said has to end, if it
        has to."""
        position, spans, find = 1, list[Span](), self._pattern.find
        while position < undecided and (match := find(text, position)) is not None and match[0] < undecided:
            low, high = match
            span = (low - 1, high - 1) if places is None else (places[low - 1], places[min(high, len(places)) - 1])
            if self._pattern.hit.blocks:
                self.found = self._pattern.hit
                return spans, position, span[0]
            self.masks = True
            spans.append(span)
            position = high
        return spans, position, None

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
