"""Endpoints: what callers name, and which model stands behind it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import msgspec

from arkway.core import ids
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import EndpointNotFound, InvalidField
from arkway.core.model import Endpoint, EndpointChange, Tag

NAME_MAX_CHARACTERS = 128
DESCRIPTION_MAX_CHARACTERS = 1024
TAGS_MAX = 20
TAG_MAX_CHARACTERS = 128


class EndpointTable(Protocol):
    """Where endpoints are kept."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def rows(self, account: str, project: str, *, deleted: bool = False) -> Sequence[Mapping[str, Any]]: ...

    def update(self, account: str, project: str, endpoint_id: str, values: Mapping[str, Any]) -> bool: ...


class Endpoints:
    """The commands on the endpoints of one project; the audit log names ``actor`` for each."""

    def __init__(
        self, table: EndpointTable, account: str = "default", project: str = "default", actor: Actor = SERVER
    ) -> None:
        self._table = table
        self._account, self._project, self._actor = account, project, actor

    def ensure(self, models: Sequence[str], now_s: int) -> tuple[Endpoint, ...]:
        """One endpoint for each of these models that never had one; returns the new ones.

        A model whose endpoint was deleted on purpose does not get another.
        """
        had = {row["model_name"] for row in self._table.rows(self._account, self._project, deleted=True)}
        missing = [model for model in dict.fromkeys(models) if model not in had]
        return tuple(self.create(model, model, now_s) for model in missing)

    def draft(
        self,
        name: str,
        model_name: str,
        now_s: int,
        model_version: str = "",
        *,
        description: str = "",
        moderation: str = "",
        tags: tuple[Tag, ...] = (),
    ) -> Endpoint:
        """An endpoint as it would be made; nothing is kept yet. Raises InvalidField."""
        check(EndpointChange(name=name, description=description, tags=tags))
        return Endpoint(
            id=ids.endpoint_id(time.strftime("%Y%m%d%H%M%S", time.gmtime(now_s)), secrets.token_bytes(16)),
            name=name,
            model_name=model_name,
            model_version=model_version,
            status="running",
            account=self._account,
            project=self._project,
            created_at=now_s,
            description=description,
            moderation=moderation,
            tags=tags,
            updated_at=now_s,
        )

    def add(self, endpoint: Endpoint) -> None:
        """Keeps a draft: from now on it is an endpoint."""
        detail = {"name": endpoint.name, "model": f"{endpoint.model_name}:{endpoint.model_version}"}
        self._under("create", endpoint.id, detail).insert([msgspec.to_builtins(endpoint)])

    def create(self, name: str, model_name: str, now_s: int, model_version: str = "", **more: Any) -> Endpoint:
        """A new running endpoint; ``model_version`` empty follows the model's default version.

        The rest is as in `draft`. Raises InvalidField.
        """
        endpoint = self.draft(name, model_name, now_s, model_version, **more)
        self.add(endpoint)
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

    def check(self, change: EndpointChange) -> None:
        """Raises InvalidField for what no endpoint can have."""
        check(change)

    def update(self, endpoint_id: str, change: EndpointChange, now_s: int) -> Endpoint:
        """The endpoint as it is then. Calls being served go on as they began. Raises EndpointNotFound, InvalidField."""
        check(change)
        values = {name: value for name, value in msgspec.to_builtins(change).items() if value is not None}
        self._set("update", endpoint_id, values, now_s)
        return self.show(endpoint_id)

    def stop(self, endpoint_id: str, now_s: int) -> None:
        """Calls to it are refused from now on. Raises EndpointNotFound."""
        self._set("stop", endpoint_id, {"status": "stopped"}, now_s)

    def start(self, endpoint_id: str, now_s: int) -> None:
        """Raises EndpointNotFound."""
        self._set("start", endpoint_id, {"status": "running"}, now_s)

    def delete(self, endpoint_id: str, now_s: int) -> None:
        """It does not come back; its usage stays. Raises EndpointNotFound."""
        self._set("delete", endpoint_id, {"status": "deleted"}, now_s)

    def _set(self, action: str, endpoint_id: str, values: Mapping[str, Any], now_s: int) -> None:
        table = self._under(action, endpoint_id, values if action == "update" else {})
        if not table.update(self._account, self._project, endpoint_id, {**values, "updated_at": now_s}):
            raise EndpointNotFound(endpoint_id)

    def _under(self, action: str, endpoint_id: str, detail: Mapping[str, Any]) -> EndpointTable:
        entry = Entry(self._account, self._project, self._actor, f"endpoints.{action}", endpoint_id, detail)
        return self._table.under(entry)


def check(change: EndpointChange) -> None:
    """Raises InvalidField for what no endpoint can have."""
    name, description, tags = change.name, change.description, change.tags
    if name is not None and (not name or len(name) > NAME_MAX_CHARACTERS or not name.isprintable()):
        raise InvalidField(f"an endpoint's name has 1 to {NAME_MAX_CHARACTERS} printable characters", "name")
    if description is not None and (len(description) > DESCRIPTION_MAX_CHARACTERS or "\0" in description):
        raise InvalidField(f"a description has at most {DESCRIPTION_MAX_CHARACTERS} characters", "description")
    if tags is not None:
        _check_tags(tags)


def _check_tags(tags: Sequence[Tag]) -> None:
    if len(tags) > TAGS_MAX or len({tag.key for tag in tags}) < len(tags):
        raise InvalidField(f"an endpoint has at most {TAGS_MAX} tags, no two of one key", "tags")
    for tag in tags:
        if not tag.key or not all(len(text) <= TAG_MAX_CHARACTERS and _plain(text) for text in (tag.key, tag.value)):
            raise InvalidField(
                f"a tag has a key and perhaps a value, each at most {TAG_MAX_CHARACTERS} printable characters", "tags"
            )


def _plain(text: str) -> bool:
    return not text or text.isprintable()
