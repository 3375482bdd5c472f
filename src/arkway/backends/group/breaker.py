"""Stops asking a member that keeps failing, and finds out with single calls when it is well again.

::

    closed ──(too many of the last calls failed)──► open ──(breaker_open_s)──► half open: one call tries
       ▲                                              ▲                             │          │
       └───────────────(its answer begins)────────────┼─────────────────────────────┘          │
                                                      └────────────────(it fails)──────────────┘
"""

from __future__ import annotations

from typing import Literal

from arkway.backends.group.recent import Recent
from arkway.core.upstream import Policy

State = Literal["closed", "open", "half_open"]


class Breaker:
    """One member's. Times are moments of one clock that does not go back, seconds.

    ``recent`` is what became of its last calls. Too many of them failed when they are ``breaker_calls`` at least, and
    ``breaker_ratio`` of them did; or when that many failed one after the other, whatever went well before: of a member
    that had a lot to do a dead one would otherwise get half as many calls again before it is left out.
    """

    __slots__ = ("_goods", "_policy", "_row", "_trying", "_until_s", "recent", "state")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.recent = Recent(policy.breaker_window_s)
        self._goods = self._row = 0
        self._trying = False
        self._until_s = 0.0
        self.state: State = "closed"

    def follow(self, policy: Policy) -> None:
        """Another policy from now on; what it remembers stays, unless that was of another window."""
        if policy.breaker_window_s != self._policy.breaker_window_s:
            self.recent = Recent(policy.breaker_window_s)
            self._goods = self._row = 0
        self._policy = policy

    def lets(self, now_s: float) -> bool:
        """May a call go there?"""
        if self.state == "closed":
            return True
        return not self._trying and now_s >= self._until_s

    def enter(self) -> bool:
        """A call that was let goes there; True for one that tries, whose end is told to `tried` or `released`."""
        if self.state == "closed":
            return False
        self.state = "half_open"
        self._trying = True
        return True

    def tried(self, worked: bool, now_s: float) -> None:
        """What the trying call found."""
        self._trying = False
        if worked:
            self.state = "closed"
            self.recent.clear()
            self._row = 0
        else:
            self._open(now_s)

    def released(self) -> None:
        """The trying call found out nothing: the next one tries."""
        self._trying = False

    def record(self, worked: bool, now_s: float) -> None:
        """What became of any other call; those that began before it opened change nothing until it has closed."""
        recent = self.recent
        if worked:
            recent.add_good(now_s)
            return
        recent.add_bad(now_s)
        if recent.goods != self._goods:
            self._goods, self._row = recent.goods, 0
        self._row += 1
        if self.state == "closed" and self._too_many():
            self._open(now_s)

    def answered(self, now_s: float) -> None:
        """Somebody else has seen it answer: there is nothing to wait for before a call tries."""
        self._until_s = min(self._until_s, now_s)

    def _too_many(self) -> bool:
        policy = self._policy
        good, bad = self.recent.good, self.recent.bad
        if min(bad, self._row) >= policy.breaker_calls:
            return True
        return good + bad >= policy.breaker_calls and bad >= policy.breaker_ratio * (good + bad)

    def _open(self, now_s: float) -> None:
        self.state = "open"
        self._until_s = now_s + self._policy.breaker_open_s
