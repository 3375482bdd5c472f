"""``GetApiKey``: a temporary key for some endpoints, models or bots (protocol §8.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from arkway.control.access import Access, Request, place_of, project_of
from arkway.control.errors import ResourceNotFound
from arkway.control.fields import strings
from arkway.core.audit import Entry
from arkway.core.caller import Caller
from arkway.core.errors import Forbidden, InvalidField
from arkway.core.model import Endpoint
from arkway.ports import Grant

Issue = Callable[[Grant], str]

DURATION_MAX_S = 2_592_000
_BOT = "bot-"


class ApiKeys:
    """Grants what the asking access key may use itself; ``issue`` makes the secret."""

    def __init__(self, access: Access, issue: Issue, longest_s: int) -> None:
        self._access = access
        self._issue = issue
        self._longest_s = min(longest_s, DURATION_MAX_S)

    def get(self, request: Request) -> dict[str, Any]:
        """The key, once the audit log has it. Raises ResourceNotFound, Forbidden, InvalidField, StoreUnavailable."""
        values, caller = request.values, request.caller
        asked = strings(values["ResourceIds"], "ResourceIds")
        if not asked:
            raise InvalidField("at least one id is needed", "ResourceIds")
        project = self._project(request, asked)
        resources = self._resources(request, project, asked)
        lifetime_s = min(values["DurationSeconds"], self._longest_s)
        if lifetime_s < values["DurationSeconds"]:
            request.reader.clamped.append("DurationSeconds")
        grant = Grant(caller.key_id, caller.account, project, resources, request.now_s + lifetime_s)
        detail = {"type": values["ResourceType"], "resources": list(resources), "expires_at": grant.expires_s}
        entry = Entry(caller.account, project, request.actor, request.kind.permission, resources[0], detail)
        self._access.audit.append(entry)
        return {"ApiKey": self._issue(grant), "ExpiredTime": grant.expires_s}

    def _project(self, request: Request, asked: Sequence[str]) -> str:
        """Where nothing else is said, the project of the first endpoint or bot."""
        if not request.values.get("ProjectName") and request.values["ResourceType"] in ("endpoint", "bot"):
            account, project = place_of(self._access, request.caller, asked[0])
            if account == request.caller.account:
                return project
        return project_of(self._access, request)

    def _resources(self, request: Request, project: str, asked: tuple[str, ...]) -> tuple[str, ...]:
        caller = request.caller
        if request.values["ResourceType"] == "bot":
            return self._bots(caller, project, asked)
        endpoints = self._access.resources(caller.account, project, request.actor).list()
        if request.values["ResourceType"] == "endpoint":
            return _endpoints(caller, endpoints, asked)
        found = (self._preset(caller, endpoints, name) for name in asked)
        return tuple(dict.fromkeys(endpoint_id for ids in found for endpoint_id in ids))

    def _bots(self, caller: Caller, project: str, asked: tuple[str, ...]) -> tuple[str, ...]:
        """As the directory has them: it knows of a new one within a second."""
        for bot_id in asked:
            found = self._access.directory.endpoint(bot_id) if bot_id.startswith(_BOT) else None
            if found is None or (found.account, found.project) != (caller.account, project):
                raise ResourceNotFound("bot", bot_id)
            if not _may_use(caller, bot_id):
                raise _forbidden(bot_id)
        return asked

    def _preset(self, caller: Caller, endpoints: Sequence[Endpoint], name: str) -> tuple[str, ...]:
        """The endpoints that a model's name or alias stands for (or one, by its own id)."""
        alias = self._access.directory.alias(name)
        found = [endpoint.id for endpoint in endpoints if name in (endpoint.id, endpoint.model_name)]
        if not found and alias is not None:
            same = [endpoint for endpoint in endpoints if endpoint.model_name == alias.model_name]
            # An endpoint that is pinned to another version than the alias is not meant.
            found = [e.id for e in same if not alias.model_version or e.model_version in ("", alias.model_version)]
        if not found:
            raise ResourceNotFound("model or endpoint", name)
        allowed = tuple(endpoint_id for endpoint_id in found if _may_use(caller, endpoint_id))
        if not allowed:
            raise _forbidden(name)
        return allowed


def _endpoints(caller: Caller, endpoints: Sequence[Endpoint], asked: tuple[str, ...]) -> tuple[str, ...]:
    known = {endpoint.id for endpoint in endpoints}
    for endpoint_id in asked:
        if endpoint_id not in known:
            raise ResourceNotFound("endpoint", endpoint_id)
        if not _may_use(caller, endpoint_id):
            raise _forbidden(endpoint_id)
    return asked


def _may_use(caller: Caller, resource: str) -> bool:
    return not caller.endpoints or resource in caller.endpoints


def _forbidden(resource: str) -> Forbidden:
    return Forbidden(f"this access key is not allowed to use `{resource}`")
