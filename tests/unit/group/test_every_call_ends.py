"""Whatever its members do, a call of a group ends exactly once, and nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.group import Group
from arkway.backends.group.failover import Failover
from arkway.backends.group.shadow import Copying
from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    InvalidField,
    Overloaded,
    RateLimited,
)
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy
from arkway.testing import CHAT_CARD
from tests.tools.pushing import CALL, DEPLOYMENT, Asked, Clock, Dice, Kept, Puppet, asks

ERRORS: tuple[ArkwayError, ...] = (
    BackendUnavailable("x"),
    BackendFailed("x"),
    BackendTimeout("x"),
    RateLimited("x", 2.0),
    Overloaded("x", 1.0),
    InvalidField("n", "is 9"),
)
MEMBERS = (
    Member(upstream="a", model="m"),
    Member(upstream="b", model="m", weight=300),
    Member(upstream="c", model="m", priority=1),
    Member(upstream="canary", model="m", role="canary", share=20.0),
    Member(upstream="shadow", model="m", role="shadow", share=50.0),
)
POLICY = Policy(attempts=3, breaker_calls=3, breaker_window_s=10.0, breaker_open_s=2.0)

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("call", "say", "end", "fail", "cancel", "pause", "resume", "refuse", "admit", "wait")),
        st.integers(0, 5),
    ),
    max_size=80,
)


class Story:
    """A group, and everything that has been asked of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.puppets = {member.upstream: Puppet() for member in MEMBERS}
        value = GroupValue(card=CHAT_CARD, members=MEMBERS, policy=POLICY)
        copying = Copying(self.clock, self.clock.later)
        self.group = Group(
            value, lambda m: self.puppets[m.upstream], clock_s=self.clock, chance=Dice(), copying=copying
        )
        self.calls: list[tuple[Failover, Kept]] = []
        self.left: set[int] = set()

    def under_way(self) -> list[Asked]:
        return [
            asked for puppet in self.puppets.values() for asked in puppet.asked if not (asked.over or asked.cancelled)
        ]

    def call(self, number: int) -> None:
        sink = Kept()
        try:
            self.calls.append((self.group.start(DEPLOYMENT, asks(), CALL, sink), sink))
        except ArkwayError:
            assert not sink.got
            assert not sink.over

    def at(self, number: int, act: Callable[[Asked], None]) -> None:
        if waiting := self.under_way():
            act(waiting[number % len(waiting)])

    def step(self, what: str, number: int) -> None:
        puppet = list(self.puppets.values())[number % len(self.puppets)]
        match what:
            case "call":
                self.call(number)
            case "say":
                self.at(number, Asked.says)
            case "end":
                self.at(number, Asked.ends)
            case "fail":
                self.at(number, lambda asked: asked.fails(ERRORS[number]))
            case "refuse":
                puppet.refuses = ERRORS[number]
            case "admit":
                puppet.refuses = None
            case "wait":
                self.clock.pass_(number)
            case _ if self.calls:
                place = number % len(self.calls)
                getattr(self.calls[place][0], what)()
                if what == "cancel" and not self.calls[place][1].over:
                    self.left.add(place)

    def finish(self) -> None:
        for puppet in self.puppets.values():
            puppet.refuses = None
        while waiting := self.under_way():
            waiting[0].answers()


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_every_call_gets_one_end_unless_its_caller_left(steps: list[Step]) -> None:
    story = Story()
    for what, number in steps:
        story.step(what, number)
    story.finish()
    for place, (_, sink) in enumerate(story.calls):
        assert sink.ends == (place not in story.left)
    assert story.group.running == 0
    assert story.clock.alarms == []
    assert all(member.running == 0 for member in story.group.members)
    story.clock.pass_(60.0)
    # Nobody is left half open with nobody trying: the next calls find everything well again.
    for _ in range(20):
        story.call(0)
        story.finish()
    assert {reading.condition for reading in story.group.readings() if reading.role == "normal"} <= {"well", "broken"}
    normal = [reading for reading in story.group.readings() if reading.upstream in "ab"]
    assert any(reading.condition == "well" for reading in normal)
