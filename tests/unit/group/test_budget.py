"""The retry budget: by itself, and as what bounds the work of a group whose members all fail."""

from __future__ import annotations

import pytest

from arkway.backends.group.budget import FLOOR, WINDOW_S, RetryBudget
from arkway.core.errors import BackendFailed, BackendUnavailable, Overloaded
from arkway.core.upstream import Member
from tests.tools.pushing import Clock, Kept
from tests.unit.group.conftest import MakeScene

NEVER_OPENS = {"breaker_calls": 10**9}


def test_retries_at_members_that_fail_are_a_share_of_the_calls() -> None:
    budget = RetryBudget(0.2)
    taken = 0
    for calls in range(1, 1001):
        budget.calls.add_good(1000.0)
        taken += budget.take(1000.0, well=False)
        assert taken == calls // 5


def test_a_member_that_is_well_may_be_retried_some_more_times() -> None:
    budget = RetryBudget(0.2)
    budget.calls.add_good(1000.0)
    assert sum(budget.take(1000.0, well=True) for _ in range(1000)) == FLOOR
    assert not budget.take(1000.0, well=False)
    assert budget.take(1000.0 + WINDOW_S, well=True)


def test_away_from_a_member_that_is_shut_out_to_one_that_is_well_it_is_free() -> None:
    budget = RetryBudget(0.2)
    budget.calls.add_good(1000.0)
    assert all(budget.take(1000.0, well=True, shut_out=True) for _ in range(1000))
    assert not budget.take(1000.0, well=False, shut_out=True)
    # It has cost nothing of what others may need.
    assert sum(budget.take(1000.0, well=True) for _ in range(1000)) == FLOOR


def test_calls_older_than_the_window_pay_for_nothing() -> None:
    budget = RetryBudget(0.2)
    for _ in range(100):
        budget.calls.add_good(1000.0)
    assert budget.take(1000.0 + 0.9 * WINDOW_S, well=False)
    assert not budget.take(1000.0 + WINDOW_S, well=False)


def test_a_share_of_nothing_is_no_retry_at_all() -> None:
    budget = RetryBudget(0.0)
    budget.calls.add_good(1000.0)
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


@pytest.mark.parametrize("calls", [20, 150, 2000])
def test_one_of_two_dead_a_first_burst_is_not_lost(scene: MakeScene, calls: int) -> None:
    """All of them are under way before the first one fails."""
    group = scene("a", "dead")
    sinks = [group.call()[1] for _ in range(calls)]
    assert len(group["dead"].asked) > calls // 4
    for asked in group["dead"].asked:
        asked.fails(BackendFailed("x"))
    for asked in group["a"].asked:
        asked.answers()
    assert all(sink.over and sink.error is None for sink in sinks)
    assert len(group["a"].asked) == calls  # each of them once


@pytest.mark.parametrize("under_way", [1, 8, 64])
@pytest.mark.parametrize("before", [0, 100, 5000])
def test_one_of_two_dies_of_a_thousand_calls_one_is_lost_at_most(scene: MakeScene, under_way: int, before: int) -> None:
    """``before`` calls went well in the ten seconds before; a hundred a second come after, some of them at a time."""
    group = scene("a", "dies")
    for _ in range(before):
        running, _ = group.call()
        group[running.served].last.answers()
        group.clock.pass_(9.0 / before)
    sinks: list[Kept] = []
    for _ in range(4000 // under_way):
        sinks += [group.call()[1] for _ in range(under_way)]
        for asked in group["dies"].asked:
            if not asked.over:
                asked.fails(BackendUnavailable("x"))
        for asked in group["a"].asked:
            if not asked.over:
                asked.answers()
        group.clock.pass_(0.01 * under_way)
    assert all(sink.over for sink in sinks)
    assert sum(sink.error is not None for sink in sinks) <= 4000 // 1000


def test_a_few_calls_of_a_small_server_are_not_asked_again_without_end(scene: MakeScene) -> None:
    """One of two members fails every other call, which no breaker takes for dead: `FLOOR` retries in ten seconds."""
    group = scene("a", Member(upstream="b", model="m", priority=1), breaker_ratio=0.9)
    for number in range(20):
        _, sink = group.call()
        if number % 4 == 3:
            group["a"].last.answers()
        else:
            group["a"].last.fails(BackendFailed("x"))
        if not sink.over:
            group["b"].last.answers()
        group.clock.pass_(0.4)
    assert len(group["b"].asked) == FLOOR


def test_away_from_a_member_that_asked_to_be_left_alone_no_call_is_lost(scene: MakeScene) -> None:
    """All of them are under way when it says so."""
    group = scene("a", "full")
    sinks = [group.call()[1] for _ in range(500)]
    for asked in group["full"].asked:
        asked.fails(Overloaded("x", 5.0))
    for asked in group["a"].asked:
        asked.answers()
    assert all(sink.over and sink.error is None for sink in sinks)
    assert len(group["a"].asked) == 500


def test_when_both_die_with_everything_under_way_retries_end_with_the_first_failure_of_the_second(
    scene: MakeScene,
) -> None:
    """Nothing is known of the second one while the first one's calls fail; then the share is all there is."""
    group = scene("a", "b", breaker_calls=10)
    sinks = [group.call()[1] for _ in range(1000)]
    group["b"].last.fails(BackendFailed("x"))
    while waiting := [asked for name in "ab" for asked in group[name].asked if not asked.over]:
        for asked in waiting:
            asked.fails(BackendFailed("x"))
    assert all(sink.over for sink in sinks)
    assert len(group["a"].asked) + len(group["b"].asked) <= 1.2 * 1000 + 2
