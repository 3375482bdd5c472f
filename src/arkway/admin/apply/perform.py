"""A plan, carried out through the admin commands: each change is on record in the audit log, as if made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from arkway.admin.apply.entries import (
    AccessKey,
    Account,
    Alias,
    Bot,
    Endpoint,
    Entry,
    Group,
    Key,
    Limit,
    Price,
    Project,
    Upstream,
)
from arkway.admin.apply.plan import Change, Prepared, subject_of
from arkway.admin.apply.state import Commands
from arkway.admin.apply.terms import Kind, Ref
from arkway.admin.prices import Price as PriceOf
from arkway.admin.upstreams import UpstreamChange
from arkway.core.bot import BotChange
from arkway.core.errors import Misconfigured
from arkway.core.model import EndpointChange
from arkway.core.upstream import Credential
from arkway.core.upstream import Upstream as UpstreamValue


class Made(msgspec.Struct, frozen=True):
    """A new key with its secret, which exists this once. ``kind`` is ``key`` or ``access key``."""

    kind: Kind
    account: str
    project: str
    name: str
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Made({self.id!r})"


def perform(prepared: Prepared, commands: Commands, now_s: int) -> tuple[Made, ...]:
    """Every change of the plan, in its order; the new keys. Raises InvalidField, StoreUnavailable.

    Meant for one transaction. Without one, what was done stays done, and a new plan has the rest.
    """
    work = _Performing(prepared, commands, now_s)
    for change in prepared.plan.changes:
        work.do(change)
    return tuple(work.made)


def check_unchanged(shown: Prepared, now: Prepared) -> None:
    """Raises Misconfigured when the plan that was shown is not the plan any more."""
    if shown.plan != now.plan:
        raise Misconfigured("the platform has changed since the plan was shown, nothing was done; look at the new plan")


class _Performing:
    def __init__(self, prepared: Prepared, commands: Commands, now_s: int) -> None:
        self._wanted, self._state = prepared.wanted, prepared.state
        self._commands, self._now_s = commands, now_s
        self._new: dict[Ref, str] = {}
        self.made: list[Made] = []

    def do(self, change: Change) -> None:
        if change.action in ("create", "update"):
            entry, new = self._wanted[change.ref], change.action == "create"
            _SETTING[type(entry)](self, entry, new)
        else:
            _REMOVING[change.ref.kind](self, change.ref)

    def _id(self, ref: Ref) -> str:
        return self._new.get(ref) or self._state.id_of(ref)

    def _scope(self, key: Key) -> tuple[str, ...]:
        """The ids of what a key is for."""
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("endpoint", key.endpoints), ("bot", key.bots))
        return tuple(self._id(Ref(kind, key.account, key.project, name)) for kind, names in kinds for name in names)

    # Made and changed

    def account(self, entry: Account, new: bool) -> None:
        accounts, before = self._commands.accounts, self._state.entries.get(entry.ref)
        name, status = entry.name or entry.id, "active" if before is None else before.facts()["status"]
        if new:
            accounts.create(self._now_s, entry.id, name)
        elif before is not None and before.facts()["name"] != name:
            accounts.rename(entry.id, name)
        if entry.status != status:
            (accounts.suspend if entry.status == "suspended" else accounts.resume)(entry.id)

    def project(self, entry: Project, new: bool) -> None:
        projects, name = self._commands.projects(entry.account), entry.name or entry.id
        if new:
            projects.create(entry.id, self._now_s, name)
        else:
            projects.rename(entry.id, name)

    def upstream(self, entry: Upstream, new: bool) -> None:
        upstreams = self._commands.upstreams
        fields = {name: getattr(entry, name) for name in _OF_UPSTREAM}
        credential = self._credential(entry)
        if new:
            upstreams.add(UpstreamValue(name=entry.name, **fields), credential or Credential(), self._now_s)
        else:
            upstreams.update(entry.name, UpstreamChange(**fields, credential=credential), self._now_s)

    def _credential(self, entry: Upstream) -> Credential | None:
        """None = the one that it has."""
        before = self._state.entries.get(entry.ref)
        if entry.shows == "none":
            return Credential() if isinstance(before, Upstream) and before.shows != "none" else None
        if not entry.key_env:
            return None
        secret = self._commands.variable(entry.key_env)
        if entry.shows == "aksk":
            return Credential(access_key_id=entry.access_key_id, secret_access_key=secret)
        return Credential(key=secret)

    def group(self, entry: Group, new: bool) -> None:
        self._commands.groups.set(entry.value(), self._now_s)

    def endpoint(self, entry: Endpoint, new: bool) -> None:
        endpoints, before = self._commands.endpoints(entry.account, entry.project), self._state.entries.get(entry.ref)
        more: dict[str, Any] = {
            "description": entry.description,
            "moderation": entry.moderation,
            "tags": entry.tag_list(),
        }
        running = "running" if before is None else before.facts()["status"]
        if new:
            made = endpoints.create(entry.name, entry.model, self._now_s, entry.version, **more)
            self._new[entry.ref] = made.id
        elif before is not None and {**before.facts(), "status": ""} != {**entry.facts(), "status": ""}:
            change = EndpointChange(model_name=entry.model, model_version=entry.version, **more)
            endpoints.update(self._id(entry.ref), change, self._now_s)
        if entry.status != running:
            (endpoints.stop if entry.status == "stopped" else endpoints.start)(self._id(entry.ref), self._now_s)

    def bot(self, entry: Bot, new: bool) -> None:
        bots, before = self._commands.bots(entry.account, entry.project), self._state.entries.get(entry.ref)
        endpoint_id = self._id(Ref("endpoint", entry.account, entry.project, entry.endpoint))
        running = "running" if before is None else before.facts()["status"]
        if new:
            self._new[entry.ref] = bots.create(entry.name, endpoint_id, self._now_s, **entry.values()).id
        elif before is not None and {**before.facts(), "status": ""} != {**entry.facts(), "status": ""}:
            bots.update(self._id(entry.ref), BotChange(endpoint_id=endpoint_id, **entry.values()), self._now_s)
        if entry.status != running:
            (bots.stop if entry.status == "stopped" else bots.start)(self._id(entry.ref), self._now_s)

    def key(self, entry: Key, new: bool) -> None:
        keys, ids = self._commands.keys(entry.account, entry.project), self._scope(entry)
        if new:
            info, secret = keys.create(entry.name, self._now_s, ids, entry.expires_at, role=entry.role)
            self._keep(entry, info.id, secret)
        else:
            keys.update(self._id(entry.ref), entry.role, ids, entry.expires_at)

    def access_key(self, entry: AccessKey, new: bool) -> None:
        pairs, ids = self._commands.access_keys(entry.account, entry.project), self._scope(entry)
        if new:
            made = pairs.create(entry.name, self._now_s, ids, entry.expires_at, role=entry.role)
            self._keep(entry, made.info.id, made.secret)
        else:
            pairs.update(self._id(entry.ref), entry.role, ids, entry.expires_at)

    def _keep(self, entry: Key, key_id: str, secret: str) -> None:
        self._new[entry.ref] = key_id
        self.made.append(Made(entry.ref.kind, entry.account, entry.project, entry.name, key_id, secret))

    def limit(self, entry: Limit, new: bool) -> None:
        limits, subject = self._commands.limits(entry.account, entry.project or "default"), self._subject(entry)
        limits.set(entry.table_scope, subject, {entry.limit: entry.amount}, self._now_s, shadow=entry.shadow)

    def _subject(self, entry: Limit) -> str:
        return self._id(subject_of(entry)) if entry.name else ""

    def alias(self, entry: Alias, new: bool) -> None:
        self._commands.aliases.set(entry.name, entry.model, self._now_s, entry.version)

    def price(self, entry: Price, new: bool) -> None:
        fields = {name: getattr(entry, name) for name in entry.__struct_fields__ if name != "effective"}
        self._commands.prices.set(PriceOf(effective_at=entry.effective_at, **fields))

    # Taken away

    def suspend(self, ref: Ref) -> None:
        self._commands.accounts.suspend(ref.account)

    def stop(self, ref: Ref) -> None:
        self._commands.endpoints(ref.account, ref.project).stop(self._id(ref), self._now_s)

    def stop_bot(self, ref: Ref) -> None:
        self._commands.bots(ref.account, ref.project).stop(self._id(ref), self._now_s)

    def revoke_key(self, ref: Ref) -> None:
        self._commands.keys(ref.account, ref.project).revoke(self._id(ref), self._now_s)

    def revoke_access_key(self, ref: Ref) -> None:
        self._commands.access_keys(ref.account, ref.project).revoke(self._id(ref), self._now_s)

    def remove_limit(self, ref: Ref) -> None:
        entry = self._state.entries[ref]
        assert isinstance(entry, Limit)
        limits = self._commands.limits(ref.account, ref.project or "default")
        limits.remove(entry.table_scope, self._subject(entry), [entry.limit])

    def remove_upstream(self, ref: Ref) -> None:
        self._commands.upstreams.remove(ref.name)

    def remove_group(self, ref: Ref) -> None:
        entry = self._state.entries[ref]
        assert isinstance(entry, Group)
        self._commands.groups.remove(entry.model, entry.version)

    def remove_alias(self, ref: Ref) -> None:
        self._commands.aliases.remove(ref.name, self._now_s)

    def remove_price(self, ref: Ref) -> None:
        entry = self._state.entries[ref]
        assert isinstance(entry, Price)
        self._commands.prices.remove(entry.model, entry.effective_at)


_OF_UPSTREAM = ("base_url", "kind", "region", "connections_max", "connect_s", "first_byte_s", "idle_s", "ca_file")

_SETTING: Mapping[type[Entry], Callable[..., None]] = {
    Account: _Performing.account,
    Project: _Performing.project,
    Upstream: _Performing.upstream,
    Group: _Performing.group,
    Endpoint: _Performing.endpoint,
    Bot: _Performing.bot,
    Key: _Performing.key,
    AccessKey: _Performing.access_key,
    Limit: _Performing.limit,
    Alias: _Performing.alias,
    Price: _Performing.price,
}
_REMOVING: Mapping[Kind, Callable[[_Performing, Ref], None]] = {
    "account": _Performing.suspend,
    "upstream": _Performing.remove_upstream,
    "group": _Performing.remove_group,
    "endpoint": _Performing.stop,
    "bot": _Performing.stop_bot,
    "key": _Performing.revoke_key,
    "access key": _Performing.revoke_access_key,
    "limit": _Performing.remove_limit,
    "alias": _Performing.remove_alias,
    "price": _Performing.remove_price,
}
