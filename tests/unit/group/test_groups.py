"""All groups together: found by the served model, replaced while calls run, read for metrics."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
import pytest
from msgspec.structs import replace

from arkway.backends.group import Group, Groups, MemberReading
from arkway.core.chat import ChatRequest
from arkway.core.errors import BackendFailed, BackendUnavailable
from arkway.core.model import Deployment
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy
from arkway.testing import CHAT_CARD
from tests.tools.pushing import CALL, DEPLOYMENT, END, WORD, Clock, Dice, Kept, Puppet, asks
from tests.tools.waiting import soon

OTHER = msgspec.structs.replace(CHAT_CARD, name="other")


def group_of(puppet: Puppet, card: object = CHAT_CARD, name: str = "a", **policy: object) -> Group:
    assert isinstance(card, type(CHAT_CARD))
    value = GroupValue(card=card, members=(Member(upstream=name, model="m"),), policy=msgspec.convert(policy, Policy))
    return Group(value, lambda _: puppet, clock_s=Clock(), chance=Dice())


def test_the_group_is_that_of_the_deployed_model() -> None:
    one, two = Puppet(), Puppet()
    groups = Groups([group_of(one), group_of(two, OTHER)])
    groups.start(DEPLOYMENT, asks(), CALL, Kept())
    assert (len(one.asked), len(two.asked)) == (1, 0)
    groups.start(Deployment(DEPLOYMENT.endpoint, OTHER, "upstream"), asks(), CALL, Kept())
    assert (len(one.asked), len(two.asked)) == (1, 1)


def test_a_model_without_a_group_is_not_served() -> None:
    with pytest.raises(BackendUnavailable):
        Groups().start(DEPLOYMENT, asks(), CALL, Kept())


def test_calls_end_where_they_began_and_new_ones_meet_the_new_group() -> None:
    old, new = Puppet(), Puppet()
    groups = Groups([group_of(old)])
    sink = Kept()
    groups.start(DEPLOYMENT, asks(), CALL, sink)
    old.last.says(WORD)
    groups.replace([group_of(new)])
    groups.start(DEPLOYMENT, asks(), CALL, Kept())
    assert (len(old.asked), len(new.asked)) == (1, 1)
    old.last.says(END)
    old.last.ends()
    assert (sink.got, sink.error) == ([*WORD, *END], None)


async def test_probes_follow_the_groups() -> None:
    first, kept, new = Puppet(), Puppet(), Puppet()
    staying = group_of(kept, OTHER, probe_s=0.005)
    groups = Groups([group_of(first, probe_s=0.005), staying])
    await asyncio.sleep(0.01)
    assert first.asked == []
    groups.begin()
    await soon(lambda: first.asked and kept.asked)
    groups.replace([staying, group_of(new, probe_s=0.005)])
    await soon(lambda: new.asked and first.last.cancelled)
    kept.last.says()
    await soon(lambda: len(kept.asked) > 1)
    await groups.aclose()
    assert new.last.cancelled
    assert kept.last.cancelled
    counts = len(first.asked), len(kept.asked), len(new.asked)
    await asyncio.sleep(0.02)
    assert counts == (len(first.asked), len(kept.asked), len(new.asked))


def test_readings_tell_of_every_member() -> None:
    puppet = Puppet()
    groups = Groups([group_of(puppet, name="a"), group_of(Puppet(), OTHER, name="b")])
    groups.start(DEPLOYMENT, asks(), CALL, Kept())
    puppet.last.fails(BackendFailed("x"))
    groups.start(DEPLOYMENT, asks(), CALL, Kept())
    reading = MemberReading(
        group="scripted-chat-1",
        upstream="a",
        model="m",
        role="normal",
        condition="well",
        running=1,
        calls=2,
        failures=1,
        retries=0,
        refusals=0,
    )
    assert groups.readings()[0] == reading
    assert [(one.group, one.upstream, one.calls) for one in groups.readings()[1:]] == [("other-1", "b", 0)]


class Deaf(Puppet):
    """Has no word for the named fields."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        return replace(request, ignored=(*request.ignored, *self._names))


def test_without_effect_is_what_any_member_that_is_seen_ignores() -> None:
    backends = {"a": Deaf("x"), "b": Deaf("x", "y"), "c": Deaf("z"), "d": Puppet()}
    roles: dict[str, Literal["normal", "shadow"]] = {"a": "normal", "b": "normal", "c": "shadow", "d": "normal"}
    members = tuple(
        Member(upstream=name, model="m", role=role, share=5.0 if role == "shadow" else 0.0)
        for name, role in roles.items()
    )
    group = Group(GroupValue(card=CHAT_CARD, members=members), lambda member: backends[member.upstream])
    assert group.heeded(DEPLOYMENT, asks()).ignored == ("x", "y")
