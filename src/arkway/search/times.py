"""Times as callers of bots know them: ``2025年04月08日 10:30:00(CST) 星期二``, in China's time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

CST = timezone(timedelta(hours=8), "CST")
TEXT_MAX_CHARS = 64

_WEEKDAYS = "一二三四五六日"
_SHOWN = re.compile(r"\d{4}年\d{2}月\d{2}日 \d{2}:\d{2}:\d{2}\(CST\) 星期[一二三四五六日]")
_LOOSE = re.compile(
    r"(?P<year>\d{4})\s*[-/.年]\s*(?P<month>\d{1,2})\s*[-/.月]\s*(?P<day>\d{1,2})\s*日?"
    r"(?:[\sT]*(?P<hour>\d{1,2})[:时](?P<minute>\d{1,2})(?:[:分](?P<second>\d{1,2}))?)?"
)
_EPOCH = re.compile(r"\d{10}(?:\d{3})?")


def shown(moment: datetime) -> str:
    """In the callers' form; a moment without a zone is taken for China's."""
    there = moment.replace(tzinfo=CST) if moment.tzinfo is None else moment.astimezone(CST)
    return f"{there:%Y年%m月%d日 %H:%M:%S}(CST) 星期{_WEEKDAYS[there.weekday()]}"


def shown_time(text: str | None) -> str:
    """A time that somebody wrote, in the callers' form; "" where it cannot be read.

    Reads ISO 8601, RFC 5322, epoch seconds and milliseconds, ``2025/4/8 10:30``, ``2025年4月8日``, and its own form.
    """
    text = (text or "").strip()
    if not text or len(text) > TEXT_MAX_CHARS:
        return ""
    if _SHOWN.fullmatch(text):
        return text
    try:
        moment = _read(text)
        return shown(moment) if moment and moment.year >= 1970 else ""
    except (ValueError, OverflowError):
        return ""


def _read(text: str) -> datetime | None:
    """Raises ValueError or OverflowError for what looks like a time and is none."""
    if _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(int(text[:10]), UTC)
    if text[:4].isascii() and text[:4].isdigit():
        return _from_iso(text) or _loosely(text)
    try:
        return parsedate_to_datetime(text)
    except (TypeError, IndexError):
        return None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _loosely(text: str) -> datetime | None:
    found = _LOOSE.match(text)
    if found is None:
        return None
    parts = {name: int(value) for name, value in found.groupdict(default="0").items()}
    return datetime(**parts, tzinfo=CST)
