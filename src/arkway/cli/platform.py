"""What `arkway apply` and `arkway export` share: every admin command of this host, in one transaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    import sqlalchemy as sa

    from arkway.admin.access_keys import AccessKeys
    from arkway.admin.apply import Commands
    from arkway.admin.bots import Bots, HasCollection
    from arkway.admin.endpoints import Endpoints
    from arkway.admin.groups import Groups
    from arkway.admin.keys import Keys
    from arkway.admin.limits import Limits
    from arkway.admin.tenancy import Projects
    from arkway.admin.upstreams import Upstreams
    from arkway.core.audit import Actor
    from arkway.stores.home import Pepper
    from arkway.stores.keyring import KeyRing
    from arkway.stores.recorded import Transactions

T = TypeVar("T")


class Host:
    """Implements `arkway.admin.apply.Commands` over a database, on somebody's behalf."""

    def __init__(
        self,
        store: Transactions,
        pepper: Pepper,
        ring: Callable[[], KeyRing],
        actor: Actor,
        has_collection: HasCollection,
    ) -> None:
        from arkway.admin.aliases import Aliases
        from arkway.admin.prices import Prices
        from arkway.admin.tenancy import Accounts
        from arkway.stores.prices import PriceTable
        from arkway.stores.tables import AliasTable
        from arkway.stores.tenancy import AccountTable

        self._store, self._pepper, self._ring, self._actor = store, pepper, ring, actor
        self._has_collection = has_collection
        self.accounts = Accounts(AccountTable(store), actor)
        self.aliases = Aliases(AliasTable(store), actor)
        self.prices = Prices(PriceTable(store), actor)

    @property
    def upstreams(self) -> Upstreams:
        from arkway.admin.upstreams import Upstreams
        from arkway.stores.upstreams import UpstreamTable

        return Upstreams(UpstreamTable(self._store, self._ring()), self._actor)

    @property
    def groups(self) -> Groups:
        from arkway.admin.groups import Groups
        from arkway.stores.upstreams import GroupTable

        return Groups(GroupTable(self._store), self._actor)

    def variable(self, name: str) -> str:
        """What the environment's variable holds."""
        return os.environ.get(name, "").strip()

    def projects(self, account: str) -> Projects:
        from arkway.admin.tenancy import Projects
        from arkway.stores.tenancy import ProjectTable

        return Projects(ProjectTable(self._store), account, self._actor)

    def endpoints(self, account: str, project: str) -> Endpoints:
        from arkway.admin.endpoints import Endpoints
        from arkway.stores.tables import EndpointTable

        return Endpoints(EndpointTable(self._store), account, project, self._actor)

    def bots(self, account: str, project: str) -> Bots:
        from arkway.admin.bots import Bots
        from arkway.stores.bots import BotTable

        return Bots(BotTable(self._store), self._has_collection, account, project, self._actor)

    def keys(self, account: str, project: str) -> Keys:
        from arkway.admin.keys import Keys
        from arkway.stores.tables import KeyTable

        return Keys(KeyTable(self._store), self._pepper.digest, account, project, self._actor)

    def access_keys(self, account: str, project: str) -> AccessKeys:
        from arkway.admin.access_keys import AccessKeys
        from arkway.stores.access_keys import AccessKeyTable

        return AccessKeys(AccessKeyTable(self._store, self._ring()), account, project, self._actor)

    def limits(self, account: str, project: str) -> Limits:
        from arkway.admin.limits import Limits
        from arkway.stores.limits import LimitTable

        return Limits(LimitTable(self._store), account, project, self._actor)


class Within:
    """A store whose one transaction is already open: what is done over it happens all together, or not at all."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def run_sync(self, work: Callable[[sa.Connection], T], *, read: bool = False, tell: bool = False) -> T:
        return work(self._connection)


def in_one(ctx: click.Context, work: Callable[[Commands], T], *, read: bool = False) -> T:
    """``work`` with every command of this host, in one transaction. Errors of the tree become sentences."""
    from functools import cache

    from arkway.cli.context import settings
    from arkway.cli.database import collections_known, key_ring, opened
    from arkway.cli.tenant import actor
    from arkway.stores.home import pepper

    with opened(ctx) as store:
        spice = pepper(settings(ctx).home)
        ring = cache(lambda: key_ring(ctx))
        has_collection = collections_known(ctx)

        def transaction(connection: sa.Connection) -> T:
            return work(Host(Within(connection), spice, ring, actor(), has_collection))

        return store.run_sync(transaction, read=read, tell=not read)
