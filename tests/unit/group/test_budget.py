"""The retry budget: by itself, and as what bounds the work of a group whose members all fail."""

from __future__ import annotations

import pytest

from arkway.backends.group.budget import SPARE, WINDOW_S, RetryBudget
from arkway.core.errors import BackendFailed
from arkway.core.upstream import Member, Policy
from tests.tools.pushing import Clock, Kept
from tests.unit.group.conftest import MakeScene

NEVER_OPENS = {"breaker_calls": 10**9}


def test_retries_at_members_that_fail_are_a_share_of_the_calls() -> None:
    budget = RetryBudget(0.2)
    taken = 0
    for calls in range(1, 1001):
        budget.called(1000.0)
        taken += budget.take(1000.0, well=False)
        assert taken == calls // 5


def test_a_member_that_is_well_may_be_retried_some_more_times() -> None:
    budget = RetryBudget(0.2)
    budget.called(1000.0)
    assert sum(budget.take(1000.0, well=True) for _ in range(1000)) == SPARE
    assert not budget.take(1000.0, well=False)
    assert budget.take(1000.0 + WINDOW_S, well=True)


def test_calls_older_than_the_window_pay_for_nothing() -> None:
    budget = RetryBudget(0.2)
    for _ in range(100):
        budget.called(1000.0)
    assert budget.take(1000.0 + 0.9 * WINDOW_S, well=False)
    assert not budget.take(1000.0 + WINDOW_S, well=False)


def test_a_share_of_nothing_is_no_retry_at_all() -> None:
    budget = RetryBudget(0.0)
    budget.called(1000.0)
    assert not budget.take(1000.0, well=True)


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize("each_s", [0.0, 0.01, 0.5])
def test_when_everything_fails_asking_again_adds_a_fifth_at_most(scene: MakeScene, members: int, each_s: float) -> None:
    """With breakers that never open: by the budget alone."""
    names = [f"m{number}" for number in range(members)]
    group = scene(*names, attempts=members, **NEVER_OPENS)
    calls = 1000
    for _ in range(calls):
        _, sink = group.call()
        while not sink.over:
            asked = next(puppet.last for puppet in group.puppets.values() if puppet.asked and not puppet.last.over)
            asked.fails(BackendFailed("x"))
        group.clock.pass_(each_s)
    attempts = sum(len(group[name].asked) for name in names)
    # Each member is found out to be failing by one retry more.
    assert calls < attempts <= 1.2 * calls + members


def test_a_burst_that_fails_at_once_adds_a_fifth_at_most(scene: MakeScene) -> None:
    group = scene("a", "b", **NEVER_OPENS)
    sinks = [group.call()[1] for _ in range(500)]
    while waiting := [asked for name in "ab" for asked in group[name].asked if not asked.over]:
        for asked in waiting:
            asked.fails(BackendFailed("x"))
    assert all(sink.over for sink in sinks)
    # Half of them fail at the one before anything is known of the other: the spare retries are no more than a share.
    assert len(group["a"].asked) + len(group["b"].asked) <= 1.2 * 500 + 2


def test_with_breakers_it_is_next_to_nothing(scene: MakeScene) -> None:
    group = scene("a", "b")
    clock: Clock = group.clock
    failed = 0
    for _ in range(2000):
        try:
            _, sink = group.call()
        except Exception:
            failed += 1
        else:
            while not sink.over:
                open_ = [asked for name in "ab" for asked in group[name].asked if not asked.over]
                open_[0].fails(BackendFailed("x"))
        clock.pass_(0.01)
    attempts = len(group["a"].asked) + len(group["b"].asked)
    assert failed > 1900
    assert attempts < 100


def test_one_of_two_dead_no_call_is_lost(scene: MakeScene) -> None:
    """One call after the other, from the very first one on, with the dead one found again every five seconds."""
    group = scene("a", Member(upstream="dead", model="m"))
    sinks: list[Kept] = []
    for _ in range(1000):
        _, sink = group.call()
        if group["dead"].asked and not group["dead"].last.over:
            group["dead"].last.fails(BackendFailed("x"))
        group["a"].last.answers()
        sinks.append(sink)
        group.clock.pass_(0.05)
    assert all(sink.over and sink.error is None for sink in sinks)
    assert len(group["dead"].asked) < 40


def test_one_of_two_dead_a_first_burst_is_not_lost(scene: MakeScene) -> None:
    group = scene("a", "dead")
    calls = SPARE + SPARE // 2
    sinks = [group.call()[1] for _ in range(calls)]
    assert calls * Policy().retry_share < len(group["dead"].asked) <= SPARE
    for asked in group["dead"].asked:
        asked.fails(BackendFailed("x"))
    for asked in group["a"].asked:
        asked.answers()
    assert all(sink.over and sink.error is None for sink in sinks)
