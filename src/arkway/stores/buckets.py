"""Spans of time that usage is summed up in, and which of them together make up a range. Pure; all times are UTC.

``day`` has a sum for each caller; ``day_all`` is the same day with all callers together, so that a year by day, key or
model reads few rows. The rows of one period are made from those of its source, minutes from settled calls.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
RAW = ""

LENGTHS_MS = {"minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS, "day_all": DAY_MS}
# From the finest to the coarsest; none comes before its source.
SOURCES = {"minute": RAW, "hour": "minute", "day": "hour", "day_all": "day", "month": "day"}
PERIODS = tuple(SOURCES)

# Which periods answer what, from the coarsest to the finest.
WITH_CALLERS = ("month", "day", "hour", "minute")
WITHOUT_CALLERS = ("day_all", "hour", "minute")


class Piece(NamedTuple):
    """Half-open; ``period`` says which rows hold it, `RAW` = the settled calls themselves."""

    period: str
    start_ms: int
    end_ms: int


def start_of(period: str, at_ms: int) -> int:
    """The start of the period that holds the moment."""
    if period == "month":
        day = _date(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return round(day.timestamp() * 1000)
    return at_ms - at_ms % LENGTHS_MS[period]


def end_of(period: str, start_ms: int) -> int:
    """The start of the next one."""
    if period == "month":
        return start_of("month", start_ms + 31 * DAY_MS)
    return start_ms + LENGTHS_MS[period]


def label_of(period: str, at_ms: int) -> str:
    """``2026-11-01 13:00``, ``2026-11-01`` or ``2026-11`` for hour, day and month."""
    return _date(at_ms).strftime({"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}[period])


def _date(at_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC)


def behind(period: str) -> tuple[str, ...]:
    """The periods whose marks say that this one's rows may be behind: its own, its source's, and so on."""
    found: list[str] = []
    while period:
        found.append(period)
        period = SOURCES[period]
    return tuple(found)


class Cover:
    """Cuts a range into the largest spans that are up to date.

    ``marks`` are ``(period, start)`` of spans that are behind. The settled calls of before ``pruned_ms`` (a whole
    minute) are gone: there a range begins and ends at whole minutes, the first and the last included.
    """

    def __init__(self, periods: Sequence[str], marks: Iterable[tuple[str, int]], pruned_ms: int) -> None:
        self._periods, self._pruned_ms = periods, pruned_ms
        known = [(kind, start_ms) for kind, start_ms in marks if kind != "minute" or start_ms >= pruned_ms]
        self._behind = {p: sorted(start_ms for kind, start_ms in known if kind in behind(p)) for p in periods}

    def pieces(self, since_ms: int, until_ms: int) -> list[Piece]:
        """The range, in order and without a gap; neighbours of one kind are one piece."""
        pieces: list[Piece] = []
        self._cover(since_ms, until_ms, 0, pieces)
        return pieces

    def _cover(self, since_ms: int, until_ms: int, level: int, pieces: list[Piece]) -> None:
        if level == len(self._periods):
            self._raw(since_ms, until_ms, pieces)
            return
        period, at_ms = self._periods[level], since_ms
        while at_ms < until_ms:
            start_ms = start_of(period, at_ms)
            end_ms = end_of(period, start_ms)
            if start_ms == at_ms and end_ms <= until_ms and not self._is_behind(period, start_ms, end_ms):
                _add(pieces, period, start_ms, end_ms)
            else:
                self._cover(at_ms, min(end_ms, until_ms), level + 1, pieces)
            at_ms = end_ms

    def _is_behind(self, period: str, start_ms: int, end_ms: int) -> bool:
        starts = self._behind[period]
        place = bisect_left(starts, start_ms)
        return place < len(starts) and starts[place] < end_ms

    def _raw(self, since_ms: int, until_ms: int, pieces: list[Piece]) -> None:
        """Less than a minute, or a minute that is behind."""
        if since_ms >= self._pruned_ms:
            _add(pieces, RAW, since_ms, until_ms)
        else:
            start_ms = start_of("minute", since_ms)
            _add(pieces, "minute", start_ms, start_ms + MINUTE_MS)


def _add(pieces: list[Piece], period: str, start_ms: int, end_ms: int) -> None:
    last = pieces[-1] if pieces else None
    if last is not None and last.period == period and last.end_ms == start_ms:
        pieces[-1] = Piece(period, last.start_ms, end_ms)
    else:
        pieces.append(Piece(period, start_ms, end_ms))
