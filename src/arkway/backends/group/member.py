"""One member of a group while it serves: what it is, how it is, and what it has done."""

from __future__ import annotations

from typing import Literal

import msgspec

from arkway.backends.group.breaker import Breaker
from arkway.core.errors import ArkwayError, BackendUnavailable, CallerError, Overloaded, RateLimited
from arkway.core.upstream import Member, Policy
from arkway.ports import Pushing

RETRY_AFTER_MAX_S = 60.0

Condition = Literal["well", "trying", "broken", "unhealthy", "waiting"]


class MemberReading(msgspec.Struct, frozen=True, kw_only=True):
    """A member at one moment. ``calls`` are attempts, ``retries`` those of them that were not the call's first.

    ``condition``: ``well``; ``trying``, one call finds out if it is well again; ``broken``, too many calls failed;
    ``unhealthy``, the last probe failed; ``waiting``, it asked to be left alone for a while.
    """

    group: str
    upstream: str
    model: str
    role: str
    condition: Condition
    running: int
    calls: int
    failures: int
    retries: int
    refusals: int


class GroupMember:
    """A member and its backend. Counters only grow; ``running`` are its calls under way."""

    __slots__ = (
        "breaker",
        "calls",
        "failures",
        "healthy",
        "key",
        "name",
        "pushing",
        "refusal",
        "refusals",
        "rests_until_s",
        "retries",
        "running",
        "value",
        "weight",
        "well",
    )

    def __init__(self, value: Member, pushing: Pushing, policy: Policy, before: GroupMember | None = None) -> None:
        """``before``: the same member of the group whose place this one's takes; what it knows is taken over. Calls
        that are under way there are not this one's, but what becomes of them is still told to the breaker."""
        self.value = value
        self.weight = value.weight
        self.name = value.upstream
        self.pushing = pushing
        self.key = f"{value.upstream}/{value.model}".encode()
        self.breaker = Breaker(policy)
        self.healthy = True
        self.well = True  # the last call that told did not fail
        self.rests_until_s = 0.0
        self.refusal: RateLimited | Overloaded | None = None
        self.running = self.calls = self.failures = self.retries = self.refusals = 0
        if before is not None:
            self._take_over(before)
            self.breaker.follow(policy)

    def ready(self, now_s: float) -> bool:
        """May a call go there?"""
        breaker = self.breaker
        return self.healthy and self.rests_until_s <= now_s and (breaker.state == "closed" or breaker.lets(now_s))

    def enter(self, *, retry: bool) -> bool:
        """A call goes there. True for one whose outcome decides whether others may, as of `Breaker.enter`."""
        self.calls += 1
        self.retries += retry
        self.running += 1
        return self.breaker.state != "closed" and self.breaker.enter()

    def proved(self, now_s: float) -> None:
        """The trying call's answer has begun."""
        self.well = True
        self.breaker.tried(True, now_s)

    def succeeded(self, now_s: float) -> None:
        """A call's answer was complete, or its caller had enough of it."""
        self.running -= 1
        self.well = True
        recent = self.breaker.recent  # as `Breaker.record` does it
        if now_s >= recent.next_s:
            recent.turn(now_s)
        recent.goods += 1

    def abandoned(self, trying: bool) -> None:
        """A call ended in a way that says nothing about the member."""
        self.running -= 1
        if trying:
            self.breaker.released()

    def failed(self, error: ArkwayError, trying: bool, now_s: float) -> None:
        """A call ended with an error: the caller's own mistake, a request to come back later, or a failure."""
        if isinstance(error, CallerError):
            self.abandoned(trying)
        elif isinstance(error, RateLimited | Overloaded):
            self.abandoned(trying)
            self._rest(error, now_s)
        else:
            self._broke(trying, now_s)

    def rested(self, now_s: float) -> RateLimited | Overloaded | None:
        """What to tell a caller now, if it asked to be left alone."""
        if self.refusal is None or self.rests_until_s <= now_s:
            return None
        return type(self.refusal)(self.refusal.message, self.rests_until_s - now_s)

    def reading(self, group: str, now_s: float) -> MemberReading:
        value = self.value
        return MemberReading(
            group=group,
            upstream=value.upstream,
            model=value.model,
            role=value.role,
            condition=self._condition(now_s),
            running=self.running,
            calls=self.calls,
            failures=self.failures,
            retries=self.retries,
            refusals=self.refusals,
        )

    def _take_over(self, before: GroupMember) -> None:
        self.breaker, self.healthy, self.well = before.breaker, before.healthy, before.well
        self.rests_until_s, self.refusal = before.rests_until_s, before.refusal
        self.calls, self.failures, self.retries, self.refusals = (
            before.calls,
            before.failures,
            before.retries,
            before.refusals,
        )

    def _rest(self, error: RateLimited | Overloaded, now_s: float) -> None:
        self.refusals += 1
        self.refusal = capped(error)
        self.rests_until_s = max(self.rests_until_s, now_s + (self.refusal.retry_after_s or 0.0))

    def _broke(self, trying: bool, now_s: float) -> None:
        self.running -= 1
        self.failures += 1
        self.well = False
        if trying:
            self.breaker.tried(False, now_s)
        else:
            self.breaker.record(False, now_s)

    def _condition(self, now_s: float) -> Condition:
        if not self.healthy:
            return "unhealthy"
        if self.breaker.state != "closed":
            return "broken" if self.breaker.state == "open" else "trying"
        return "waiting" if self.rests_until_s > now_s else "well"


def capped(error: RateLimited | Overloaded) -> RateLimited | Overloaded:
    """No upstream sends callers, or a member, away for longer than ``RETRY_AFTER_MAX_S``."""
    after_s = error.retry_after_s
    if after_s is not None and 0 <= after_s <= RETRY_AFTER_MAX_S:
        return error
    return type(error)(error.message, RETRY_AFTER_MAX_S if after_s is None or after_s > 0 else 0.0)


def nobody(rested: list[RateLimited | Overloaded]) -> ArkwayError:
    """What a caller is told when no member may be asked: the soonest moment that one named, if one did."""
    if rested:
        return min(rested, key=lambda refusal: refusal.retry_after_s or 0.0)
    return BackendUnavailable("nothing that serves this model is able to answer just now; try again in a moment")
