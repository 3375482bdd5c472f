"""Health as a generated token: who is passed over, and who is found again."""

from __future__ import annotations

import asyncio

import pytest

from arkway.backends.group.member import GroupMember
from arkway.backends.group.probing import Probing, generate_token
from arkway.core.errors import BackendFailed, BackendTimeout, BackendUnavailable, InvalidField, Overloaded, RateLimited
from arkway.core.events import Progress
from arkway.core.upstream import Member, Policy
from arkway.testing import CHAT_CARD, EMBEDDING_CARD
from tests.tools.pushing import DEPLOYMENT, END, WORD, Asked, Clock, Puppet
from tests.tools.waiting import soon
from tests.unit.group.conftest import MakeScene

A_WHILE_S = 30.0


async def token(puppet: Puppet, token_max_s: float = A_WHILE_S) -> asyncio.Task[None]:
    task = asyncio.ensure_future(generate_token(puppet, DEPLOYMENT, token_max_s))
    await soon(lambda: puppet.asked)
    return task


async def test_a_probe_asks_for_one_token_and_wants_no_more() -> None:
    puppet = Puppet()
    probe = await token(puppet)
    asked = puppet.last
    assert (asked.request.max_tokens, asked.call.account) == (1, "")
    asked.says((Progress(1, 1),))
    await asyncio.sleep(0)
    assert not probe.done()
    asked.says(WORD)
    await probe
    assert asked.cancelled


@pytest.mark.parametrize("before", [(), (Progress(1, 1),)])
async def test_an_answer_without_a_token_is_none(before: tuple[Progress, ...]) -> None:
    puppet = Puppet()
    probe = await token(puppet)
    if before:
        puppet.last.says(before)
    puppet.last.ends()
    with pytest.raises(BackendFailed):
        await probe


async def test_a_token_that_does_not_come_is_not_waited_for() -> None:
    puppet = Puppet()
    with pytest.raises(BackendTimeout):
        await (await token(puppet, 0.01))
    assert puppet.last.cancelled


def probing(puppet: Puppet, every_s: float = 0.005) -> tuple[Probing, GroupMember]:
    member = GroupMember(Member(upstream="a", model="m"), puppet, Policy())
    return Probing(CHAT_CARD, [member], every_s, Clock(), A_WHILE_S), member


async def test_one_that_gives_no_token_is_unhealthy_until_it_does() -> None:
    puppet = Puppet()
    probes, member = probing(puppet)
    probes.begin()
    try:
        for rounds, healthy in enumerate((False, False, True, False, True), 1):
            await soon(lambda rounds=rounds: len(puppet.asked) >= rounds)  # type: ignore[misc]
            if healthy:
                puppet.last.says(END)
            else:
                puppet.last.fails(BackendFailed("x"))
            await soon(lambda healthy=healthy: member.healthy == healthy)  # type: ignore[misc]
    finally:
        await probes.aclose()
    asked = len(puppet.asked)
    await asyncio.sleep(0.02)
    assert len(puppet.asked) == asked


async def test_one_that_refuses_is_unhealthy_and_one_that_takes_offence_is_not() -> None:
    puppet = Puppet()
    probes, member = probing(puppet)
    puppet.refuses = BackendUnavailable("x")
    await probes.once()
    assert not member.healthy
    for answer in (InvalidField("max_tokens", "is 1"), Overloaded("x"), RateLimited("x", 1.0)):
        member.healthy = False
        puppet.refuses = answer
        await probes.once()
        assert member.healthy


async def test_without_an_interval_nothing_is_asked() -> None:
    puppet = Puppet()
    probes, _ = probing(puppet, 0.0)
    probes.begin()
    await asyncio.sleep(0.02)
    assert puppet.asked == []
    await probes.aclose()


async def test_a_model_that_does_not_chat_is_not_asked_to() -> None:
    puppet = Puppet()
    member = GroupMember(Member(upstream="a", model="m"), puppet, Policy())
    probes = Probing(EMBEDDING_CARD, [member], 0.005, Clock(), A_WHILE_S)
    probes.begin()
    await asyncio.sleep(0.02)
    assert puppet.asked == []
    await probes.aclose()


async def test_a_token_ends_a_breakers_wait(scene: MakeScene) -> None:
    group = scene("a", breaker_calls=1, breaker_open_s=1000.0)
    group.call()
    group["a"].last.fails(BackendFailed("x"))
    with pytest.raises(BackendUnavailable):
        group.call()
    round_ = asyncio.ensure_future(group.group._probing.once())
    await soon(lambda: len(group["a"].asked) == 2)
    group["a"].last.says()
    await round_
    _, sink = group.call()
    assert group.state("a") == "trying"
    group["a"].last.answers()
    assert sink.error is None
    assert group.state("a") == "well"


async def test_probes_are_no_calls_and_go_on_while_everything_is_broken() -> None:
    def acts(asked: Asked) -> None:
        asked.fails(BackendFailed("x"))

    puppet = Puppet(acts)
    probes, member = probing(puppet)
    for _ in range(3):
        round_ = asyncio.ensure_future(probes.once())
        await soon(puppet.act)
        await round_
    assert (member.calls, member.failures, len(puppet.asked)) == (0, 0, 3)


async def test_a_backend_with_a_defect_is_not_well_and_is_asked_again() -> None:
    puppet = Puppet()
    puppet.refuses = ValueError("a defect")
    probes, member = probing(puppet)
    probes.begin()
    await soon(lambda: not member.healthy)
    puppet.refuses = None
    await soon(lambda: not puppet.last.over)
    puppet.last.says(WORD)
    await soon(lambda: member.healthy)
    await probes.aclose()
