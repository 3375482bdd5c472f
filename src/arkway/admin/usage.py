"""What was used and what it costs: single calls and sums, from the settled calls of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, Protocol, cast, get_args

import msgspec

from arkway.admin.prices import Cost, Currency, PriceBook
from arkway.core.chat import Provenance
from arkway.core.errors import InvalidField
from arkway.ports import Outcome

Grouping = Literal["account", "project", "key", "endpoint", "model", "caller", "hour", "day", "month"]
Tenant = tuple[str, str]
Filters = Mapping[str, Collection[str]]
"""Values to keep, by ``key``, ``endpoint``, ``model``, ``caller``; a name that is missing or empty keeps all."""

GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
TIMES = ("hour", "day", "month")
END_OF_TIME_MS = 1 << 62
ROWS_MAX = 10_000


class UsageRow(msgspec.Struct, frozen=True):
    """One settled call. Times are epoch milliseconds, durations milliseconds (−1 = never got that far)."""

    attempt_id: str
    request_id: str
    account: str
    project: str
    key_id: str
    endpoint_id: str
    model: str
    dialect: str
    operation: str
    opened_ms: int
    closed_ms: int
    outcome: Outcome
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    provenance: Provenance
    first_token_ms: int
    duration_ms: int
    error: str
    caller: str = ""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageTotal(msgspec.Struct, frozen=True):
    """Sums over one group; ``groups`` has a name for each grouping asked for (times are UTC, such as ``2026-11-01``).

    ``failed`` calls were refused, interrupted or lost their backend. ``cost`` has an entry for each currency and
    ``unpriced_tokens`` says how much had no price when it was used; None = costs were not asked for.
    """

    groups: tuple[str, ...]
    calls: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: tuple[Cost, ...] | None = None
    unpriced_tokens: int | None = None

    @property
    def group(self) -> str:
        return " ".join(self.groups)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageTable(Protocol):
    """Where settled calls are kept."""

    def rows(
        self, account: str, project: str, since_ms: int, until_ms: int, limit: int, where: Filters
    ) -> Sequence[Mapping[str, Any]]: ...

    def tenants(self, account: str | None = None) -> Sequence[Tenant]: ...

    def totals(
        self, tenants: Sequence[Tenant], since_ms: int, until_ms: int, by: Sequence[Grouping], where: Filters
    ) -> Sequence[Mapping[str, Any]]: ...

    def count(self, tenants: Sequence[Tenant], since_ms: int, until_ms: int, where: Filters) -> int: ...

    def pages(
        self, tenants: Sequence[Tenant], since_ms: int, until_ms: int, where: Filters
    ) -> Iterator[Sequence[Mapping[str, Any]]]: ...


class UsageReports:
    """The questions one project may ask; ``project`` None: all of the account, ``account`` None too: of the host.

    Times are half-open: from ``since_ms`` up to, not including, ``until_ms``, by when a call was opened.
    """

    def __init__(self, table: UsageTable, account: str | None = "default", project: str | None = "default") -> None:
        self._table = table
        self._account, self._project = account, project

    def rows(
        self,
        since_ms: int = 0,
        until_ms: int = END_OF_TIME_MS,
        limit: int = 100,
        where: Filters | None = None,
    ) -> tuple[UsageRow, ...]:
        """The newest calls, newest first; at most ``limit`` and 10 000."""
        limit = min(limit, ROWS_MAX)
        found = [
            msgspec.convert(row, UsageRow)
            for tenant in self._tenants()
            for row in self._table.rows(*tenant, since_ms, until_ms, limit, where or {})
        ]
        return tuple(sorted(found, key=lambda row: (row.opened_ms, row.attempt_id), reverse=True)[:limit])

    def totals(
        self,
        by: Grouping | Sequence[Grouping],
        since_ms: int = 0,
        until_ms: int = END_OF_TIME_MS,
        *,
        where: Filters | None = None,
        prices: PriceBook | None = None,
    ) -> tuple[UsageTotal, ...]:
        """Sums by group, in the order of the groups' names; with their costs, where ``prices`` are given.

        Raises InvalidField for groupings that do not go together.
        """
        wanted = _groupings(by)
        tenants = self._tenants()
        if prices is not None:
            return _Costs(self._table, tenants, wanted, where or {}, prices).between(since_ms, until_ms)
        found = self._table.totals(tenants, since_ms, until_ms, wanted, where or {})
        return tuple(_total(tuple(row[name] for name in wanted), row) for row in found)

    def count(self, since_ms: int = 0, until_ms: int = END_OF_TIME_MS, where: Filters | None = None) -> int:
        """How many calls `pages` goes through."""
        return self._table.count(self._tenants(), since_ms, until_ms, where or {})

    def pages(
        self, since_ms: int = 0, until_ms: int = END_OF_TIME_MS, where: Filters | None = None
    ) -> Iterator[tuple[UsageRow, ...]]:
        """Every call, project by project, oldest first, some thousands at a time."""
        for page in self._table.pages(self._tenants(), since_ms, until_ms, where or {}):
            yield tuple(msgspec.convert(row, UsageRow) for row in page)

    def _tenants(self) -> Sequence[Tenant]:
        if self._account is not None and self._project is not None:
            return ((self._account, self._project),)
        return self._table.tenants(self._account)


class _Costs:
    """Sums with costs: one question for each span in which no price changes, and each of them by model too."""

    def __init__(
        self,
        table: UsageTable,
        tenants: Sequence[Tenant],
        by: tuple[Grouping, ...],
        where: Filters,
        prices: PriceBook,
    ) -> None:
        self._table, self._tenants, self._by = table, tenants, by
        self._where, self._prices = where, prices
        self._sums: dict[tuple[str, ...], _Sum] = {}

    def between(self, since_ms: int, until_ms: int) -> tuple[UsageTotal, ...]:
        changes = self._prices.changes_ms(since_ms, until_ms, self._where.get("model", ()))
        finer: tuple[Grouping, ...] = self._by if "model" in self._by else (*self._by, "model")
        for start_ms, end_ms in pairwise((since_ms, *changes, until_ms)):
            for row in self._table.totals(self._tenants, start_ms, end_ms, finer, self._where):
                group = tuple(row[name] for name in self._by)
                price = _total(group, row)
                cost = self._prices.cost_of(row["model"], price, start_ms)
                self._sums.setdefault(group, _Sum()).add(price, cost)
        return tuple(entry.total(group) for group, entry in sorted(self._sums.items()))


class _Sum:
    """One group on its way."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._amounts: dict[Currency, Decimal] = {}
        self._unpriced = 0

    def add(self, part: UsageTotal, cost: Cost | None) -> None:
        for name in _COUNTS:
            self._counts[name] += getattr(part, name)
        if cost is None:
            self._unpriced += part.total_tokens
        else:
            self._amounts[cost.currency] = self._amounts.get(cost.currency, Decimal(0)) + cost.amount

    def total(self, group: tuple[str, ...]) -> UsageTotal:
        cost = tuple(Cost(currency, amount) for currency, amount in sorted(self._amounts.items()))
        return UsageTotal(group, **self._counts, cost=cost, unpriced_tokens=self._unpriced)


_COUNTS = ("calls", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


def _total(group: tuple[str, ...], row: Mapping[str, Any]) -> UsageTotal:
    return UsageTotal(group, **{name: row[name] for name in _COUNTS})


def _groupings(by: Grouping | Sequence[Grouping]) -> tuple[Grouping, ...]:
    wanted = cast(tuple[Grouping, ...], (by,) if isinstance(by, str) else tuple(by))
    if unknown := [name for name in wanted if name not in GROUPINGS]:
        raise InvalidField(f"usage is grouped by {', '.join(GROUPINGS)}, not by `{str(unknown[0])[:64]}`", "by")
    if len(set(wanted)) < len(wanted) or len([name for name in wanted if name in TIMES]) > 1:
        raise InvalidField("usage is grouped once by each, and by one of hour, day and month", "by")
    return wanted
