"""A group over members that the test moves by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arkway.backends.group import Group
from arkway.backends.group.failover import Failover
from arkway.backends.group.member import GroupMember
from arkway.backends.group.shadow import Copying
from arkway.core.chat import ChatRequest
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy
from arkway.testing import CHAT_CARD
from tests.tools.pushing import CALL, DEPLOYMENT, Clock, Dice, Kept, Puppet, asks

MakeScene = Callable[..., "Scene"]


class Scene:
    """``puppets`` are the members' backends by the upstreams' names."""

    def __init__(self, members: tuple[Member, ...], policy: Policy) -> None:
        self.clock = Clock()
        self.puppets = {member.upstream: Puppet() for member in members}
        value = GroupValue(card=CHAT_CARD, members=members, policy=policy)
        self.group = self.made(value)

    def made(self, value: GroupValue, before: Group | None = None) -> Group:
        copying = Copying(self.clock, self.clock.later)
        return Group(value, self._puppet, clock_s=self.clock, chance=Dice(), copying=copying, before=before)

    def _puppet(self, member: Member) -> Puppet:
        return self.puppets[member.upstream]

    def __getitem__(self, name: str) -> Puppet:
        return self.puppets[name]

    def member(self, name: str) -> GroupMember:
        return next(member for member in self.group.members if member.name == name)

    def call(self, request: ChatRequest | None = None) -> tuple[Failover, Kept]:
        sink = Kept()
        return self.group.start(DEPLOYMENT, request or asks(), CALL, sink), sink

    def counts(self, name: str) -> tuple[int, int, int]:
        """Calls, failures, retries."""
        member = self.member(name)
        return member.calls, member.failures, member.retries

    def state(self, name: str) -> str:
        return self.member(name).reading("g", self.clock()).condition


@pytest.fixture
def scene() -> MakeScene:
    """Makes a group: ``scene("a", "b", attempts=3)``, or of `Member` values."""

    def make(*members: str | Member, **policy: Any) -> Scene:
        values = tuple(m if isinstance(m, Member) else Member(upstream=m, model="m") for m in members)
        return Scene(values, Policy(**policy))

    return make
