"""Endpoints: what callers name, and which model stands behind it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from arkway.core import ids
from arkway.core.errors import EndpointNotFound, InvalidField
from arkway.core.model import Endpoint

NAME_MAX_CHARACTERS = 128


class EndpointTable(Protocol):
    """Where endpoints are kept."""

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def rows(self, account: str, project: str, *, deleted: bool = False) -> Sequence[Mapping[str, Any]]: ...

    def set_status(self, account: str, project: str, endpoint_id: str, status: str) -> bool: ...


class Endpoints:
    """The commands on the endpoints of one project."""

    def __init__(self, table: EndpointTable, account: str = "default", project: str = "default") -> None:
        self._table = table
        self._account, self._project = account, project

    def ensure(self, models: Sequence[str], now_s: int) -> tuple[Endpoint, ...]:
        """One endpoint for each of these models that never had one; returns the new ones.

        A model whose endpoint was deleted on purpose does not get another.
        """
        had = {row["model_name"] for row in self._table.rows(self._account, self._project, deleted=True)}
        missing = [model for model in dict.fromkeys(models) if model not in had]
        made = tuple(self._endpoint(model, model, "", now_s) for model in missing)
        self._table.insert([msgspec.structs.asdict(endpoint) for endpoint in made])
        return made

    def create(self, name: str, model_name: str, now_s: int, model_version: str = "") -> Endpoint:
        """A new running endpoint; ``model_version`` empty follows the model's default version. Raises InvalidField."""
        if not name or len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
            raise InvalidField(f"an endpoint's name has 1 to {NAME_MAX_CHARACTERS} printable characters", "name")
        endpoint = self._endpoint(name, model_name, model_version, now_s)
        self._table.insert([msgspec.structs.asdict(endpoint)])
        return endpoint

    def list(self) -> tuple[Endpoint, ...]:
        """Every endpoint of the project, oldest first."""
        return tuple(msgspec.convert(row, Endpoint) for row in self._table.rows(self._account, self._project))

    def show(self, endpoint_id: str) -> Endpoint:
        """Raises EndpointNotFound."""
        found = (endpoint for endpoint in self.list() if endpoint.id == endpoint_id)
        endpoint = next(found, None)
        if endpoint is None:
            raise EndpointNotFound(endpoint_id)
        return endpoint

    def stop(self, endpoint_id: str) -> None:
        """Calls to it are refused from now on. Raises EndpointNotFound."""
        self._set_status(endpoint_id, "stopped")

    def start(self, endpoint_id: str) -> None:
        """Raises EndpointNotFound."""
        self._set_status(endpoint_id, "running")

    def delete(self, endpoint_id: str) -> None:
        """It does not come back; its usage stays. Raises EndpointNotFound."""
        self._set_status(endpoint_id, "deleted")

    def _set_status(self, endpoint_id: str, status: str) -> None:
        if not self._table.set_status(self._account, self._project, endpoint_id, status):
            raise EndpointNotFound(endpoint_id)

    def _endpoint(self, name: str, model_name: str, model_version: str, now_s: int) -> Endpoint:
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now_s))
        return Endpoint(
            id=ids.endpoint_id(stamp, secrets.token_bytes(16)),
            name=name,
            model_name=model_name,
            model_version=model_version,
            status="running",
            account=self._account,
            project=self._project,
            created_at=now_s,
        )
