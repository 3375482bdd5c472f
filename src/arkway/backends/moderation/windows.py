"""An answer cut into what a moderator is asked about: sentences, or so many characters where none ends.

Where a cut is depends on the text alone, not on how it came.
"""

from __future__ import annotations

import re

import msgspec

from arkway.backends.moderation.asking import Verdict
from arkway.core.transient import Transient

SENTENCE_MIN_CHARS = 16

_END = re.compile(r"[。！？；…\n]|[.!?;][ \t]")


class Window(Transient):
    """A stretch of one text. ``verdict`` None = not known yet; ``before`` is what stands before it."""

    index: int
    before: str = ""
    text: str = ""
    closed: bool = False
    verdict: Verdict | None = None

    @property
    def allowed(self) -> bool:
        return self.verdict is not None and self.verdict.allowed

    @property
    def refused(self) -> bool:
        return self.verdict is not None and not self.verdict.allowed


class Cutter(Transient):
    """The windows of one text: each piece belongs to the open one, until it is full."""

    index: int
    chars: int
    sentences: bool
    open: Window | None = None
    _before: str = msgspec.field(default="")

    def cut(self, piece: str) -> list[tuple[str, Window]]:
        """The piece in parts, each with its window; all windows but the last are closed by then, perhaps it too."""
        parts: list[tuple[str, Window]] = []
        while piece:
            window = self.open = self.open or Window(self.index, self._before)
            size = self._room(window.text + piece) - len(window.text)
            part, piece = piece[:size], piece[size:]
            window.text += part
            if self._full(window.text):
                self.close()
            parts.append((part, window))
        return parts

    def close(self) -> Window | None:
        """Nothing more belongs to the open window, which is returned."""
        window, self.open = self.open, None
        if window is not None:
            window.closed = True
            self._before = window.text[-self.chars :]
        return window

    def _room(self, text: str) -> int:
        """How much of a text, which begins where the window does, belongs to it."""
        if self.sentences and (end := _END.search(text, SENTENCE_MIN_CHARS - 1)) is not None:
            return min(end.end(), self.chars)
        return min(len(text), self.chars)

    def _full(self, text: str) -> bool:
        if len(text) >= self.chars:
            return True
        return self.sentences and _END.search(text, SENTENCE_MIN_CHARS - 1) is not None
