"""How many retries a group may make: when everything fails, asking again makes it worse."""

from __future__ import annotations

from arkway.backends.group.recent import Recent

WINDOW_S = 10.0
SPARE = 100
"""Retries within the window that need no calls to their account, if they go to a member that is well."""


class RetryBudget:
    """Retries as a share of the calls of the last ten seconds.

    When every member is known to fail, retries are at most ``share`` of the calls. By that alone a group with few
    calls, or one whose first calls meet a dead member, would never get over it: so a retry at a member that is not
    known to fail is made as long as there are fewer than ``SPARE``.
    """

    __slots__ = ("_recent", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._recent = Recent(WINDOW_S)

    def called(self, now_s: float) -> None:
        """One more call, whatever becomes of it."""
        self._recent.add_good(now_s)

    def take(self, now_s: float, *, well: bool) -> bool:
        """May one more retry be made? It is counted then. ``well``: where it goes, the last call did not fail."""
        if self._share <= 0:
            return False
        recent = self._recent
        recent.turn(now_s)
        if recent.bad + 1 > self._share * recent.good and not (well and recent.bad < SPARE):
            return False
        recent.add_bad(now_s)
        return True
