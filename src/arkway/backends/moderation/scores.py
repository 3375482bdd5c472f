"""Log-probabilities beside a text that is searched: they tell it once more, and may tell no more than it does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from arkway.core.chat import LogprobEntry
from arkway.core.transient import Transient

_replace = msgspec.structs.replace


class _Scored(Transient):
    """Some that came together, and where in the text what they score is. ``free``: there was no text with them, as with
    a token that is the beginning of a character, or the tokens of a tool's arguments."""

    entries: tuple[LogprobEntry, ...]
    start: int
    end: int
    free: bool
    hidden: bool


class Scores:
    """Those of one text: none goes out before its text, and none of which a part was masked.

    ``mentions`` tells whether a token is forbidden by itself: such rivals are left out.
    """

    def __init__(self, mentions: Callable[[str], bool]) -> None:
        self._mentions = mentions
        self._waiting: list[_Scored] = []
        self._text = ""  # what was said and has not gone out
        self._gone = 0

    def add(self, text: str, entries: tuple[LogprobEntry, ...], *, hidden: bool = False) -> None:
        """Those of the text that is said next. Without a text they are taken for part of what follows."""
        if entries:
            start = self._gone + len(self._text)
            self._waiting.append(_Scored(entries, start, start + max(1, len(text)), not text, hidden))

    def due(self, said: str, clean: str, *, spotless: bool) -> tuple[LogprobEntry, ...]:
        """More is said, and ``clean`` goes out. ``spotless``: nothing of the whole choice was masked so far."""
        self._text += said
        before, after = self._gone, self._gone + len(clean)
        raw, self._text, self._gone = self._text[: len(clean)], self._text[len(clean) :], after
        if raw != clean:
            stars = [before + place for place, char in enumerate(clean) if raw[place : place + 1] != char]
            for scored in self._waiting:
                scored.hidden = scored.hidden or any(scored.start <= star < scored.end for star in stars)
        count = next((place for place, scored in enumerate(self._waiting) if scored.end > after), len(self._waiting))
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return self._shown(ready, spotless)

    def rest(self, *, spotless: bool) -> tuple[LogprobEntry, ...]:
        """Nothing more is said."""
        ready, self._waiting = self._waiting, []
        return self._shown(ready, spotless)

    def _shown(self, ready: list[_Scored], spotless: bool) -> tuple[LogprobEntry, ...]:
        return tuple(
            [
                self._allowed(entry)
                for scored in ready
                if not scored.hidden and (spotless or not scored.free)
                for entry in scored.entries
            ]
        )

    def _allowed(self, entry: LogprobEntry) -> LogprobEntry:
        top = tuple([rival for rival in entry.top if not self._mentions(rival.token)])
        return entry if len(top) == len(entry.top) else _replace(entry, top=top)
