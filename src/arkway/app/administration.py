"""The Admin API's commands over a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import sqlalchemy as sa

from arkway import __version__
from arkway.admin.access_keys import AccessKeys
from arkway.admin.aliases import Aliases
from arkway.admin.audit import AuditLog
from arkway.admin.bots import Bots, HasCollection
from arkway.admin.endpoints import Endpoints
from arkway.admin.groups import Groups
from arkway.admin.keys import Keys
from arkway.admin.limits import Limits
from arkway.admin.prices import Prices
from arkway.admin.tenancy import DEFAULT_PROJECT, Accounts, Projects
from arkway.admin.upstreams import Upstreams
from arkway.admin.usage import UsageReports
from arkway.core.audit import Actor
from arkway.core.roles import HOST_ACCOUNT
from arkway.http.admin import Commands
from arkway.http.admin.commands import FindModel, Step
from arkway.http.admin.shapes import Model, Status, model_shown
from arkway.knowledge.holdings import Holdings
from arkway.models.store import InstalledModel
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.audit import AuditTable
from arkway.stores.bots import BotTable
from arkway.stores.home import Pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.limits import LimitTable
from arkway.stores.prices import PriceTable
from arkway.stores.recorded import Within
from arkway.stores.store import Store
from arkway.stores.tables import AliasTable, EndpointTable, KeyTable
from arkway.stores.tenancy import AccountTable, ProjectTable
from arkway.stores.upstreams import GroupTable, UpstreamTable
from arkway.stores.usage import UsageTable
from arkway.telemetry.metrics import Reading

T = TypeVar("T")


def admin_commands(
    store: Store,
    pepper: Pepper,
    ring: KeyRing,
    find_model: FindModel,
    models: Callable[[], Iterable[Model]],
    status: Callable[[], Status],
    has_collection: HasCollection,
    holdings: Callable[[str, str, Actor], Holdings],
) -> Commands:
    """The commands of one installation."""

    def together(actor: Actor, change: Callable[[Step], T]) -> T:
        def work(connection: sa.Connection) -> T:
            inside = Within(connection)
            upstreams, groups = UpstreamTable(inside, ring), GroupTable(inside)
            endpoints = Endpoints(EndpointTable(inside), HOST_ACCOUNT, DEFAULT_PROJECT, actor)
            return change(Step(Upstreams(upstreams, actor), Groups(groups, actor), endpoints))

        return store.run_sync(work, tell=True)

    return Commands(
        accounts=lambda actor: Accounts(AccountTable(store), actor),
        projects=lambda account, actor: Projects(ProjectTable(store), account, actor),
        keys=lambda account, project, actor: Keys(KeyTable(store), pepper.digest, account, project, actor),
        access_keys=lambda account, project, actor: AccessKeys(AccessKeyTable(store, ring), account, project, actor),
        endpoints=lambda account, project, actor: Endpoints(EndpointTable(store), account, project, actor),
        bots=lambda account, project, actor: Bots(BotTable(store), has_collection, account, project, actor),
        holdings=holdings,
        limits=lambda account, project, actor: Limits(LimitTable(store), account, project, actor),
        aliases=lambda actor: Aliases(AliasTable(store), actor),
        prices=lambda actor: Prices(PriceTable(store), actor),
        upstreams=lambda actor: Upstreams(UpstreamTable(store, ring), actor),
        groups=lambda actor: Groups(GroupTable(store), actor),
        together=together,
        usage=lambda account, project: UsageReports(UsageTable(store), account, project),
        audit=lambda account: AuditLog(AuditTable(store), account),
        find_model=find_model,
        models=lambda: tuple(models()),
        status=status,
    )


def models_shown(models: Iterable[InstalledModel]) -> tuple[Model, ...]:
    """What the Admin API shows of installed models."""
    return tuple(
        model_shown(
            model.card,
            is_default=model.is_default,
            size_bytes=model.size_bytes,
            sha256=model.sha256,
            source=model.source,
        )
        for model in models
    )


def status_of(troubles: tuple[str, ...], warnings: tuple[str, ...], gauges: Reading) -> Status:
    """How the server is."""
    return Status(__version__, not troubles, troubles, warnings, dict(gauges))
