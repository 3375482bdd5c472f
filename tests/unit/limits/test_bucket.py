"""The arithmetic of rates: exact, and never more than the rate and one bucket."""

from __future__ import annotations

import pytest

from arkway.limits.bucket import Bucket, rate

BURST_S = 60.0


def served(bucket: Bucket, cost_s: float, moments: list[float]) -> int:
    count = 0
    for now_s in moments:
        if bucket.wait_s(now_s, cost_s, BURST_S) <= 1e-9:
            bucket.take(now_s, cost_s)
            count += 1
    return count


def test_a_full_bucket_gives_a_minute_at_once_and_then_the_rate() -> None:
    bucket = Bucket()
    assert served(bucket, 1.0, [1000.0] * 200) == 60
    assert served(bucket, 1.0, [1000.0 + i / 10 for i in range(101)]) == 10
    assert bucket.wait_s(1010.0, 1.0, BURST_S) == pytest.approx(1.0)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600, 6000])
def test_the_rate_is_exact_over_long_times(per_minute: int) -> None:
    each_s, burst_s = rate(per_minute, 1.0)
    bucket = Bucket()
    count = 0
    for step in range(600_000):
        now_s = step / 1000
        if bucket.wait_s(now_s, each_s, burst_s) <= 1e-9:
            bucket.take(now_s, each_s)
            count += 1
    full = burst_s / each_s
    assert count == pytest.approx(per_minute * 10 + full, abs=1.001)


def test_refusals_do_not_make_the_wait_longer() -> None:
    bucket = Bucket()
    served(bucket, 60.0, [0.0])
    waits = [bucket.wait_s(now, 60.0, BURST_S) for now in (1.0, 2.0, 30.0)]
    assert waits == pytest.approx([59.0, 58.0, 30.0])


def test_what_costs_more_than_the_bucket_holds_waits_until_it_is_full_and_is_owed() -> None:
    bucket = Bucket()
    assert bucket.wait_s(0.0, 90.0, BURST_S) == 0
    bucket.take(0.0, 90.0)
    assert bucket.wait_s(0.0, 90.0, BURST_S) == pytest.approx(90.0)
    assert bucket.wait_s(0.0, 1.0, BURST_S) == pytest.approx(31.0)


def test_what_was_not_used_comes_back() -> None:
    bucket = Bucket()
    bucket.take(0.0, 60.0)
    bucket.settle(1.0, 0.0, -59.0)
    assert bucket.wait_s(1.0, 60.0, BURST_S) <= 1e-9
    bucket.take(1.0, 10.0)
    bucket.settle(2.0, 1.0, +5.0)
    assert bucket.wait_s(2.0, BURST_S, BURST_S) == pytest.approx(14.0)


def test_nothing_comes_back_from_before_the_bucket_was_full() -> None:
    """A long call whose reservation has been refilled already gives nothing twice."""
    bucket = Bucket()
    bucket.take(0.0, 5.0)
    bucket.take(10.0, 60.0)
    bucket.settle(11.0, 0.0, -4.0)
    assert bucket.wait_s(11.0, 1.0, BURST_S) == pytest.approx(0.0)
    assert bucket.wait_s(11.0, 2.0, BURST_S) == pytest.approx(1.0)


def test_a_bucket_holds_one_at_least() -> None:
    assert rate(0.5, 60.0) == (120.0, 120.0)
    assert rate(60, 60.0) == (1.0, 60.0)
