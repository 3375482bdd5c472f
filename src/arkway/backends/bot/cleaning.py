"""What was found, made harmless: it comes from pages and documents that anybody may have written.

Nothing invisible stays in it, nothing that looks like the fence around it, no address that runs something, and nothing
that is larger than it can sensibly be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from arkway.core.reference import Cover, Reference

TEXT_MAX_CHARACTERS = 2000
NAME_MAX_CHARACTERS = 512
URL_MAX_CHARACTERS = 2048
EXTRA_MAX_BYTES = 8192

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
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_FORGED = re.compile(r"[<＜﹤〈](?=[\s/／]*material)", re.IGNORECASE)
_RUNS = re.compile(r"\s*(?:javascript|vbscript|data|file|blob)\s*:", re.IGNORECASE)


def plain(text: Any, limit: int) -> str:
    """At most ``limit`` characters of text, all of them to be seen."""
    if not isinstance(text, str):
        text = "" if text is None else str(text)
    return _UNSEEN.sub("", _LINE_ENDS.sub("\n", text[: 2 * limit]))[:limit]


def fenceless(text: str) -> str:
    """Plain text in which nothing opens or closes the fence."""
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
    """The URL, or "" where it runs something or is longer than any that works."""
    text = plain(url, URL_MAX_CHARACTERS + 1)
    return "" if len(text) > URL_MAX_CHARACTERS or _RUNS.match(text) else text


def bounded(value: Mapping[str, Any], limit_bytes: int = EXTRA_MAX_BYTES) -> bool:
    """Whether it can be written as JSON, and in so many bytes."""
    try:
        return len(msgspec.json.encode(value)) <= limit_bytes
    except (TypeError, ValueError, RecursionError):
        return False


def _cover(found: Cover | None) -> Cover | None:
    if found is None or not (url := address(found.url)):
        return None
    return Cover(url, *(size if isinstance(size, int) and size > 0 else 0 for size in (found.width, found.height)))
