"""The breaker and the sums it stands on: every change of state, on a clock moved by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from arkway.backends.group.breaker import Breaker
from arkway.backends.group.recent import Recent
from arkway.core.upstream import Policy

POLICY = Policy(breaker_ratio=0.5, breaker_calls=10, breaker_window_s=10.0, breaker_open_s=5.0)


def state(breaker: Breaker) -> str:
    return breaker.state


def opened(at_s: float = 1000.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(10):
        breaker.record(False, at_s)
    assert state(breaker) == "open"
    return breaker


def test_sums_are_those_of_the_window() -> None:
    recent = Recent(10.0)
    recent.add_good(0.0)
    for _ in range(2):
        recent.add_good(5.0)
    for _ in range(3):
        recent.add_bad(5.0)
    recent.turn(9.9)
    assert (recent.good, recent.bad) == (3, 3)
    recent.turn(10.0)
    assert (recent.good, recent.bad) == (2, 3)
    recent.turn(14.9)
    assert (recent.good, recent.bad) == (2, 3)
    recent.turn(15.0)
    assert (recent.good, recent.bad) == (0, 0)


def test_a_long_silence_forgets_everything_and_what_comes_then_counts() -> None:
    recent = Recent(10.0)
    for second in range(25):
        recent.add_good(second)
        recent.add_bad(second)
        recent.add_bad(second)
        assert (recent.good, recent.bad) == (min(second + 1, 10), 2 * min(second + 1, 10))
    recent.add_bad(1e9)
    assert (recent.good, recent.bad) == (0, 1)


def test_slices_that_no_float_tells_exactly_lose_nothing() -> None:
    """Thirds and tenths of seconds: where a slice ends by the one reckoning and not yet by the other."""
    recent = Recent(0.3)
    for step in range(1000):
        recent.add_good(step * 0.03)
        assert 9 <= recent.good <= 11 or step < 10


def test_it_stays_closed_below_the_number_of_calls_and_below_the_ratio() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.record(False, 1000.0)
    assert breaker.lets(1000.0)
    breaker = Breaker(POLICY)
    for _ in range(100):
        breaker.record(True, 1000.0)
        breaker.record(True, 1000.0)
        breaker.record(False, 1000.0)
    assert state(breaker) == "closed"


def test_it_opens_at_the_ratio() -> None:
    breaker = Breaker(POLICY)
    for _ in range(5):
        breaker.record(True, 1000.0)
    for _ in range(4):
        breaker.record(False, 1000.0)
    assert state(breaker) == "closed"
    breaker.record(False, 1000.0)
    assert state(breaker) == "open"
    assert not breaker.lets(1000.0)


def test_it_opens_when_so_many_fail_in_a_row_whatever_went_well_before() -> None:
    breaker = Breaker(POLICY)
    for _ in range(5000):
        breaker.record(True, 1000.0)
    for _ in range(9):
        breaker.record(False, 1001.0)
    breaker.record(True, 1001.0)
    for _ in range(9):
        breaker.record(False, 1002.0)
    assert state(breaker) == "closed"
    breaker.record(False, 1002.0)
    assert state(breaker) == "open"


def test_of_a_row_only_what_is_in_the_window_counts() -> None:
    breaker = Breaker(POLICY)
    for second in range(100):
        breaker.record(False, 1000.0 + 2 * second)
        if second % 4 == 0:
            breaker.recent.add_good(1000.0 + 2 * second)
    assert state(breaker) == "closed"


def test_another_policy_is_followed_with_what_is_known() -> None:
    breaker = Breaker(POLICY)
    for _ in range(4):
        breaker.record(False, 1000.0)
    breaker.follow(replace(POLICY, breaker_calls=5))
    breaker.record(False, 1000.0)
    assert state(breaker) == "open"
    breaker.follow(replace(POLICY, breaker_window_s=3.0, breaker_open_s=1.0))
    assert state(breaker) == "open"
    assert (breaker.recent.good, breaker.recent.bad) == (0, 0)
    assert breaker.lets(1005.0)
    breaker.enter()
    breaker.tried(False, 1005.0)
    assert breaker.lets(1006.0)


def test_failures_older_than_the_window_do_not_count() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.record(False, 1000.0)
    breaker.record(False, 1010.0)
    assert state(breaker) == "closed"


def test_after_a_while_one_call_tries_and_no_other() -> None:
    breaker = opened()
    assert not breaker.lets(1004.999)
    assert breaker.lets(1005.0)
    assert breaker.enter()
    assert state(breaker) == "half_open"
    assert not breaker.lets(1005.0)
    assert not breaker.lets(2000.0)


def test_what_the_trying_call_found_decides() -> None:
    breaker = opened()
    assert breaker.enter()
    breaker.tried(False, 1006.0)
    assert state(breaker) == "open"
    assert not breaker.lets(1010.9)
    assert breaker.lets(1011.0)
    assert breaker.enter()
    breaker.tried(True, 1012.0)
    assert state(breaker) == "closed"
    assert breaker.lets(1012.0)
    assert not breaker.enter()


def test_a_closed_one_has_forgotten_why_it_was_open() -> None:
    breaker = opened()
    breaker.enter()
    breaker.tried(True, 1005.0)
    for _ in range(9):
        breaker.record(False, 1005.0)
    assert state(breaker) == "closed"


def test_a_trying_call_that_found_out_nothing_lets_the_next_one_try() -> None:
    breaker = opened()
    assert breaker.enter()
    breaker.released()
    assert breaker.lets(1005.0)
    assert breaker.enter()
    assert not breaker.lets(1005.0)


@pytest.mark.parametrize("worked", [True, False])
def test_calls_that_began_before_it_opened_change_nothing(worked: bool) -> None:
    breaker = opened()
    for _ in range(50):
        breaker.record(worked, 1001.0)
    assert state(breaker) == "open"
    assert breaker.lets(1005.0)
    breaker.enter()
    breaker.record(worked, 1005.0)
    assert state(breaker) == "half_open"
    assert not breaker.lets(1005.0)


def test_a_probe_that_was_answered_ends_the_wait_but_a_call_still_tries() -> None:
    breaker = opened()
    breaker.answered(1001.0)
    assert state(breaker) == "open"
    assert breaker.lets(1001.0)
    assert breaker.enter()
    assert not breaker.lets(1001.0)
