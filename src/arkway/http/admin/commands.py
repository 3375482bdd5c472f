"""What the operations act with: the admin commands, each made for one place and on somebody's behalf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from arkway.admin.access_keys import AccessKeys
from arkway.admin.aliases import Aliases
from arkway.admin.audit import AuditLog
from arkway.admin.bots import Bots
from arkway.admin.endpoints import Endpoints
from arkway.admin.groups import Groups
from arkway.admin.keys import Keys
from arkway.admin.limits import Limits
from arkway.admin.prices import Prices
from arkway.admin.tenancy import Accounts, Projects
from arkway.admin.upstreams import Upstreams
from arkway.admin.usage import UsageReports
from arkway.core.audit import Actor
from arkway.core.model import ModelCard
from arkway.http.admin.shapes import Model, Status
from arkway.knowledge.holdings import Holdings

FindModel = Callable[[str, str], tuple[ModelCard, str] | None]
T = TypeVar("T")


class Step(msgspec.Struct, frozen=True):
    """The commands on what others answer for, within one step; ``endpoints`` are the operator's own."""

    upstreams: Upstreams
    groups: Groups
    endpoints: Endpoints


class Together(Protocol):
    """Does a change on somebody's behalf as one step: all of it is kept, or none, and nobody else's comes between."""

    def __call__(self, actor: Actor, change: Callable[[Step], T]) -> T: ...


class Commands(msgspec.Struct, frozen=True, kw_only=True):
    """``(account, project, actor)`` give those of one project; ``usage`` and ``audit`` take None for all of them.

    ``models`` are the installed ones. None of the calls may be made on the event loop: they wait for the store.
    """

    accounts: Callable[[Actor], Accounts]
    projects: Callable[[str, Actor], Projects]
    keys: Callable[[str, str, Actor], Keys]
    access_keys: Callable[[str, str, Actor], AccessKeys]
    endpoints: Callable[[str, str, Actor], Endpoints]
    bots: Callable[[str, str, Actor], Bots]
    holdings: Callable[[str, str, Actor], Holdings]
    limits: Callable[[str, str, Actor], Limits]
    aliases: Callable[[Actor], Aliases]
    prices: Callable[[Actor], Prices]
    upstreams: Callable[[Actor], Upstreams]
    groups: Callable[[Actor], Groups]
    together: Together
    usage: Callable[[str | None, str | None], UsageReports]
    audit: Callable[[str | None], AuditLog]
    find_model: FindModel
    models: Callable[[], Sequence[Model]]
    status: Callable[[], Status]
