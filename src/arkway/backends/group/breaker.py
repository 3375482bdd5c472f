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
    """One member's. Times are moments of one clock that does not go back, seconds."""

    __slots__ = ("_policy", "_recent", "_trying", "_until_s", "state")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._recent = Recent(policy.breaker_window_s)
        self._trying = False
        self._until_s = 0.0
        self.state: State = "closed"

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
            self._recent.clear()
        else:
            self._open(now_s)

    def released(self) -> None:
        """The trying call found out nothing: the next one tries."""
        self._trying = False

    def record(self, worked: bool, now_s: float) -> None:
        """What became of any other call; those that began before it opened change nothing until it has closed."""
        if worked:
            self._recent.add_good(now_s)
            return
        self._recent.add_bad(now_s)
        if self.state == "closed" and self._too_many():
            self._open(now_s)

    def answered(self, now_s: float) -> None:
        """Somebody else has seen it answer: there is nothing to wait for before a call tries."""
        self._until_s = min(self._until_s, now_s)

    def _too_many(self) -> bool:
        recent, policy = self._recent, self._policy
        calls = recent.good + recent.bad
        return calls >= policy.breaker_calls and recent.bad >= policy.breaker_ratio * calls

    def _open(self, now_s: float) -> None:
        self.state = "open"
        self._until_s = now_s + self._policy.breaker_open_s
