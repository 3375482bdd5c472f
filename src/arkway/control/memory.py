"""What the control plane acts on, in memory: for tests, which then need no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from arkway.core.audit import Entry
from arkway.core.limit import Rates
from arkway.core.model import Endpoint


class Shown(Protocol):
    """A directory whose endpoints come and go."""

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]: ...

    def show(self, endpoints: Iterable[Endpoint]) -> None: ...

    def hide(self, endpoint_id: str) -> None: ...


D = TypeVar("D", bound=Shown)


class MemoryEndpoints(Generic[D]):
    """Implements `arkway.admin.endpoints.EndpointTable` over what a directory shows, and `arkway.ports.Audit`."""

    def __init__(self, directory: D) -> None:
        self.directory = directory
        self.entries: list[Entry] = []

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def under(self, entry: Entry) -> Self:
        self.append(entry)
        return self

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.directory.show(msgspec.convert(rows, tuple[Endpoint, ...]))

    def rows(self, account: str, project: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(endpoint) for endpoint in self.directory.endpoints(account, project)]

    def update(self, account: str, project: str, endpoint_id: str, values: Mapping[str, Any]) -> bool:
        found = next((row for row in self.rows(account, project) if row["id"] == endpoint_id), None)
        if found is not None and values.get("status") == "deleted":
            self.directory.hide(endpoint_id)
        elif found is not None:
            self.insert([{**found, **values}])
        return found is not None


class MemoryRates:
    """Implements `arkway.control.RateLimits` in memory."""

    def __init__(self) -> None:
        self._rates: dict[str, Rates] = {}

    def all(self) -> Mapping[str, Rates]:
        return self._rates

    def put(self, endpoint_id: str, rates: Rates, now_s: int) -> None:
        self._rates[endpoint_id] = rates
