"""What every limiter promises, in memory and on Valkey."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from arkway.core.errors import ArkwayError, QuotaExhausted, RateLimited, TokenRateLimited
from arkway.core.limit import DAY_MS, Kind, Period, Rule, Scope, Used
from arkway.ports import Hold
from tests.contract.limits.conftest import NOW_MS, Opened, Place

# By how much a server's clock and ours may drift apart in a test.
CLOCKS_S = 0.02


def rule(
    kind: Kind,
    amount: float,
    period: Period = "",
    *,
    scope: Scope = "key",
    subject: str = "key-1",
    shadow: bool = False,
) -> Rule:
    return Rule("default", "default", scope, subject, kind, period, amount, shadow)


async def tried(limiter: Opened, *rules: Rule, tokens: int = 0, cost: float = 0.0) -> Hold | ArkwayError:
    try:
        return await limiter.take(*rules, tokens=tokens, cost=cost)
    except ArkwayError as error:
        return error


@pytest.mark.parametrize("kind, period", [("rpm", ""), ("concurrency", ""), ("tokens", "total"), ("tpm", "")])
async def test_200_at_once_on_a_limit_of_one_are_one_that_is_served(place: Place, kind: Kind, period: Period) -> None:
    only = rule(kind, 1, period)
    async with place.open() as limiter:
        answers = await asyncio.gather(*(tried(limiter, only, tokens=4000) for _ in range(200)))
    assert len([answer for answer in answers if not isinstance(answer, ArkwayError)]) == 1
    assert all(isinstance(answer, RateLimited) for answer in answers if isinstance(answer, ArkwayError))


async def test_all_limits_of_a_call_are_taken_from_or_none(place: Place) -> None:
    wide = [rule("rpm", 10), rule("tpm", 1000), rule("concurrency", 10), rule("tokens", 1000, "day")]
    narrow = rule("rpm", 1, scope="endpoint", subject="ep-1")
    async with place.open() as limiter:
        await limiter.take(narrow)
        for _ in range(50):
            with pytest.raises(RateLimited):
                await limiter.take(*wide, narrow, tokens=100)
        holds = [await limiter.take(*wide, tokens=100) for _ in range(10)]
        answer = await tried(limiter, *wide, tokens=100)
    assert len(holds) == 10
    assert isinstance(answer, RateLimited)


async def test_refused_calls_do_not_eat_the_window(place: Place) -> None:
    """However often it is asked, the moment to come back stays the one that the first call has set."""
    each = rule("rpm", 1)
    async with place.open(burst_s=0.1) as limiter:
        await limiter.take(each)
        taken_s = time.monotonic()
        for _ in range(50):
            asked_s = time.monotonic()
            with pytest.raises(RateLimited) as caught:
                await limiter.take(each)
            assert asked_s + (caught.value.retry_after_s or 0) <= taken_s + 60 + CLOCKS_S


async def test_a_refusal_says_when_to_come_back_and_is_right(place: Place) -> None:
    each = rule("rpm", 300)
    async with place.open(burst_s=0.1) as limiter:
        while True:  # a machine that stands still for a fifth of a second may be served again
            began_s = time.monotonic()
            await limiter.take(each)
            taken_s = time.monotonic()
            if isinstance(refused := await tried(limiter, each), RateLimited):
                break
        told_s = time.monotonic()
        wait_s = refused.retry_after_s or 0
        assert began_s + 0.2 - CLOCKS_S <= told_s + wait_s
        assert wait_s <= 0.2
        await asyncio.sleep(taken_s + 0.2 + CLOCKS_S - told_s)
        await limiter.take(each)


async def test_tokens_per_minute_are_reserved_and_the_difference_comes_back(place: Place) -> None:
    tpm = rule("tpm", 1000)
    async with place.open() as limiter:
        began_s = time.monotonic()
        hold = await limiter.take(tpm, tokens=1000)
        with pytest.raises(TokenRateLimited):
            await limiter.take(tpm, tokens=900)
        hold.settle(Used(tokens=100))
        await limiter.settled()
        later = await limiter.take(tpm, tokens=800)
        later.settle(Used(tokens=1200))
        await limiter.settled()
        with pytest.raises(TokenRateLimited) as caught:
            await limiter.take(tpm, tokens=100)
        passed_s = time.monotonic() - began_s
    # 1,300 of 1,000 are used: at 1,000 a minute it takes 24 s until there are 100.
    assert 24 - passed_s - CLOCKS_S <= (caught.value.retry_after_s or 0) <= 24 + CLOCKS_S


async def test_a_call_that_came_to_nothing_gives_everything_back(place: Place) -> None:
    rules = [
        rule("rpm", 1),
        rule("tpm", 100),
        rule("concurrency", 1),
        rule("tokens", 100, "day"),
        rule("cost", 1, "day"),
    ]
    async with place.open() as limiter:
        for _ in range(20):
            hold = await limiter.take(*rules, tokens=100, cost=1.0)
            hold.settle(Used(request=0))
            await limiter.settled()
        await limiter.take(*rules, tokens=100, cost=1.0)
        assert isinstance(await tried(limiter, *rules, tokens=100, cost=1.0), RateLimited)


async def test_a_hold_is_settled_once(place: Place) -> None:
    rules = [rule("concurrency", 2), rule("tokens", 100, "day"), rule("tpm", 100)]
    async with place.open() as limiter:
        first, second = [await limiter.take(*rules, tokens=50) for _ in range(2)]
        for _ in range(3):
            first.settle(Used(tokens=50))
        await limiter.settled()
        answer = await tried(limiter, rules[0])
        assert not isinstance(answer, ArkwayError)
        assert isinstance(await tried(limiter, rules[0]), RateLimited)
        assert isinstance(await tried(limiter, rules[1], tokens=1), RateLimited)
        second.settle(Used(tokens=50))
        await limiter.settled()
        assert isinstance(await tried(limiter, rules[1], tokens=1), QuotaExhausted)


async def test_a_quota_that_calls_in_progress_may_use_up_is_worth_another_try(place: Place) -> None:
    quota = rule("tokens", 100, "month")
    async with place.open() as limiter:
        hold = await limiter.take(quota, tokens=80)
        with pytest.raises(RateLimited):
            await limiter.take(quota, tokens=30)
        hold.settle(Used(tokens=80))
        await limiter.settled()
        with pytest.raises(QuotaExhausted, match="20 left"):
            await limiter.take(quota, tokens=30)
        (await limiter.take(quota, tokens=20)).settle(Used(tokens=20))
        await limiter.settled()
        with pytest.raises(QuotaExhausted, match="is spent"):
            await limiter.take(quota, tokens=1)


async def test_a_guess_that_is_larger_than_the_whole_quota_gets_its_turn_while_nothing_is_spent(place: Place) -> None:
    quota = rule("cost", 0.5, "total")
    async with place.open() as limiter:
        (await limiter.take(quota, cost=3.0)).settle(Used(cost=0.25))
        await limiter.settled()
        with pytest.raises(QuotaExhausted, match=r"0\.25 left"):
            await limiter.take(quota, cost=3.0)


async def test_a_new_period_begins_with_nothing(place: Place) -> None:
    day = rule("tokens", 100, "day")
    async with place.open() as limiter:
        late = await limiter.take(day, tokens=60, now_ms=NOW_MS)
        (await limiter.take(day, tokens=40, now_ms=NOW_MS)).settle(Used(tokens=40))
        tomorrow = await limiter.take(day, tokens=100, now_ms=NOW_MS + DAY_MS)
        late.settle(Used(tokens=60))
        tomorrow.settle(Used(tokens=90))
        await limiter.settled()
        (await limiter.take(day, tokens=10, now_ms=NOW_MS + DAY_MS)).settle(Used(tokens=10))
        await limiter.settled()
        with pytest.raises(QuotaExhausted):
            await limiter.take(day, tokens=1, now_ms=NOW_MS + DAY_MS)


async def test_what_the_ledger_has_on_record_counts(place: Place) -> None:
    asked: list[tuple[str, int]] = []

    def spent(rule: Rule, start_ms: int) -> float:
        asked.append((rule.period, start_ms))
        return 95.0 if start_ms == NOW_MS - NOW_MS % DAY_MS else 0.0

    day = rule("tokens", 100, "day")
    async with place.open(spent=spent) as limiter:
        with pytest.raises(QuotaExhausted, match="5 left"):
            await limiter.take(day, tokens=6)
        (await limiter.take(day, tokens=5)).settle(Used(tokens=5))
        await limiter.settled()
        with pytest.raises(QuotaExhausted, match="is spent"):
            await limiter.take(day, tokens=1)
    assert set(asked) == {("day", NOW_MS - NOW_MS % DAY_MS)}


async def test_shadows_refuse_nothing_and_are_told(place: Place) -> None:
    told: list[Rule] = []
    shadows = [
        rule("rpm", 1, shadow=True),
        rule("tpm", 100, shadow=True),
        rule("concurrency", 1, shadow=True),
        rule("tokens", 100, "day", shadow=True),
    ]
    async with place.open(tell=told.append) as limiter:
        for _ in range(5):
            (await limiter.take(*shadows, tokens=100)).settle(Used(tokens=100))
            await limiter.settled()
        assert Counter(rule.kind for rule in told) == {"rpm": 4, "tpm": 4, "tokens": 4}
        holds = [await limiter.take(*shadows, tokens=100) for _ in range(3)]
        assert Counter(rule.kind for rule in told) == {"rpm": 7, "tpm": 7, "tokens": 7, "concurrency": 2}
        for hold in holds:
            hold.settle(Used(tokens=100))
        # What was over a shadow's rate was not taken from it, as if it had been refused.
        await limiter.settled()
        with pytest.raises(RateLimited) as caught:
            await limiter.take(rule("rpm", 1))
        assert 0 < (caught.value.retry_after_s or 0) <= 60


async def test_an_amount_that_is_changed_keeps_what_is_counted(place: Place) -> None:
    async with place.open() as limiter:
        (await limiter.take(rule("tokens", 100, "day"), tokens=90)).settle(Used(tokens=90))
        await limiter.settled()
        (await limiter.take(rule("tokens", 200, "day"), tokens=110)).settle(Used(tokens=110))
        await limiter.settled()
        with pytest.raises(QuotaExhausted):
            await limiter.take(rule("tokens", 200, "day"), tokens=1)


async def test_subjects_and_tenants_do_not_meet(place: Place) -> None:
    places = [
        Rule(account, project, "key", subject, "rpm", "", 1)
        for account in ("a", "b")
        for project in ("p", "q")
        for subject in ("k", "l")
    ]
    async with place.open() as limiter:
        for each in places:
            await limiter.take(each)
        for each in places:
            with pytest.raises(RateLimited):
                await limiter.take(each)


async def test_ten_thousand_mixed_ends_leave_no_drift(place: Place) -> None:
    """Reserve and settle balance: what is left of a quota is the amount less what was used, to the token."""
    calls = 10_000 if not place.url else 2_000
    quota, width, money = rule("tokens", 10_000_000, "total"), rule("concurrency", 50), rule("cost", 1e6, "month")
    used = 0
    async with place.open() as limiter:
        for start in range(0, calls, 50):
            holds = await asyncio.gather(*(limiter.take(quota, width, money, tokens=500, cost=0.1) for _ in range(50)))
            for number, hold in enumerate(holds, start):
                tokens = number % 700 if number % 3 else 0
                used += tokens
                hold.settle(Used(tokens, tokens / 1000, 1 if tokens else 0))
            await limiter.settled()
        left = 10_000_000 - used
        await limiter.take(width)
        with pytest.raises(QuotaExhausted):
            await limiter.take(quota, tokens=left + 1)
        (await limiter.take(quota, tokens=left)).settle(Used(tokens=left))
        await limiter.settled()
        with pytest.raises(QuotaExhausted):
            await limiter.take(quota, tokens=1)


async def test_a_rate_is_kept_within_one_in_a_hundred(place: Place) -> None:
    """3,000 a minute with a tenth of a second's burst, asked for at ten times the rate, for two seconds.

    Nothing asks while the machine stands still, and what a standstill longer than the burst would have earned is
    rightly gone: it is taken off what is expected at least, never off what is allowed at most.
    """
    each, burst = rule("rpm", 3000), 0.1
    async with place.open(burst_s=burst) as limiter:
        started = last = time.monotonic()
        served, unasked = 0, 0.0
        while (now := time.monotonic()) - started < 2.0:
            unasked += max(0.0, now - last - burst / 2)
            last = now
            served += not isinstance(await tried(limiter, each), ArkwayError)
            await asyncio.sleep(0.002)
        ended = time.monotonic() - started
    assert 0.98 * (50 * (last - started - unasked) + 5) - 1 <= served <= 1.01 * (50 * ended + 5) + 1
