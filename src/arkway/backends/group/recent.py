"""Two sums over the last seconds, kept in slices of time: what is old falls out a slice at a time."""

from __future__ import annotations

SLICES = 10


class Recent:
    """``good`` and ``bad``: how many were added within the last ``window_s`` seconds, to a tenth of it.

    Every ``now_s`` is a moment of a clock that does not go back. The sums are those of the last moment that was told.
    """

    __slots__ = ("_bads", "_goods", "_newest", "_next_s", "_slice_s", "bad", "good")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self.clear()

    def clear(self) -> None:
        self._goods = [0] * SLICES
        self._bads = [0] * SLICES
        self._newest = -SLICES
        self._next_s = float("-inf")
        self.good = self.bad = 0

    def add_good(self, now_s: float) -> None:
        if now_s >= self._next_s:
            self.turn(now_s)
        self._goods[self._newest % SLICES] += 1
        self.good += 1

    def add_bad(self, now_s: float) -> None:
        if now_s >= self._next_s:
            self.turn(now_s)
        self._bads[self._newest % SLICES] += 1
        self.bad += 1

    def turn(self, now_s: float) -> None:
        """Drops what is too old by now."""
        number = int(now_s / self._slice_s)
        for stale in range(max(self._newest, number - SLICES) + 1, number + 1):
            place = stale % SLICES
            self.good -= self._goods[place]
            self.bad -= self._bads[place]
            self._goods[place] = self._bads[place] = 0
        self._newest = max(self._newest, number)
        self._next_s = (self._newest + 1) * self._slice_s
