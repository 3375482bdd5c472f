"""Two sums over the last seconds, kept in slices of time: what is old falls out a slice at a time."""

from __future__ import annotations

SLICES = 10


class Recent:
    """``good`` and ``bad``: how many were added within the last ``window_s`` seconds, to a tenth of it.

    Every ``now_s`` is a moment of a clock that does not go back. The sums are those of the last moment that was told.
    ``goods`` and ``bads`` are all that were ever added: whoever adds to them has to `turn` before, from ``next_s`` on.
    """

    __slots__ = (
        "_bads_at",
        "_bads_before",
        "_goods_at",
        "_goods_before",
        "_newest",
        "_slice_s",
        "bads",
        "goods",
        "next_s",
    )

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self.goods = self.bads = 0
        self.clear()

    @property
    def good(self) -> int:
        return self.goods - self._goods_before

    @property
    def bad(self) -> int:
        return self.bads - self._bads_before

    def clear(self) -> None:
        """What was added until now counts no more."""
        self._goods_before, self._bads_before = self.goods, self.bads
        self._goods_at = [self.goods] * SLICES
        self._bads_at = [self.bads] * SLICES
        self._newest = -SLICES
        self.next_s = float("-inf")

    def add_good(self, now_s: float) -> None:
        if now_s >= self.next_s:
            self.turn(now_s)
        self.goods += 1

    def add_bad(self, now_s: float) -> None:
        if now_s >= self.next_s:
            self.turn(now_s)
        self.bads += 1

    def turn(self, now_s: float) -> None:
        """Drops what is too old by now."""
        newest = max(self._newest, int(now_s / self._slice_s))
        for begun in range(max(self._newest, newest - SLICES) + 1, newest + 1):
            self._goods_at[begun % SLICES] = self.goods
            self._bads_at[begun % SLICES] = self.bads
        # The place behind the newest slice is that of the oldest one.
        oldest = (newest + 1) % SLICES
        self._goods_before, self._bads_before = self._goods_at[oldest], self._bads_at[oldest]
        self._newest = newest
        self.next_s = (newest + 1) * self._slice_s
