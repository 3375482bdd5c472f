"""The citations of an answer, checked while it passes: ``[n]`` with a number that no source has never gets out.

Text is judged character by character, so it makes no difference how it was cut into events; at most ``HELD_MAX``
characters wait for what comes next. In code, which Markdown marks with backticks, ``[n]`` is an index and is let alone.
What a removal brings together is looked at as well: ``[[9]8]`` does not become ``[8]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from arkway.core.chat import LogprobEntry
from arkway.core.events import Delta, Quoted
from arkway.core.transient import Transient

HELD_MAX = 6
"""``[`` and five digits; what has more is not a citation."""

_SPECIAL = re.compile(r"[\[`]")
_FENCE = 3


class Cites(Transient):
    """What may be cited, 1 to ``known``, and what has been."""

    known: int
    used: set[int]


class _Token(Transient):
    """Log probabilities that go out with the first character of their text that does, or not at all."""

    entries: Sequence[LogprobEntry]


class _Out(Transient):
    text: list[str]
    entries: list[LogprobEntry]

    def put(self, text: str, token: _Token | None) -> None:
        self.text.append(text)
        if token is not None and token.entries:
            self.entries.extend(token.entries)
            token.entries = ()


class _Code:
    """Whether the text is within code, as far as can be told without what follows."""

    __slots__ = ("_fenced", "_inline", "_run")

    def __init__(self) -> None:
        self._fenced = False
        self._inline = self._run = 0

    @property
    def open(self) -> bool:
        return self._fenced or self._inline > 0

    @property
    def idle(self) -> bool:
        """Only a backtick changes anything."""
        return not self._run and not self._inline

    def see(self, character: str) -> None:
        if character == "`":
            self._run += 1
            return
        if self._run:
            self._ran(self._run)
            self._run = 0
        if character == "\n":
            self._inline = 0

    def _ran(self, run: int) -> None:
        if self._fenced:
            self._fenced = run < _FENCE
        elif self._inline:
            self._inline = 0 if run == self._inline else self._inline
        elif run >= _FENCE:
            self._fenced = True
        else:
            self._inline = run


class CitationFilter:
    """One choice's. ``_held`` is a citation that has begun, ``_tail`` one that has begun among what is out already."""

    __slots__ = ("_cites", "_code", "_held", "_number", "_tail")

    def __init__(self, cites: Cites) -> None:
        self._cites = cites
        self._code = _Code()
        self._held: list[tuple[str, _Token | None]] = []
        self._number = ""
        self._tail = ""

    def quoted(self, event: Quoted) -> Quoted | Delta:
        """What is left of it; nearly always the event itself."""
        literal = event.literal
        if b"[" not in literal and b"`" not in literal and self._idle:
            return event
        return self.delta(event.delta())

    def delta(self, event: Delta) -> Delta:
        text = event.text
        if "[" not in text and "`" not in text and self._idle:
            return event
        out, held = _Out([], []), bool(self._held)
        for piece, token in _pieces(event):
            if piece:
                self._take(piece, token, out)
            elif self._held and token is not None:
                self._held.append((piece, token))
            else:
                out.put(piece, token)
        kept = "".join(out.text)
        if kept == text and not held and not self._held:
            return event
        spent = (event.completion_tokens, event.prompt_tokens)
        return Delta(kept, event.index, event.reasoning, tuple(out.entries), *spent)

    def rest(self, index: int) -> Delta | None:
        """What was held when the text has ended: it is no citation any more."""
        if not self._held:
            return None
        out = _Out([], [])
        self._release(out)
        self._tail = ""
        return Delta("".join(out.text), index, logprobs=tuple(out.entries))

    @property
    def _idle(self) -> bool:
        return not self._held and not self._tail and self._code.idle

    def _take(self, text: str, token: _Token | None, out: _Out) -> None:
        at = 0
        while at < len(text):
            if self._idle:
                found = _SPECIAL.search(text, at)
                end = found.start() if found else len(text)
                if end > at:
                    out.put(text[at:end], token)
                    at = end
                    continue
            self._step(text[at], token, out)
            at += 1

    def _step(self, character: str, token: _Token | None, out: _Out) -> None:
        if self._held:
            if "0" <= character <= "9" and len(self._number) + 1 < HELD_MAX:
                self._held.append((character, token))
                self._number += character
                return
            if character == "]" and self._number:
                self._close(token, out)
                return
            self._release(out)
        self._code.see(character)
        if character == "[" and not self._code.open:
            self._held.append((character, token))
        elif self._is_let_by(character):
            out.put(character, token)

    def _close(self, token: _Token | None, out: _Out) -> None:
        number = int(self._number)
        if 1 <= number <= self._cites.known:
            self._cites.used.add(number)
            self._release(out)
            self._tail = ""
            out.put("]", token)
        self._held, self._number = [], ""

    def _release(self, out: _Out) -> None:
        for text, token in self._held:
            out.put(text, token)
        self._tail = f"[{self._number}"
        self._held, self._number = [], ""

    def _is_let_by(self, character: str) -> bool:
        """False for the bracket that would make a citation of what a removal has brought together."""
        tail, self._tail = self._tail, ""
        if not tail or self._code.open:
            return True
        if "0" <= character <= "9" and len(tail) < HELD_MAX:
            self._tail = tail + character
        elif character == "]" and len(tail) > 1:
            number = int(tail[1:])
            if not 1 <= number <= self._cites.known:
                return False
            self._cites.used.add(number)
        return True


def _pieces(event: Delta) -> Iterator[tuple[str, _Token | None]]:
    """The text, token by token where the log probabilities say what these were."""
    entries = event.logprobs
    if not entries:
        yield event.text, None
    elif "".join([entry.chosen.token for entry in entries]) == event.text:
        for entry in entries:
            yield entry.chosen.token, _Token((entry,))
    else:
        yield event.text, _Token(entries)
