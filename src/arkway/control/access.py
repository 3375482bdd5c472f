"""What the control plane acts on, behind protocols, and one action while it is being done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from arkway.control.actions import ActionKind
from arkway.control.errors import ResourceNotFound
from arkway.control.fields import Reader
from arkway.core.audit import Actor
from arkway.core.caller import Caller
from arkway.core.limit import Rates
from arkway.core.model import Endpoint, EndpointChange, ModelCard, Tag
from arkway.core.roles import reaches
from arkway.ports import Audit, Directory

FindModel = Callable[[str, str], tuple[ModelCard, str] | None]


class Resources(Protocol):
    """The commands on the endpoints of one project, on somebody's behalf; those on one raise EndpointNotFound."""

    def list(self) -> tuple[Endpoint, ...]: ...

    def show(self, endpoint_id: str) -> Endpoint: ...

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
    ) -> Endpoint: ...

    def add(self, endpoint: Endpoint) -> None: ...

    def check(self, change: EndpointChange) -> None: ...

    def update(self, endpoint_id: str, change: EndpointChange, now_s: int) -> Endpoint: ...

    def start(self, endpoint_id: str, now_s: int) -> None: ...

    def stop(self, endpoint_id: str, now_s: int) -> None: ...

    def delete(self, endpoint_id: str, now_s: int) -> None: ...


class RateLimits(Protocol):
    """Rates of the endpoints of one project, by endpoint id, on somebody's behalf."""

    def all(self) -> Mapping[str, Rates]: ...

    def put(self, endpoint_id: str, rates: Rates, now_s: int) -> None: ...


Change = Callable[[Resources, RateLimits], None]
Together = Callable[[str, str, Actor, Change], None]
"""Does a change of one account's project, on somebody's behalf, as one step: all of it is kept, or none."""


class Certificate(msgspec.Struct, frozen=True):
    """The certificate of message encryption: PEM, and when it is good (epoch seconds)."""

    pem: str
    not_before: int
    not_after: int


class Access(msgspec.Struct, frozen=True):
    """How the control plane comes by what it acts on; ``resources`` and ``rates`` take account, project and actor.

    ``together``: for a change of an endpoint and of its rates.
    """

    resources: Callable[[str, str, Actor], Resources]
    rates: Callable[[str, str, Actor], RateLimits]
    together: Together
    has_project: Callable[[str, str], bool]
    audit: Audit
    directory: Directory
    find_model: FindModel


class Request(msgspec.Struct, frozen=True):
    """One action while it is being done: its fields as read, on whose behalf, and when."""

    kind: ActionKind
    values: Mapping[str, Any]
    reader: Reader
    caller: Caller
    actor: Actor
    now_s: int


def project_of(access: Access, request: Request) -> str:
    """The project that is meant, one of the caller's account. Raises ResourceNotFound."""
    caller = request.caller
    name: str = request.values.get("ProjectName") or caller.project
    if name == caller.project:
        return name
    if not reaches(caller, caller.account, name) or not access.has_project(caller.account, name):
        raise ResourceNotFound("project", name)
    return name


def place_of(access: Access, caller: Caller, endpoint_id: str) -> tuple[str, str]:
    """Account and project in which an endpoint of this id would be the caller's.

    One that it does not reach is looked for in its own project, as one that does not exist: the same steps.
    """
    found = access.directory.endpoint(endpoint_id)
    if found is not None and reaches(caller, found.account, found.project):
        return found.account, found.project
    return caller.account, caller.project
