"""A model that several upstreams answer for, as one backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from arkway.backends.group.budget import RetryBudget
from arkway.backends.group.chance import Entropy
from arkway.backends.group.choosing import Chance, Choosing
from arkway.backends.group.failover import Failover
from arkway.backends.group.member import GroupMember, MemberReading, nobody
from arkway.backends.group.probing import Probing
from arkway.backends.group.shadow import Copying
from arkway.backends.group.sticking import key_of
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError
from arkway.core.model import Deployment
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy
from arkway.ports import Pushing, Sink

Heeded = Callable[[Deployment, ChatRequest], ChatRequest]


class Group:
    """Implements `arkway.ports.Pushing` over its members.

    A call goes to one member: of those that may be asked, of the lowest priority number, by weight, or by what it
    sticks to. If that fails before the first event of its answer, and it is not the caller's mistake, the next one is
    asked, as far as the policy's ``attempts`` and the retry budget go; after the first event a failure is the call's.
    What callers are told is the last failure, or a member's wish to be left alone for a while if one had it.
    """

    def __init__(
        self,
        value: GroupValue,
        backend_of: Callable[[Member], Pushing],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        chance: Chance | None = None,
        copying: Copying | None = None,
        before: Group | None = None,
    ) -> None:
        """``clock_s`` does not go back; ``chance`` is the system's entropy unless given. ``copying`` makes the shadows'
        copies. ``before`` is the group whose place this one takes: what is known of members that stay, with the same
        backend, is not forgotten."""
        policy = value.policy
        self.value = value
        self.name = value.card.served_name
        self.clock_s = clock_s
        known = before.members if before is not None else ()
        self.members: tuple[GroupMember, ...] = tuple(
            _member(member, backend_of(member), policy, known) for member in value.members
        )
        self._attempts = max(1, policy.attempts)
        self._budget = RetryBudget(policy.retry_share)
        self._calls = self._budget.calls
        self._choosing = Choosing(self.members, chance or Entropy())
        self._only = self._choosing.only
        self._sticks = policy.stick_to != "nothing"
        self._copying = copying or Copying(clock_s)
        self._shadows = tuple(member for member in self.members if member.value.role == "shadow")
        seen = (member.pushing for member in self.members if member.value.role != "shadow")
        self._heeding: tuple[Heeded, ...] = tuple(
            heeded for each in seen if (heeded := getattr(each, "heeded", None)) is not None
        )
        self._normal = tuple(member for member in self.members if member.value.role == "normal")
        self._probing = Probing(value.card, self.members, policy.probe_s, clock_s)

    @property
    def running(self) -> int:
        """Calls and copies under way."""
        return sum(member.running for member in self.members)

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Failover:
        """As `arkway.ports.Pushing.start`. Raises at once, without asking anybody, when no member may be asked."""
        now_s = self.clock_s()
        calls = self._calls
        if now_s >= calls.next_s:
            calls.turn(now_s)
        calls.goods += 1
        key = key_of(self.value.policy, request, call) if self._sticks else b""
        member = self._only
        if member is None or not member.ready(now_s):
            member = self._choosing.first(key, now_s)
            if member is None:
                raise self.stuck(now_s)
        running = Failover(self, deployment, request, call, sink, key)
        running.begin(member)
        for member in self._shadows:
            if self._choosing.falls(member.value.share):
                self._copying.copy(member, deployment, request, call)
        return running

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        """As `arkway.ports.Heeding.heeded`: without effect is what any member whose answers are seen ignores."""
        if len(self._heeding) == 1:
            return self._heeding[0](deployment, request)
        ignored: dict[str, None] = {}
        for heeded in self._heeding:
            ignored.update(dict.fromkeys(heeded(deployment, request).ignored))
        told = tuple(ignored)
        return request if not self._heeding or told == request.ignored else replace(request, ignored=told)

    def way(self, key: bytes, asked: Sequence[GroupMember], now_s: float) -> GroupMember | None:
        """Where a call goes next that these have been asked already; one that nobody has been asked is a new call."""
        if not asked:
            self._calls.add_good(now_s)
            return self._choosing.first(key, now_s)
        if len(asked) >= self._attempts:
            return None
        member = self._choosing.next(key, asked, now_s)
        if member is None:
            return None
        shut_out = not asked[-1].ready(now_s)
        return member if self._budget.take(now_s, well=member.well, shut_out=shut_out) else None

    def stuck(self, now_s: float) -> ArkwayError:
        """What a call is told that may go nowhere."""
        return nobody([refusal for member in self._normal if (refusal := member.rested(now_s)) is not None])

    def begin(self) -> None:
        """Starts the probes, if the policy has any; in the event loop."""
        self._probing.begin()

    async def aclose(self) -> None:
        """Stops the probes. Calls under way go on."""
        await self._probing.aclose()

    def readings(self) -> tuple[MemberReading, ...]:
        now_s = self.clock_s()
        return tuple(member.reading(self.name, now_s) for member in self.members)


def _member(value: Member, pushing: Pushing, policy: Policy, known: Sequence[GroupMember]) -> GroupMember:
    """With what is known of it, where the same model of the same server was a member before."""
    same = (each for each in known if each.pushing is pushing and each.value.model == value.model)
    return GroupMember(value, pushing, policy, next(same, None))
