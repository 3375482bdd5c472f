"""What callers are told."""

from __future__ import annotations

import pytest

from arkway.core.errors import ArkwayError, QuotaExhausted, RateLimited, TokenRateLimited
from arkway.core.limit import Kind, Period, Rule
from arkway.limits.refusal import Refusal, worst


def rule(kind: Kind, amount: float, period: Period = "", subject: str = "key-1") -> Rule:
    return Rule("a", "p", "key" if subject else "project", subject, kind, period, amount)


@pytest.mark.parametrize(
    "refusal, kind, words",
    [
        (Refusal(rule("rpm", 60), 2.4), RateLimited, "60 requests per minute (RPM) of the key `key-1` is reached; try"),
        (Refusal(rule("tpm", 1e6), 2.4), TokenRateLimited, "1,000,000 tokens per minute (TPM) of the key `key-1`"),
        (Refusal(rule("concurrency", 4, subject="")), RateLimited, "the project has 4 calls in progress"),
        (
            Refusal(rule("tokens", 5, "day"), left=0),
            QuotaExhausted,
            "today's quota of 5 tokens of the key `key-1` is spent",
        ),
        (
            Refusal(rule("cost", 9.5, "total"), left=0.25),
            QuotaExhausted,
            "the quota of 9.5 of cost of the key `key-1` has 0.25",
        ),
        (Refusal(rule("tokens", 5, "month"), 1.0), RateLimited, "calls in progress may use up what is left"),
    ],
)
def test_messages(refusal: Refusal, kind: type[ArkwayError], words: str) -> None:
    error = refusal.error()
    assert type(error) is kind
    assert words in error.message
    assert (error.retry_after_s is None) == (kind is QuotaExhausted)


def test_a_spent_quota_is_told_before_a_rate_and_the_longest_wait_before_others() -> None:
    short, long, spent = Refusal(rule("rpm", 1), 1), Refusal(rule("tpm", 1), 30), Refusal(rule("tokens", 1), left=0)
    assert worst([short, long]) is long
    assert worst([long, spent, short]) is spent
