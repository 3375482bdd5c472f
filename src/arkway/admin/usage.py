"""What was used: single calls and sums, from the settled rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from arkway.core.chat import Provenance
from arkway.ports import Outcome

Grouping = Literal["day", "key", "endpoint", "model"]
END_OF_TIME_MS = 1 << 62
ROWS_MAX = 10_000


class UsageRow(msgspec.Struct, frozen=True):
    """One settled attempt. Times are epoch milliseconds, durations milliseconds (−1 = never got that far)."""

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

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageTotal(msgspec.Struct, frozen=True):
    """Sums over one group: a UTC day (``YYYY-MM-DD``), a key, an endpoint or a model."""

    group: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageTable(Protocol):
    """Where settled attempts are kept."""

    def rows(
        self, account: str, project: str, since_ms: int, until_ms: int, limit: int
    ) -> Sequence[Mapping[str, Any]]: ...

    def totals(
        self, account: str, project: str, since_ms: int, until_ms: int, by: Grouping
    ) -> Sequence[Mapping[str, Any]]: ...


class UsageReports:
    """The questions one project may ask. Times are half-open: from ``since_ms`` up to, not including, ``until_ms``."""

    def __init__(self, table: UsageTable, account: str = "default", project: str = "default") -> None:
        self._table = table
        self._account, self._project = account, project

    def rows(self, since_ms: int = 0, until_ms: int = END_OF_TIME_MS, limit: int = 100) -> tuple[UsageRow, ...]:
        """The newest calls, newest first; at most ``limit`` and 10 000."""
        found = self._table.rows(self._account, self._project, since_ms, until_ms, min(limit, ROWS_MAX))
        return tuple(msgspec.convert(row, UsageRow) for row in found)

    def totals(self, by: Grouping, since_ms: int = 0, until_ms: int = END_OF_TIME_MS) -> tuple[UsageTotal, ...]:
        """Sums by group, in the order of the groups' names."""
        found = self._table.totals(self._account, self._project, since_ms, until_ms, by)
        return tuple(msgspec.convert(row, UsageTotal) for row in found)
