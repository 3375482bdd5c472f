"""What a caller is told who is over a limit."""

from __future__ import annotations

import math

import msgspec

from arkway.core.errors import QuotaExhausted, RateLimited, TokenRateLimited
from arkway.core.limit import Rule

BUSY_RETRY_S = 1.0
"""When to try again what waits for other calls to end, of which nobody knows when they do."""

_PERIODS = {"day": "today's", "month": "this month's", "total": "the"}


class Refusal(msgspec.Struct, frozen=True):
    """A limit that is reached: ``wait_s`` until it is worth another try, or ``left`` of a quota that has too little."""

    rule: Rule
    wait_s: float = 0.0
    left: float | None = None

    def error(self) -> RateLimited | QuotaExhausted:
        """As the error that the caller gets."""
        whose = _whose(self.rule)
        amount = _amount(self.rule.amount)
        if self.left is not None:
            return QuotaExhausted(_spent(self.rule, whose, self.left))
        soon = f"; try again in {max(1, math.ceil(self.wait_s))} s"
        match self.rule.kind:
            case "rpm":
                return RateLimited(
                    f"the limit of {amount} requests per minute (RPM) of {whose} is reached{soon}", self.wait_s
                )
            case "tpm":
                message = f"the limit of {amount} tokens per minute (TPM) of {whose} is reached{soon}"
                return TokenRateLimited(message, self.wait_s)
            case "concurrency":
                return RateLimited(f"{whose} has {amount} calls in progress, as many as its limit allows", self.wait_s)
            case _:
                message = f"calls in progress may use up what is left of the quota of {whose}{soon}"
                return RateLimited(message, self.wait_s)


def worst(refusals: list[Refusal]) -> Refusal:
    """The one to tell of several: a spent quota, else the one that takes longest."""
    return max(refusals, key=lambda refusal: (refusal.left is not None, refusal.wait_s))


def _whose(rule: Rule) -> str:
    return f"the {rule.scope} `{rule.subject}`" if rule.subject else f"the {rule.scope}"


def _spent(rule: Rule, whose: str, left: float) -> str:
    what = f"{_amount(rule.amount)} tokens" if rule.kind == "tokens" else f"{_amount(rule.amount)} of cost"
    quota = f"{_PERIODS[rule.period]} quota of {what} of {whose}"
    if left <= 0:
        return f"{quota} is spent"
    return f"{quota} has {_amount(left)} left, less than this call may take; ask for a shorter answer"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}".rstrip("0")
