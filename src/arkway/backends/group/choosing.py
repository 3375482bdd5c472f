"""Which member a call goes to: by priority, then by weight or by what the call sticks to; canaries by their share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import groupby

from arkway.backends.group.member import GroupMember
from arkway.backends.group.sticking import point, score

Chance = Callable[[], float]
"""Gives numbers in [0, 1), evenly."""


class Choosing:
    """Chooses among members. A key, where there is one, takes the place of chance."""

    def __init__(self, members: Sequence[GroupMember], chance: Chance) -> None:
        self._chance = chance
        self._canaries = tuple(member for member in members if member.value.role == "canary")
        normal = [member for member in members if member.value.role == "normal" and member.value.weight > 0]
        normal.sort(key=_priority)
        self._levels = tuple(tuple(level) for _, level in groupby(normal, _priority))
        self._weights = tuple(sum(member.weight for member in level) for level in self._levels)

    def first(self, key: bytes, now_s: float) -> GroupMember | None:
        """Where a call goes; None when no member may be asked."""
        if self._canaries and (canary := self._canary(key)) is not None and canary.ready(now_s):
            return canary
        if not key and self._levels:
            # Nearly always all of them may be asked; where the drawn one may not, a new draw among the others is fair.
            member = self._drawn(self._levels[0], self._weights[0])
            if member.ready(now_s):
                return member
        return self.next(key, (), now_s)

    @property
    def only(self) -> GroupMember | None:
        """The one that all calls go to while it can be asked, if there is but one."""
        if self._canaries or len(self._levels) != 1 or len(self._levels[0]) != 1:
            return None
        return self._levels[0][0]

    def next(self, key: bytes, asked: Collection[GroupMember], now_s: float) -> GroupMember | None:
        """Where a call goes that these have been asked before: to a normal member."""
        for level, weight in zip(self._levels, self._weights, strict=True):
            ready = [member for member in level if member.ready(now_s) and member not in asked]
            if len(ready) > 1:
                whole = weight if len(ready) == len(level) else sum(member.weight for member in ready)
                return _best(ready, key) if key else self._drawn(ready, whole)
            if ready:
                return ready[0]
        return None

    def falls(self, share: float) -> bool:
        """True for ``share`` per cent of the times."""
        return share > 0 and self._chance() * 100 < share

    def _drawn(self, ready: Sequence[GroupMember], weight: int) -> GroupMember:
        left = self._chance() * weight
        for member in ready:
            left -= member.weight
            if left < 0:
                return member
        return ready[-1]

    def _canary(self, key: bytes) -> GroupMember | None:
        left = 100 * (point(key, b"canary") if key else self._chance())
        for canary in self._canaries:
            left -= canary.value.share
            if left < 0:
                return canary
        return None


def _best(ready: Sequence[GroupMember], key: bytes) -> GroupMember:
    return max(ready, key=lambda member: score(key, member.key, member.weight))


def _priority(member: GroupMember) -> int:
    return member.value.priority
