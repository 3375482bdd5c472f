"""The citations of an answer, checked while it passes: ``[n]`` with a number that no source has never gets out.

Text is judged character by character, so it makes no difference how it was cut into events; at most ``HELD_MAX``
characters wait for what comes next, of a list ``LIST_MAX``. Models write 【1】 and ［1］ and several as [1, 2]: of
such a list the numbers without a source are taken out. A list in which no number has a source, or with a 0 in it, is an
interval or data and is let alone. In code, which Markdown marks with backticks, ``[n]`` is an index and is let alone,
too. What a removal brings together is looked at as well: ``[[9]8]`` does not become ``[8]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from arkway.core.chat import LogprobEntry
from arkway.core.events import Delta, Quoted
from arkway.core.transient import Transient

HELD_MAX = 6
"""``[`` and five digits; what has more is not a citation."""
LIST_MAX = 32
"""Characters of a list of citations, without what ends it."""

_CLOSING = {"[": "]", "【": "】", "［": "］"}
_DIGITS = "0123456789０１２３４５６７８９"
_BETWEEN = ",，、;；"
_SPECIAL = re.compile(r"[\[【［`]")
_LENTICULAR, _WIDE = "【".encode(), "［".encode()
_LISTED = re.compile(r"[0-9０-９]+(?:[,，、;；] *[0-9０-９]+)*")
_NUMBER = re.compile(r"[0-9０-９]+")
_FENCE = 3


class Cites(Transient):
    """What may be cited, 1 to ``known``, and what has been."""

    known: int
    used: set[int]


class _Token(Transient):
    """Log probabilities that go out with the first character of their text that does, or not at all."""

    entries: Sequence[LogprobEntry]


_Piece = tuple[str, _Token | None]
"""A character of what is held, and the token that it is of."""


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
    """One choice's. ``_held`` is a citation that has begun, ``_begun`` its text; ``_tail`` the text of one that has
    begun among what is out already.
    """

    __slots__ = ("_begun", "_cites", "_code", "_held", "_tail")

    def __init__(self, cites: Cites) -> None:
        self._cites = cites
        self._code = _Code()
        self._held: list[_Piece] = []
        self._begun = self._tail = ""

    def quoted(self, event: Quoted) -> Quoted | Delta:
        """What is left of it; nearly always the event itself."""
        literal = event.literal
        special = b"[" in literal or b"`" in literal or _LENTICULAR in literal or _WIDE in literal
        return self.delta(event.delta()) if special or not self._idle else event

    def delta(self, event: Delta) -> Delta:
        text = event.text
        if self._idle and not _SPECIAL.search(text):
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
        """What was held when the text has ended, which may yet go on in another model call."""
        if not self._held:
            return None
        out = _Out([], [])
        self._release(out)
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
            if self._goes_on(self._begun, character):
                self._held.append((character, token))
                self._begun += character
                return
            if _closes(self._begun, character):
                self._close(character, token, out)
                return
            self._release(out)
        self._code.see(character)
        if character in _CLOSING and not self._code.open:
            self._held.append((character, token))
            self._begun = character
        elif self._is_let_by(character):
            out.put(character, token)

    def _goes_on(self, begun: str, character: str) -> bool:
        """Whether what has begun so is still a citation, or several, with this."""
        if character in _DIGITS:
            before = len(begun) - len(begun.rstrip(_DIGITS))
            return before + 1 < HELD_MAX and len(begun) < LIST_MAX
        # Where there are no sources nobody cites several: it is a list of something else.
        if not self._cites.known or not 1 < len(begun) < LIST_MAX:
            return False
        return begun[-1] in _DIGITS if character in _BETWEEN else character == " " and begun[-1] not in _DIGITS

    def _stay(self, begun: str) -> list[bool] | None:
        """Which of the numbers have a source, and are used now; None where this is no citation."""
        if not _LISTED.fullmatch(begun, 1):
            return None
        numbers = [int(number) for number in _NUMBER.findall(begun)]
        stay = [1 <= number <= self._cites.known for number in numbers]
        if len(numbers) > 1 and (0 in numbers or not any(stay)):
            return None
        self._cites.used.update(number for number, stays in zip(numbers, stay, strict=True) if stays)
        return stay

    def _close(self, character: str, token: _Token | None, out: _Out) -> None:
        stay = self._stay(self._begun)
        if stay is None or any(stay):
            if stay is None or all(stay):
                self._release(out)
            else:
                self._release_some(stay, out)
            self._tail = ""
            out.put(character, token)
        self._held, self._begun = [], ""

    def _release(self, out: _Out) -> None:
        for text, token in self._held:
            out.put(text, token)
        self._tail = self._begun
        self._held, self._begun = [], ""

    def _release_some(self, stay: Sequence[bool], out: _Out) -> None:
        """The bracket and the numbers that stay, each but the first behind what stood before it."""
        (bracket, token), *rest = self._held
        out.put(bracket, token)
        staying, between, led = iter(stay), list[_Piece](), False
        for of_number, group in groupby(_told_apart(rest), key=lambda each: each[0]):
            pieces = [piece for _, piece in group]
            if not of_number:
                between = pieces
            elif next(staying):
                for text, of_text in (*between, *pieces) if led else pieces:
                    out.put(text, of_text)
                led = True

    def _is_let_by(self, character: str) -> bool:
        """False for the bracket that would make a citation of what a removal has brought together."""
        tail, self._tail = self._tail, ""
        if not tail or self._code.open:
            return True
        if self._goes_on(tail, character):
            self._tail = tail + character
        elif _closes(tail, character):
            stay = self._stay(tail)
            return stay is None or all(stay)
        return True


def _closes(begun: str, character: str) -> bool:
    return len(begun) > 1 and character == _CLOSING[begun[0]]


def _told_apart(pieces: Sequence[_Piece]) -> Iterator[tuple[bool, _Piece]]:
    """Each with whether it is of a number; a token without text is of what it follows."""
    of_number = False
    for piece in pieces:
        of_number = piece[0] in _DIGITS if piece[0] else of_number
        yield of_number, piece


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
