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
_LONGEST = 19

_GROUP = re.compile(r"(?<![0-9A-Za-z])[0-9]")
_MOBILE = re.compile(r"(?:0086|86)?1[3-9][0-9]{9}")
_ID_CARD = re.compile(r"[1-9][0-9]{16}[0-9Xx]")
_BANK_CARD = re.compile(r"[2-6][0-9]{12,18}")
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
    """The patterns that find what is of these kinds."""
    wanted = frozenset(kinds)
    tests = tuple(test for kind, test in _NUMBERS.items() if kind in wanted)
    patterns: list[Pattern] = []
    if tests:
        patterns.append(Pattern(hit, NUMBER_WIDTH, _finding(tests), f"{_DIGITS} -Xx", _GROUP.search))
    if "email" in wanted:
        patterns.append(Pattern(hit, EMAIL_WIDTH, _email, f"{_WORD}._%+-@", _EMAIL_OPENS.search))
    if "api_key" in wanted:
        patterns.append(Pattern(hit, KEY_WIDTH, _key, f"{_WORD}_-", _KEY_OPENS.search))
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
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(sum(divmod(2 * value, 10)) for value in values[1::2])) % 10 == 0


_NUMBERS: dict[Personal, Callable[[str], bool]] = {
    "id_card": is_id_card,
    "bank_card": is_bank_card,
    "mobile": is_mobile,
}


def _finding(tests: tuple[Callable[[str], bool], ...]) -> Callable[[str, int], Span | None]:
    """Finds numbers that are written in groups with a blank or a hyphen between them, or in one."""

    def find(text: str, start: int) -> Span | None:
        while (group := _GROUP.search(text, start)) is not None:
            low = group.start()
            for digits, high in reversed(_candidates(text, low)):
                if any(test(digits) for test in tests):
                    return low, high
            start = low + 1
        return None

    return find


def _candidates(text: str, low: int) -> list[tuple[str, int]]:
    """The numbers that begin here, each some whole groups, and where they end."""
    stop = min(len(text), low + NUMBER_WIDTH)
    found: list[tuple[str, int]] = []
    digits, index = "", low
    while len(digits) <= _LONGEST:
        end = index
        while end < stop and text[end] in _DIGITS and end - low <= NUMBER_WIDTH:
            end += 1
        if end in (index, stop):
            break
        digits += text[index:end]
        if len(digits) == 17 and text[end] in "Xx" and text[end + 1 : end + 2] not in _WORD_OR_NOTHING:
            found.append((digits + "X", end + 1))
        if text[end] not in _LETTERS:
            found.append((digits, end))
        if text[end] not in " -":
            break
        index = end + 1
    return found


_WORD_OR_NOTHING = frozenset((*_WORD, ""))


def _email(text: str, start: int) -> Span | None:
    if text.find("@", start) < 0:
        return None
    found = _EMAIL.search(text, start)
    return None if found is None else found.span()


def _key(text: str, start: int) -> Span | None:
    found = _KEY.search(text, start)
    return None if found is None else found.span()
