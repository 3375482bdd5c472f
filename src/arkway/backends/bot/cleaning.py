"""What was found, made harmless: it comes from pages and documents that anybody may have written.

Nothing invisible stays in it, nothing that looks like the fence around it or like what models end a turn with, no
address but one of the web, and nothing that is larger than it can sensibly be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from arkway.core.reference import Cover, Reference

TEXT_MAX_CHARACTERS = 2000
NAME_MAX_CHARACTERS = 512
URL_MAX_CHARACTERS = 2048
EXTRA_MAX_BYTES = 8192
SIZE_MAX = 2**31 - 1
"""Pixels: callers have 32 bits for them."""

_URLS = ("url", "logo_url", "mobile_url")
_TEXTS = ("summary", "doc_title")
_NAMES = (
    "site_name",
    "title",
    "publish_time",
    "freshness_info",
    "collection_name",
    "doc_id",
    "doc_name",
    "doc_type",
    "chunk_id",
    "chunk_title",
    "project",
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_BLANK = "\\s\u2800\ufe0e\ufe0f"
"""Blanks, and what is not seen beside what it belongs to: an emoji's variation."""
_FENCE = "".join(f"[{chr(ord(letter) + 0xFEE0)}{letter}][{_BLANK}]*" for letter in "material")
_OPENING = f"[<＜﹤〈](?=[{_BLANK}/／⁄∕⧸\\\\]*{_FENCE})"
_TURN = "bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|tool_call|tool_response|think|s"
_FORGED = re.compile(
    rf"{_OPENING}|<(?=[|｜]|\[(?:begin|end|pad)|/?(?:{_TURN})>|/?seed:|<?/?SYS>)|\[(?=/?INST\]|gMASK\])", re.IGNORECASE
)
"""What begins a fence, whole or half, in any width and case, or one of the control tokens of models that are about:
not all who serve them keep these apart from what merely reads like them.
"""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")


def plain(text: Any, limit: int) -> str:
    """At most ``limit`` characters of text, all of them to be seen."""
    if not isinstance(text, str):
        text = "" if text is None else str(text)
    return _UNSEEN.sub("", _LINE_ENDS.sub("\n", text[: 2 * limit]))[:limit]


def fenceless(text: str) -> str:
    """Plain text in which nothing opens or closes the fence, or the turn that it stands in."""
    return _FORGED.sub("‹", text)


def line(text: Any, limit: int = NAME_MAX_CHARACTERS) -> str:
    """Plain text on one line, without fences."""
    return fenceless(" ".join(plain(text, limit).split()))


def reference(found: Reference, idx: int) -> Reference:
    """The source as callers get to see it."""
    fields: dict[str, Any] = {name: plain(getattr(found, name), NAME_MAX_CHARACTERS) for name in _NAMES}
    fields |= {name: plain(getattr(found, name), TEXT_MAX_CHARACTERS) for name in _TEXTS}
    fields |= {name: address(getattr(found, name)) for name in _URLS}
    extra = found.extra if bounded(found.extra) else {}
    return Reference(idx=idx, cover=_cover(found.cover), extra=extra, **fields)


def address(url: Any) -> str:
    """The URL, or "" where it is of no scheme of the web or longer than any that works. It may be without a scheme.

    Tabs and line ends are none of it: browsers leave them out, and read what is left.
    """
    text = "".join(plain(url, URL_MAX_CHARACTERS + 1).replace("\t", "\n").split("\n")).strip()
    scheme = _SCHEME.match(text)
    # A name with a dot and a port looks like a scheme.
    of_web = scheme is None or "." in scheme[0] or scheme[0].lower() in ("http", "https")
    return text if of_web and len(text) <= URL_MAX_CHARACTERS else ""


def bounded(value: Mapping[str, Any], limit_bytes: int = EXTRA_MAX_BYTES) -> bool:
    """Whether it can be written as JSON, by what writes answers, and in so many bytes."""
    try:
        return len(orjson.dumps(value)) <= limit_bytes
    except TypeError:  # also for numbers of more than 64 bits, lone surrogates, and what is nested too deep
        return False


def _cover(found: Cover | None) -> Cover | None:
    if found is None or not (url := address(found.url)):
        return None
    sizes = (found.width, found.height)
    return Cover(url, *(size if isinstance(size, int) and 0 < size <= SIZE_MAX else 0 for size in sizes))
