"""Where an answer's knowledge comes from: one structure for web pages, other sources of the web, and documents."""

from __future__ import annotations

from typing import Any

import msgspec


class Cover(msgspec.Struct, frozen=True):
    """A picture that goes with a source; sizes in pixels, 0 = not known."""

    url: str = ""
    width: int = 0
    height: int = 0


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """One source of an answer (protocol §6.2). What does not apply is empty.

    ``idx`` counts from 0 within one answer, in which it is cited as ``[idx + 1]``. ``publish_time`` is text as callers
    know it: ``2025年04月08日 10:30:00(CST) 星期二``. ``extra`` is what only one kind of source has, such as ``aqi``,
    ``city`` and ``condition`` of the weather. ``doc_title`` is the path of headings, and the last of them once more on
    a line of its own; ``project`` the project of the collection.
    """

    idx: int = 0
    url: str = ""
    logo_url: str = ""
    mobile_url: str = ""
    site_name: str = ""
    title: str = ""
    summary: str = ""
    publish_time: str = ""
    freshness_info: str = ""
    cover: Cover | None = None
    extra: dict[str, Any] = {}
    collection_name: str = ""
    doc_id: str = ""
    doc_name: str = ""
    doc_type: str = ""
    doc_title: str = ""
    chunk_id: str = ""
    chunk_title: str = ""
    project: str = ""
