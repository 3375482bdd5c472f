"""How many retries a group may make: when everything fails, asking again makes it worse."""

from __future__ import annotations

from arkway.backends.group.recent import Recent

WINDOW_S = 10.0
FLOOR = 10
"""Retries within the window that need no calls to their account, if they go to a member that is not known to fail.

As many as a breaker takes to open, as policies have it unless they say otherwise (`Policy.breaker_calls`): the calls by
which a group finds out that a member is dead are not lost, however few calls there were before.
"""


class RetryBudget:
    """Retries as a share of the calls of the last ten seconds, ``calls``, of which those retries are the bad ones.

    What a retry is to be kept from is adding to the work of members that fail. So three things decide:

    - Where it goes, the last call failed: retries are at most ``share`` of the calls.
    - Where it goes, the last call did not fail: `FLOOR` of them may be made in any case. By its share alone a group
      with few calls, or one whose first calls meet a dead member, would never get over it.
    - Besides, where it comes from calls no longer go, by its breaker or by its own wish: it is free. The member that
      failed gets no more calls, and the one that is well no more than would have been its own; there are no more such
      retries than calls were under way when the member was shut out, and one for each call that tries it again. By the
      first failure where they go they are free no longer.
    """

    __slots__ = ("_share", "calls")

    def __init__(self, share: float) -> None:
        self._share = share
        self.calls = Recent(WINDOW_S)

    def take(self, now_s: float, *, well: bool, shut_out: bool = False) -> bool:
        """May one more retry be made? It is counted then, unless it is free.

        ``well``: where it goes, the last call did not fail. ``shut_out``: where it comes from, calls no longer go.
        """
        if self._share <= 0:
            return False
        if well and shut_out:
            return True
        calls = self.calls
        calls.turn(now_s)
        if calls.bad + 1 > self._share * calls.good and not (well and calls.bad < FLOOR):
            return False
        calls.add_bad(now_s)
        return True
