"""What nobody should read by accident: numbers of people and cards, addresses, keys.

Found by their form and, where they have one, by their check digit (GB 11643 for identity cards, Luhn for bank cards).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date

from arkway.backends.moderation.patterns import Pattern
from arkway.backends.moderation.scanning import Hit, Span
from arkway.backends.moderation.settings import Personal

NUMBER_WIDTH = 40
EMAIL_WIDTH = 280
KEY_WIDTH = 280

_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WORD = _DIGITS + _LETTERS
_SHORTEST, _LONGEST = 11, 19

_GROUP = re.compile(r"(?<![0-9A-Za-z])[0-9]")
_MOBILE = re.compile(r"(?:0086|86)?1[3-9][0-9]{9}")
_ID_CARD = re.compile(r"[1-9][0-9]{16}[0-9Xx]")
_BANK_CARD = re.compile(r"[2-6][0-9]{12,18}")
_DOUBLED = {str(value): sum(divmod(2 * value, 10)) for value in range(10)}
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?\.){1,5}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_EMAIL_OPENS = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-]")

_KEYS = (
    ("ark-", r"[A-Za-z0-9-]{16,200}"),  # ours
    ("sk-", r"[A-Za-z0-9_-]{20,200}"),
    ("AKLT", r"[A-Za-z0-9]{16,200}"),
    ("AKTP", r"[A-Za-z0-9]{16,200}"),
    ("AKIA", r"[0-9A-Z]{16}"),
    ("LTAI", r"[A-Za-z0-9]{12,30}"),
    ("AIza", r"[0-9A-Za-z_-]{35}"),
    ("ghp_", r"[A-Za-z0-9]{36}"),
    ("github_pat_", r"[A-Za-z0-9_]{40,200}"),
    ("hf_", r"[A-Za-z0-9]{30,200}"),
    ("gsk_", r"[A-Za-z0-9]{30,200}"),
    ("xox", r"[abprs]-[A-Za-z0-9-]{10,200}"),
)
_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(re.escape(head) + tail for head, tail in _KEYS)})(?![A-Za-z0-9])")


def _partly(word: str) -> str:
    """An expression for any beginning of the word that a text ends with, and for the word itself."""
    inner = ""
    for char in reversed(word):
        inner = f"{re.escape(char)}(?:\\Z|{inner})" if inner else re.escape(char)
    return inner


_KEY_OPENS = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_partly(head) for head, _ in _KEYS)})")


def personal_patterns(kinds: Iterable[Personal], hit: Hit) -> tuple[Pattern, ...]:
    """The patterns that find what is of these kinds: first what may have numbers within it."""
    wanted = frozenset(kinds)
    patterns: list[Pattern] = []
    if "email" in wanted:
        patterns.append(Pattern(hit, EMAIL_WIDTH, _email, f"{_WORD}._%+-@", _EMAIL_OPENS.search, narrow=True))
    if "api_key" in wanted:
        patterns.append(Pattern(hit, KEY_WIDTH, _key, f"{_WORD}_-", _KEY_OPENS.search, narrow=True))
    if wanted & _NUMBERS.keys():
        find = _finding(tuple(kind for kind in _NUMBERS if kind in wanted))
        patterns.append(Pattern(hit, NUMBER_WIDTH, find, f"{_DIGITS} -Xx", _GROUP.search, narrow=True))
    return tuple(patterns)


def is_mobile(digits: str) -> bool:
    """A number of a Chinese mobile phone, perhaps with the country's code."""
    return _MOBILE.fullmatch(digits) is not None


def is_id_card(digits: str) -> bool:
    """An identity card's number: 17 digits with a date of birth, and their check digit."""
    if _ID_CARD.fullmatch(digits) is None:
        return False
    try:
        date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _ID_WEIGHTS, strict=False))
    return _ID_CHECKS[total % 11] == digits[17].upper()


def is_bank_card(digits: str) -> bool:
    """A card's number: 13 to 19 digits, the last of which is Luhn's check digit."""
    if _BANK_CARD.fullmatch(digits) is None:
        return False
    return (sum(map(int, digits[::-2])) + sum([_DOUBLED[digit] for digit in digits[-2::-2]])) % 10 == 0


_NUMBERS: dict[Personal, Callable[[str], bool]] = {
    "id_card": is_id_card,
    "bank_card": is_bank_card,
    "mobile": is_mobile,
}
_FORMS: dict[Personal, tuple[str, tuple[int, ...]]] = {
    "id_card": ("123456789", (18,)),
    "bank_card": ("23456", tuple(range(13, 20))),
    "mobile": ("180", (11, 13, 15)),
}
"""How each can begin, and how many digits it can have."""
_RUN = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?:[ -][0-9]+)*")
_SEPARATOR = re.compile(r"[ -]")

_Tests = dict[str, list[tuple[int, Callable[[str], bool]]]]
"""By the digit that a number begins with: how many it can have, the most first, and what else it has to be."""


def _finding(kinds: tuple[Personal, ...]) -> Callable[[str, int], Span | None]:
    """Finds numbers that are written in groups with a blank or a hyphen between them, or in one."""
    tests: _Tests = {digit: [] for digit in _DIGITS}
    for kind in kinds:
        firsts, lengths = _FORMS[kind]
        for digit in firsts:
            tests[digit] += [(length, _NUMBERS[kind]) for length in lengths]
    for forms in tests.values():
        forms.sort(key=lambda form: -form[0])

    def find(text: str, start: int) -> Span | None:
        for run in _RUN.finditer(text, start):
            if run.end() - run.start() >= _SHORTEST and (found := _in_run(text, run, tests)) is not None:
                return found
        return None

    return find


def _in_run(text: str, run: re.Match[str], tests: _Tests) -> Span | None:
    """The first number that is some whole groups of a run of them, and the longest of those that begin there."""
    groups = _SEPARATOR.split(run[0])
    digits, stop = "".join(groups), len(text)
    begins, ends, place, count = list[tuple[int, int]](), dict[int, int](), run.start(), 0
    for group in groups:
        begins.append((place, count))
        place, count = place + len(group), count + len(group)
        ends[count] = place
        place += 1
    if text[run.end() : run.end() + 1] in ("X", "x") and text[run.end() + 1 : run.end() + 2] not in _WORD_OR_NOTHING:
        digits, ends[count + 1] = digits + "X", run.end() + 1  # the check digit of an identity card
        del ends[count]
    elif text[run.end() : run.end() + 1] in _LETTERS_OR_NOTHING:
        del ends[count]
    for low, first in begins:
        for length, test in tests[digits[first]]:
            high = ends.get(first + length, stop)
            if high < stop and high - low < NUMBER_WIDTH and test(digits[first : first + length]):
                return low, high
    return None


_WORD_OR_NOTHING, _LETTERS_OR_NOTHING = frozenset((*_WORD, "")), frozenset((*_LETTERS, ""))


def _email(text: str, start: int) -> Span | None:
    if text.find("@", start) < 0:
        return None
    found = _EMAIL.search(text, start)
    return None if found is None else found.span()


def _key(text: str, start: int) -> Span | None:
    found = _KEY.search(text, start)
    return None if found is None else found.span()
