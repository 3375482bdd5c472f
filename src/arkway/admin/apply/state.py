"""What there is on a host, in the words of a platform file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from arkway.admin.access_keys import AccessKeyInfo, AccessKeys
from arkway.admin.aliases import Aliases
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
from arkway.admin.apply.terms import Ref
from arkway.admin.bots import Bots, written_action
from arkway.admin.endpoints import Endpoints
from arkway.admin.groups import GroupInfo, Groups, written_member
from arkway.admin.keys import KeyInfo, Keys
from arkway.admin.limits import LimitInfo, Limits
from arkway.admin.prices import Prices
from arkway.admin.tenancy import Accounts, Projects
from arkway.admin.upstreams import UpstreamInfo, Upstreams
from arkway.core import bot as core_bot
from arkway.core import model
from arkway.core.upstream import Policy


class Commands(Protocol):
    """The admin commands of one host, all in one person's name."""

    @property
    def accounts(self) -> Accounts: ...

    @property
    def aliases(self) -> Aliases: ...

    @property
    def prices(self) -> Prices: ...

    @property
    def upstreams(self) -> Upstreams: ...

    @property
    def groups(self) -> Groups: ...

    def variable(self, name: str) -> str:
        """What a variable of the environment holds; empty where it is not set."""

    def projects(self, account: str) -> Projects: ...

    def endpoints(self, account: str, project: str) -> Endpoints: ...

    def bots(self, account: str, project: str) -> Bots: ...

    def keys(self, account: str, project: str) -> Keys: ...

    def access_keys(self, account: str, project: str) -> AccessKeys: ...

    def limits(self, account: str, project: str) -> Limits: ...


class State(msgspec.Struct, frozen=True):
    """``entries``: everything that a file can name. ``ids``: those of keys, endpoints and bots.

    ``ambiguous``: several things of one kind, project and name, with their ids; no file can tell them apart. Keys that
    were revoked or have expired, deleted endpoints and bots, and the limits of either are not there any more.
    """

    entries: Mapping[Ref, Entry]
    ids: Mapping[Ref, str]
    ambiguous: Mapping[Ref, tuple[str, ...]]

    def known(self, ref: Ref) -> bool:
        return ref in self.entries or ref in self.ambiguous

    def name_of(self, like: Ref) -> str:
        """How a file is to call the key, endpoint or bot whose name or id ``like`` has; "" where there is none.

        By its name, or by its id where the name is not its own.
        """
        if self.known(like):
            return like.name
        for ref, each in self.ids.items():
            if each == like.name and _beside(ref, like):
                return ref.name
        shared = (ids for ref, ids in self.ambiguous.items() if _beside(ref, like))
        return like.name if any(like.name in ids for ids in shared) else ""

    def id_of(self, ref: Ref) -> str:
        """The id of a key, endpoint or bot; where nothing is called that, it is an id."""
        return self.ids.get(ref, ref.name)


def look(commands: Commands, now_s: int) -> State:
    """What there is now. Raises StoreUnavailable."""
    seen = _Looking(commands, now_s)
    for account in commands.accounts.list():
        seen.add(Account(id=account.id, name=account.name, status=account.status))
        for project in commands.projects(account.id).list():
            seen.add(Project(account=account.id, id=project.id, name=project.name))
            seen.look_into(account.id, project.id)
    for upstream in commands.upstreams.list():
        seen.add(_upstream(upstream))
    for group in commands.groups.list():
        seen.add(_group(group))
    for alias in commands.aliases.list():
        seen.add(Alias(name=alias.name, model=alias.model_name, version=alias.model_version))
    for price in commands.prices.list():
        fields = {name: value for name, value in msgspec.structs.asdict(price).items() if name != "effective_at"}
        seen.add(Price(effective=datetime.fromtimestamp(price.effective_at, UTC), **fields))
    return State(seen.entries, seen.ids, seen.ambiguous)


class _Looking:
    def __init__(self, commands: Commands, now_s: int) -> None:
        self._commands, self._now_s = commands, now_s
        self.entries: dict[Ref, Entry] = {}
        self.ids: dict[Ref, str] = {}
        self.ambiguous: dict[Ref, tuple[str, ...]] = {}

    def add(self, entry: Entry) -> None:
        self.entries[entry.ref] = entry

    def look_into(self, account: str, project: str) -> None:
        """One project. Endpoints first: bots, keys and limits name them."""
        where = (account, project)
        endpoints = {each.id: _endpoint(each) for each in self._commands.endpoints(*where).list()}
        self._name(endpoints)
        names = {each: self._called(entry.ref, each) for each, entry in endpoints.items()}
        bots = {each.id: _bot(each, names) for each in self._commands.bots(*where).list()}
        self._name(bots)
        names |= {each: self._called(entry.ref, each) for each, entry in bots.items()}
        keys = {each.id: _key(each, names) for each in self._alive(self._commands.keys(*where).list())}
        pairs = {each.id: _pair(each, names) for each in self._alive(self._commands.access_keys(*where).list())}
        self._name(keys)
        self._name(pairs)
        self._limits(account, project, {**endpoints, **bots, **keys, **pairs})

    def _limits(self, account: str, project: str, subjects: Mapping[str, Entry]) -> None:
        for info in self._commands.limits(account, project).list():
            if not info.subject:
                self.add(_limit(info, info.scope, ""))
            elif (entry := subjects.get(info.subject)) is not None:
                scopes = {AccessKey: "access_key", Bot: "bot"}
                scope = scopes.get(type(entry), info.scope)
                self.add(_limit(info, scope, self._called(entry.ref, info.subject)))

    def _alive(self, infos: Iterable[KeyInfo | AccessKeyInfo]) -> list[KeyInfo | AccessKeyInfo]:
        return [each for each in infos if each.status(self._now_s) == "active" and not _is_temporary(each)]

    def _name(self, entries: Mapping[str, Entry]) -> None:
        by_ref: dict[Ref, list[str]] = defaultdict(list)
        for each, entry in entries.items():
            by_ref[entry.ref].append(each)
        for ref, found in by_ref.items():
            if len(found) == 1:
                self.entries[ref], self.ids[ref] = entries[found[0]], found[0]
            else:
                self.ambiguous[ref] = tuple(sorted(found))

    def _called(self, ref: Ref, each: str) -> str:
        return each if ref in self.ambiguous else ref.name


def _beside(one: Ref, other: Ref) -> bool:
    """Of one kind and one project."""
    return (one.kind, one.account, one.project) == (other.kind, other.account, other.project)


def _is_temporary(info: KeyInfo | AccessKeyInfo) -> bool:
    return isinstance(info, AccessKeyInfo) and info.temporary


def _is_bot(resource: str) -> bool:
    return resource.startswith("bot-")


def _endpoint(endpoint: model.Endpoint) -> Endpoint:
    return Endpoint(
        account=endpoint.account,
        project=endpoint.project,
        name=endpoint.name,
        model=endpoint.model_name,
        version=endpoint.model_version,
        status=endpoint.status,
        description=endpoint.description,
        moderation=endpoint.moderation,
        tags={tag.key: tag.value for tag in endpoint.tags},
    )


def _bot(bot: core_bot.Bot, names: Mapping[str, str]) -> Bot:
    fields = msgspec.structs.asdict(bot)
    told = {name: fields[name] for name in Bot.__struct_fields__ if name in fields and name != "actions"}
    actions = tuple(map(written_action, bot.actions))
    return Bot(**told, endpoint=names.get(bot.endpoint_id, bot.endpoint_id), actions=actions)


def _upstream(info: UpstreamInfo) -> Upstream:
    fields = msgspec.structs.asdict(info)
    return Upstream(**{name: fields[name] for name in Upstream.__struct_fields__ if name in fields})


def _group(info: GroupInfo) -> Group:
    card, policy = info.card, info.policy
    return Group(
        model=card.name,
        version=card.version,
        members=tuple(map(written_member, info.members)),
        default=info.is_default,
        title=card.title,
        capabilities=card.capabilities,
        context_tokens=card.context_tokens,
        max_output_tokens=card.max_output_tokens,
        default_output_tokens=card.default_output_tokens,
        dimensions=card.dimensions,
        tokenizer=card.tokenizer,
        **{name: getattr(policy, name) for name in Policy.__struct_fields__},
    )


def _key(info: KeyInfo | AccessKeyInfo, names: Mapping[str, str], kind: type[Key] = Key) -> Key:
    return kind(
        account=info.account,
        project=info.project,
        name=info.name,
        role=info.role,
        endpoints=tuple(names.get(each, each) for each in info.endpoints if not _is_bot(each)),
        bots=tuple(names.get(each, each) for each in info.endpoints if _is_bot(each)),
        expires=None if info.expires_at is None else datetime.fromtimestamp(info.expires_at, UTC),
    )


def _pair(info: KeyInfo | AccessKeyInfo, names: Mapping[str, str]) -> Key:
    return _key(info, names, AccessKey)


def _limit(info: LimitInfo, scope: str, name: str) -> Limit:
    fields = {"account": info.account, "project": info.project, "scope": scope, "name": name}
    return msgspec.convert({**fields, "limit": info.name, "amount": info.amount, "shadow": info.shadow}, Limit)
