"""Text of strangers made plain: no markup, no control characters, no lone surrogates, not endless."""

from __future__ import annotations

import html
import re

SUMMARY_MAX_CHARS = 300
TITLE_MAX_CHARS = 300
TEXT_MAX_CHARS = 4000

_INLINE = re.compile(r"</?(?:b|i|em|strong|mark|span|font|sup|sub|u|p|br|hr|a|div|li|ul)\b[^<>]{0,200}>", re.IGNORECASE)
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


def flat(text: str, max_chars: int) -> str:
    """On one line, at most so many characters."""
    return " ".join(_plain(text, max_chars).split())[:max_chars].rstrip()


def asked(text: str, max_chars: int) -> str:
    """A question of a caller's, on one line: what looks like markup in it is what it is about."""
    return " ".join(_UNSEEN.sub("", text).split())[:max_chars].rstrip()


def lines(text: str, max_chars: int) -> str:
    """With its lines, empty ones left out, at most so many characters."""
    plain = _BLANKS.sub(" ", _plain(text, max_chars))
    return _EMPTY_LINES.sub("\n", plain).strip()[:max_chars].rstrip()


def _plain(text: str, max_chars: int) -> str:
    # What markup and blanks take is little beside the text: ten times the length is never needed.
    text = html.unescape(_INLINE.sub("", text[: 10 * max_chars + 1000].replace("\r", "\n")))
    return _UNSEEN.sub("", text.replace("\u2028", "\n").replace("\u2029", "\n"))
