"""What every search through a text that comes in pieces has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

MASK = "*"
PIECE_MAX = 1024
"""Longer pieces are taken in parts: what is looked at in one step stays small."""

Span = tuple[int, int]


class Hit(msgspec.Struct, frozen=True):
    """What is to be done about something that was found, and what it is called where it ends an answer."""

    blocks: bool
    type: str = "severe_violation"


class Scanner(Protocol):
    """Takes a text piece by piece and gives back as much of it as may go out, masked where it has to be.

    ``found`` is set when something was found that ends the text: what was given back ends before it, and nothing may be
    fed any more. ``masks`` tells whether anything was masked. The text given back in all, and ``found``, do not depend
    on how the text was cut.
    """

    found: Hit | None
    masks: bool

    def feed(self, piece: str, *, final: bool = False) -> str: ...

    def release(self) -> str:
        """What was held back, because another text comes between: searched as if the text ended here.

        What comes later still follows on it, so that a match may begin in what has gone out and end after it.
        """
        ...


class Chain:
    """Implements `Scanner` by several, each over what the one before lets through."""

    __slots__ = ("_scanners", "found")

    def __init__(self, scanners: Sequence[Scanner]) -> None:
        self._scanners = scanners
        self.found: Hit | None = None

    @property
    def masks(self) -> bool:
        return any(scanner.masks for scanner in self._scanners)

    def feed(self, piece: str, *, final: bool = False) -> str:
        if len(piece) <= PIECE_MAX:
            return self._feed(piece, final)
        said, last = "", (len(piece) - 1) // PIECE_MAX
        for number in range(last + 1):
            part = piece[number * PIECE_MAX : (number + 1) * PIECE_MAX]
            said += self._feed(part, final and number == last)
            if self.found is not None:
                break
        return said

    def release(self) -> str:
        text, ended = "", False
        for scanner in self._scanners:
            text = scanner.feed(text, final=ended)
            if not ended and scanner.found is None:
                text += scanner.release()
            if scanner.found is not None:
                self.found, ended = scanner.found, True
        return text

    def _feed(self, text: str, final: bool) -> str:
        for scanner in self._scanners:
            text = scanner.feed(text, final=final)
            if scanner.found is not None:
                # The text ends here; what comes after this scanner may still find something earlier in it.
                self.found, final = scanner.found, True
        return text


def masked(text: str, spans: Sequence[Span], start: int, stop: int) -> str:
    """``text[start:stop]`` with a star for every character of the spans."""
    if not spans:
        return text[start:stop]
    chars = list(text[start:stop])
    for low, high in spans:
        for index in range(max(low, start), min(high, stop)):
            chars[index - start] = MASK
    return "".join(chars)
