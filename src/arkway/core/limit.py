"""Limits as the operator sets them: how much a key, an endpoint, a project or an account may use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

Scope = Literal["key", "endpoint", "project", "account"]
Kind = Literal["rpm", "tpm", "concurrency", "tokens", "cost"]
Period = Literal["", "day", "month", "total"]

DAY_MS = 86_400_000
END_OF_TIME_MS = 1 << 62


class Rule(msgspec.Struct, frozen=True):
    """One limit. ``subject`` is the id of the key or endpoint, empty for a project or an account.

    ``amount`` is requests (``rpm``) or tokens (``tpm``) in a minute, calls at a time (``concurrency``), or tokens or
    money in a ``period``; only the last two have one. ``shadow``: what is over it is counted and told, not refused.
    """

    account: str
    project: str
    scope: Scope
    subject: str
    kind: Kind
    period: Period
    amount: float
    shadow: bool = False

    @property
    def place(self) -> str:
        """What tells this limit from all others, whatever its amount."""
        return "/".join((self.account, self.project, self.scope, self.subject, self.kind, self.period))


class Rates(msgspec.Struct, frozen=True):
    """Requests and tokens a minute that an endpoint takes; 0 = no limit."""

    rpm: int = 0
    tpm: int = 0


class Demand(msgspec.Struct, frozen=True):
    """What one call wants: the limits it is under, when it came in (epoch milliseconds), and a guess at its use.

    ``cost`` is money, in the unit that the amounts of the limits on cost are in.
    """

    rules: tuple[Rule, ...]
    now_ms: int
    tokens: int = 0
    cost: float = 0.0


class Used(msgspec.Struct, frozen=True):
    """What the call has used after all. ``request`` 0 = it came to nothing, and does not count as a request either."""

    tokens: int = 0
    cost: float = 0.0
    request: Literal[0, 1] = 1


def window(period: Period, now_ms: int) -> tuple[int, int]:
    """The period around a moment, half-open, in epoch milliseconds: days and months begin at 00:00 UTC."""
    if period == "day":
        start = now_ms - now_ms % DAY_MS
        return start, start + DAY_MS
    if period == "month":
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        return _epoch_ms(now.year, now.month), _epoch_ms(now.year + now.month // 12, now.month % 12 + 1)
    return 0, END_OF_TIME_MS


def _epoch_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
