"""Copies for members on trial: how many, and that the call itself never notices them."""

from __future__ import annotations

import pytest

from arkway.backends.group import Group
from arkway.backends.group.shadow import COPIES_MAX, COPY_MAX_S, Copying
from arkway.core.errors import ArkwayError, BackendFailed, InvalidField, Overloaded
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member
from arkway.testing import CHAT_CARD
from tests.tools.pushing import CALL, DEPLOYMENT, END, WORD, Clock, Kept, Puppet, asks
from tests.tools.waiting import soon
from tests.unit.group.conftest import MakeScene, Scene


def with_shadow(scene: MakeScene, share: float = 100.0, **policy: object) -> Scene:
    return scene("a", Member(upstream="trial", model="m2", role="shadow", share=share), **policy)


def test_a_copy_is_the_same_call_and_its_answer_is_nobodys(scene: MakeScene) -> None:
    group = with_shadow(scene)
    _, sink = group.call()
    original, copied = group["a"].last, group["trial"].last
    assert (copied.request, copied.call, copied.deployment) == (original.request, original.call, original.deployment)
    copied.says(WORD)
    copied.says(END)
    copied.ends()
    assert sink.got == []
    assert not sink.over
    original.answers()
    assert sink.got == [*WORD, *END]
    assert group.counts("trial") == (1, 0, 0)
    assert group.group.running == 0


def test_so_many_calls_are_copied_as_its_share_says(scene: MakeScene) -> None:
    group = with_shadow(scene, share=10.0)
    for _ in range(5000):
        group.call()
        if group["trial"].asked and not group["trial"].last.over:
            group["trial"].last.answers()
    assert 400 <= len(group["trial"].asked) <= 600
    assert len(group["a"].asked) == 5000


@pytest.mark.parametrize("error", [BackendFailed("x"), Overloaded("x"), InvalidField("n", "is 9")], ids=type)
@pytest.mark.parametrize("how", ["at once", "before", "after"])
def test_what_becomes_of_a_copy_is_not_the_callers(scene: MakeScene, error: ArkwayError, how: str) -> None:
    group = with_shadow(scene)
    if how == "at once":
        group["trial"].refuses = error
    _, sink = group.call()
    if how != "at once":
        if how == "after":
            group["trial"].last.says()
        group["trial"].last.fails(error)
    assert not sink.over
    group["a"].last.answers()
    assert sink.error is None
    assert len(group["trial"].asked) == 1  # a copy is not retried
    assert group.counts("trial")[1] == isinstance(error, BackendFailed)
    assert group.group.running == 0


def test_a_defect_of_its_backend_is_not_the_callers(scene: MakeScene) -> None:
    group = with_shadow(scene)
    group["trial"].refuses = ZeroDivisionError()
    _, sink = group.call()
    group["a"].last.answers()
    assert sink.error is None
    assert group.counts("trial") == (1, 1, 0)


def test_a_call_that_goes_nowhere_is_not_copied(scene: MakeScene) -> None:
    group = with_shadow(scene)
    group["a"].refuses = BackendFailed("x")
    with pytest.raises(BackendFailed):
        group.call()
    assert group["trial"].asked == []


def test_a_copy_outlives_its_call(scene: MakeScene) -> None:
    group = with_shadow(scene)
    running, _ = group.call()
    running.cancel()
    assert not group["trial"].last.cancelled
    group["trial"].last.answers()
    assert group.counts("trial") == (1, 0, 0)


def test_copies_under_way_are_bounded(scene: MakeScene) -> None:
    group = with_shadow(scene)
    for _ in range(COPIES_MAX + 10):
        group.call()
    assert len(group["trial"].asked) == COPIES_MAX
    group["trial"].asked[0].answers()
    group.call()
    group.call()
    assert len(group["trial"].asked) == COPIES_MAX + 1
    assert len(group["a"].asked) == COPIES_MAX + 12


@pytest.mark.parametrize("begun", [True, False])
def test_a_copy_without_end_is_cancelled_whether_anything_comes_or_not(scene: MakeScene, begun: bool) -> None:
    group = with_shadow(scene, breaker_calls=1)
    group.call()
    copied = group["trial"].last
    if begun:
        copied.says()
    group.clock.pass_(COPY_MAX_S - 1)
    assert copied.told == []
    group.clock.pass_(1)
    assert copied.told == ["cancel"]
    assert group.member("trial").running == 0
    assert group.counts("trial") == (1, 0 if begun else 1, 0)
    assert group.state("trial") == ("well" if begun else "broken")


@pytest.mark.parametrize("how", ["ends", "fails", "refuses"])
def test_a_copy_that_is_over_leaves_no_timer(scene: MakeScene, how: str) -> None:
    group = with_shadow(scene)
    if how == "refuses":
        group["trial"].refuses = BackendFailed("x")
    group.call()
    if how == "ends":
        group["trial"].last.answers()
    elif how == "fails":
        group["trial"].last.fails(BackendFailed("x"))
    assert group.clock.alarms == []


async def test_in_a_server_the_timer_is_the_event_loops() -> None:
    trial = Member(upstream="trial", model="m", role="shadow", share=100.0)
    value = GroupValue(card=CHAT_CARD, members=(Member(upstream="a", model="m"), trial))
    puppets = {"a": Puppet(), "trial": Puppet()}
    group = Group(value, lambda m: puppets[m.upstream], copying=Copying(Clock(), copy_max_s=0.01))
    group.start(DEPLOYMENT, asks(), CALL, Kept())
    await soon(lambda: puppets["trial"].last.cancelled)
    assert not puppets["a"].last.cancelled


def test_a_broken_member_on_trial_gets_no_copies_until_one_may_try(scene: MakeScene) -> None:
    group = with_shadow(scene, breaker_calls=2, breaker_open_s=5.0)
    for _ in range(2):
        group.call()
        group["trial"].last.fails(BackendFailed("x"))
    group.call()
    assert len(group["trial"].asked) == 2
    group.clock.pass_(5.0)
    group.call()
    group.call()
    assert len(group["trial"].asked) == 3
    group["trial"].last.answers()
    assert group.state("trial") == "well"
