"""Forbidden words, found in a text that comes in pieces.

What may yet become a word is held back, and nothing else: the longest end of the text that a word begins with, which
mostly is empty. As a match can begin in no earlier place, the search begins there with every piece, and needs no more
memory than that.

Pieces are short and mostly clean, and that they are is found out by looking up the beginnings of words, which is faster
than an automaton whose first state has thousands of ways to go on. The automaton says what is in those that are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from arkway.backends.moderation.folding import ODD, Folded, Folding, Units, characters
from arkway.backends.moderation.scanning import Hit, Span, masked
from arkway.core.errors import Misconfigured

WORDS_MAX = 200_000
WORD_MAX_CHARS = 64
FILE_MAX_BYTES = 64 << 20
HITS = ("violence", "severe_violation")
ACTIONS = ("block", "mask")

_BEGINNING, _WORD = 1, 2


class WordList:
    """Words, each with what it means to find it. Raises Misconfigured where the extra ``moderation`` is missing.

    Of two words that fold to the same one, the one that blocks counts. ``count``: those that can be found; ``unheard``:
    those of which nothing is left, as all of it is passed over.
    """

    def __init__(self, words: Mapping[str, Hit], *, ignore_separators: bool = False) -> None:
        self.folding = Folding(words, ignore_separators=ignore_separators)
        found: dict[str, Hit] = {}
        for word, hit in words.items():
            folded = self.folding.word(word)
            if folded and (folded not in found or hit.blocks):
                found[folded] = hit
        automaton = _automaton()
        for word, hit in found.items():
            automaton.add_word(word, (len(word), hit))
        if found:
            automaton.make_automaton()
        self.count = len(found)
        self.unheard = sum(not self.folding.word(word) for word in words)
        self.longest = max(map(len, found), default=0)
        self.kinds: dict[str, int] = {}
        for word in found:
            for stop in range(1, len(word)):
                part = word[:stop]
                self.kinds[part] = self.kinds.get(part, 0) | _BEGINNING
            self.kinds[word] = self.kinds.get(word, 0) | _WORD
        self.search: Callable[[str], Iterable[tuple[int, tuple[int, Hit]]]] = automaton.iter
        self._given, self._ignore_separators = found, ignore_separators

    def clean_until(self, letters: str) -> int:
        """Where the longest end of a folded text begins that a word begins with; −1 where there is a word in it."""
        kind_of, count = self.kinds.get, len(letters)
        hold = count
        for start, letter in enumerate(letters):
            kind, stop = kind_of(letter), start + 1
            while kind is not None:
                if kind & _WORD:
                    return -1
                if stop == count:
                    hold = min(hold, start)
                    break
                stop += 1
                kind = kind_of(letters[start:stop])
        return hold

    def held_from(self, letters: str) -> int:
        """As `clean_until`, whatever is in the text."""
        kind_of, count = self.kinds.get, len(letters)
        starts = range(max(0, count - self.longest + 1), count)
        return next((start for start in starts if kind_of(letters[start:], 0) & _BEGINNING), count)

    def scanner(self, units: Units = characters) -> WordScanner:
        return WordScanner(self, units)

    def apart(self) -> tuple[WordList | None, WordList | None]:
        """Those of the words that block, and those that mask; itself where they are all of one kind."""
        blocking = {word: hit for word, hit in self._given.items() if hit.blocks}
        masking = {word: hit for word, hit in self._given.items() if not hit.blocks}
        if not blocking or not masking:
            return (self, None) if blocking else (None, self if masking else None)
        separators = self._ignore_separators
        return WordList(blocking, ignore_separators=separators), WordList(masking, ignore_separators=separators)


def read_words(paths: Iterable[Path], default: Hit) -> dict[str, Hit]:
    """The words of files: one a line, perhaps a tab and ``block`` or ``mask``, perhaps another and a type of hit.

    Empty lines and lines that begin with ``#`` say nothing. Raises Misconfigured with the file and the line.
    """
    words: dict[str, Hit] = {}
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            if line.strip() and not line.startswith("#"):
                word, hit = _entry(line, default, f"{path}, line {number}")
                words[word] = hit if word not in words or hit.blocks else words[word]
        if len(words) > WORDS_MAX:
            raise Misconfigured(f"{path}: more than {WORDS_MAX} words of moderation; split them over strategies")
    return words


class WordScanner:
    """Implements `arkway.backends.moderation.scanning.Scanner` for the words of one list."""

    __slots__ = ("_gone", "_held", "_masks", "_seen", "_units", "_words", "found", "masks")

    def __init__(self, words: WordList, units: Units = characters) -> None:
        self._words, self._units = words, units
        self.found: Hit | None = None
        self.masks = False
        self._held = ""  # what may yet become a word
        self._gone = 0  # how much of it has gone out all the same
        self._seen = 0  # how many folded characters of it were searched
        self._masks: list[Span] = []  # what of it is masked

    def feed(self, piece: str, *, final: bool = False) -> str:
        text = self._held + piece
        words = self._words
        letters = text.translate(words.folding.table)
        folded: Folded | None = None
        if ODD in letters or (self._units is not characters and "\\" in text):
            folded = self._folded(text, final)
            letters = folded.text
        elif (hold := words.clean_until(letters)) >= 0:
            count = len(letters)
            if final:
                hold = count
            out = masked(text, self._masks, self._gone, hold) if self._masks else text[self._gone : hold]
            self._keep(text, hold, count - hold)
            return out
        if (cut := self._searched(text, folded, letters)) is not None:
            return masked(text, self._masks, self._gone, max(cut, self._gone))
        hold = self._held_from(text, folded, letters, final)
        out = masked(text, self._masks, self._gone, max(hold, self._gone))
        self._keep(text, hold, len(letters) - (hold if folded is None else folded.from_(hold)))
        return out

    def release(self) -> str:
        held = self._held
        if self._gone >= len(held):
            return ""
        folded = self._folded(held, final=True)
        cut = self._searched(held, folded, folded.text)
        out = masked(held, self._masks, self._gone, len(held) if cut is None else max(cut, self._gone))
        self._gone = len(held)
        return out

    def _folded(self, text: str, final: bool) -> Folded:
        units, length = self._units(text)
        if final and length < len(text):
            units += [(char, length + index, length + index + 1) for index, char in enumerate(text[length:])]
            length = len(text)
        return self._words.folding.folded(units, length, final=final)

    def _searched(self, text: str, folded: Folded | None, letters: str) -> int | None:
        """Adds what is to be masked; where the text has to end, if it has to. ``folded`` None: every folded character
        stands for the one in its place."""
        cut, cut_end, cutting = len(text), -1, None
        for end, (length, hit) in self._words.search(letters):
            if end < self._seen:
                continue
            if cutting is not None and end > cut_end:
                break
            start = end - length + 1
            low, high = (start, end + 1) if folded is None else (folded.starts[start], folded.ends[end])
            if not hit.blocks:
                self._masks.append((low, high))
                self.masks = True
            elif cutting is None or low < cut:
                cut, cut_end, cutting = low, end, hit
        self.found = cutting
        return None if cutting is None else cut

    def _held_from(self, text: str, folded: Folded | None, letters: str, final: bool) -> int:
        if final:
            return len(text)
        hold = self._words.held_from(letters)
        if folded is None:
            return hold
        return min(folded.settled, folded.starts[hold] if hold < len(letters) else len(text))

    def _keep(self, text: str, hold: int, seen: int) -> None:
        self._held, self._seen = text[hold:], seen
        self._gone = max(0, self._gone - hold)
        if self._masks:
            self._masks = [(max(0, low - hold), high - hold) for low, high in self._masks if high > hold]


def _automaton() -> Any:
    try:
        from ahocorasick import Automaton
    except ImportError:
        raise Misconfigured(
            "words of moderation need the extra `moderation`: install it with `pip install 'arkway[moderation]'`"
        ) from None
    return Automaton()


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise Misconfigured(f"the file of words {path} is larger than {FILE_MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read the file of words {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"the file of words {path} is not in UTF-8") from None


def _entry(line: str, default: Hit, where: str) -> tuple[str, Hit]:
    word, *more = (part.strip() for part in line.split("\t"))
    action, kind = (*more, "", "")[:2]
    if len(more) > 2 or action not in (*ACTIONS, "") or kind not in (*HITS, ""):
        raise Misconfigured(
            f"{where}: a line is a word, and after tabs perhaps {' or '.join(ACTIONS)}, and {' or '.join(HITS)}"
        )
    if len(word) > WORD_MAX_CHARS:
        raise Misconfigured(f"{where}: a word has at most {WORD_MAX_CHARS} characters")
    return word, Hit(action == "block" if action else default.blocks, kind or default.type)
