"""The way from what there is to what a file says: every change, its reason, before and after. Nothing is done here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeGuard

import msgspec

from arkway.admin.apply.document import Platform, refuse
from arkway.admin.apply.entries import (
    KINDS,
    Account,
    Bot,
    Endpoint,
    Entry,
    Group,
    Key,
    Limit,
    Project,
    Upstream,
)
from arkway.admin.apply.state import Commands, State, look
from arkway.admin.apply.terms import Kind, Ref
from arkway.admin.tenancy import DEFAULT_PROJECT
from arkway.core.roles import HOST_ACCOUNT

Action = Literal["create", "update", "stop", "revoke", "suspend", "remove"]

RATES = ("rpm", "tpm")
NOT_NAMED = "the file does not name it"
# What becomes of a thing that the file does not name, with --prune; a project stays, since its ledger names it.
PRUNED: Mapping[str, Action] = {
    "account": "suspend",
    "upstream": "remove",
    "group": "remove",
    "endpoint": "stop",
    "bot": "stop",
    "key": "revoke",
    "access key": "revoke",
    "limit": "remove",
    "alias": "remove",
    "price": "remove",
}


class Difference(msgspec.Struct, frozen=True):
    """One fact that changes; ``before`` of a new thing is None."""

    field: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True):
    """One thing that is made, changed or taken away. ``differences`` is empty where it is taken away."""

    action: Action
    ref: Ref
    reason: str
    differences: tuple[Difference, ...] = ()


class Leftover(msgspec.Struct, frozen=True):
    """Something that is there and that the file does not name. ``prune`` is what --prune does to it, None: nothing."""

    ref: Ref
    prune: Action | None


class Plan(msgspec.Struct, frozen=True):
    """``changes`` in the order in which they are made. ``drift`` stays as it is, ``ambiguous`` is left alone.

    ``ambiguous``: things of one kind, project and name, with their ids. ``expired``: keys of the file that have.
    """

    changes: tuple[Change, ...]
    drift: tuple[Leftover, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = {}
    expired: tuple[Ref, ...] = ()


class Prepared(msgspec.Struct, frozen=True):
    """A plan with what it was made from."""

    plan: Plan
    wanted: Mapping[Ref, Entry]
    state: State


def prepare(platform: Platform, commands: Commands, now_s: int, *, prune: bool = False) -> Prepared:
    """The plan for this moment. Raises Misconfigured for what the file names and nobody can find, StoreUnavailable."""
    state = look(commands, now_s)
    wanted = _Wanting(platform, state, commands).entries()
    expired = _expired(wanted, state, now_s)
    alive = {ref: entry for ref, entry in wanted.items() if ref not in expired}
    there = {**state.entries, **_made_along(alive, state)}
    changes = [change for ref, entry in _in_order(alive) if (change := _change(entry, there.get(ref)))]
    missing = [ref for ref in state.entries if ref not in wanted]
    owned = [ref for ref in missing if _is_owned(state.entries[ref], wanted)]
    drift = [left for ref in missing if ref not in owned and (left := _left(ref, state, wanted))]
    removals = [Change("remove", ref, "its endpoint names no such rate") for ref in owned]
    if prune:
        removals += [Change(left.prune, left.ref, NOT_NAMED) for left in drift if left.prune]
        drift = [left for left in drift if not left.prune]
    ambiguous = {str(ref): ids for ref, ids in sorted(state.ambiguous.items())}
    # The last to come is the first to go: limits before keys, keys before endpoints.
    removals.sort(key=lambda change: (-KINDS.index(change.ref.kind), change.ref))
    return Prepared(Plan((*changes, *removals), tuple(drift), ambiguous, expired), wanted, state)


class _Wanting:
    """What a file names, in the words of the state: rates as limits, names where names will do."""

    def __init__(self, platform: Platform, state: State, commands: Commands) -> None:
        self._platform, self._state, self._commands = platform, state, commands
        self._problems: list[str] = []

    def entries(self) -> dict[Ref, Entry]:
        found: dict[Ref, Entry] = {}
        for ref, entry in self._platform.entries.items():
            self._check_place(ref)
            for each in self._resolved(entry):
                if each.ref in found:
                    self._say(ref, f"the {each.ref} is there twice")
                found[each.ref] = each
        self._check_ambiguous(found)
        self._check_defaults(found)
        refuse(self._problems)
        return found

    def _resolved(self, entry: Entry) -> Iterator[Entry]:
        if isinstance(entry, Endpoint):
            yield msgspec.structs.replace(entry, rpm=0, tpm=0)
            yield from rates_of(entry)
        elif isinstance(entry, Key):
            endpoints = tuple(self._in_scope(entry, "endpoint", name) for name in entry.endpoints)
            bots = tuple(self._in_scope(entry, "bot", name) for name in entry.bots)
            yield msgspec.structs.replace(entry, endpoints=endpoints, bots=bots)
        elif isinstance(entry, Bot):
            yield msgspec.structs.replace(entry, endpoint=self._behind(entry))
        elif isinstance(entry, Limit) and entry.name:
            yield msgspec.structs.replace(entry, name=self._subject(entry))
        elif isinstance(entry, Upstream):
            yield msgspec.structs.replace(entry, auth=entry.shows, key_env=self._secret(entry))
        elif isinstance(entry, Group):
            for upstream in dict.fromkeys(member.upstream for member in entry.value().members):
                self._named(entry.ref, Ref("upstream", "", "", upstream))
            yield entry
        else:
            yield entry

    def _in_scope(self, key: Key, kind: Kind, name: str) -> str:
        """An id that nobody has is let pass where the key has it already: what it named was deleted since."""
        before = self._state.entries.get(key.ref)
        had = isinstance(before, Key) and name in (before.endpoints if kind == "endpoint" else before.bots)
        return name if had else self._named(key.ref, Ref(kind, key.account, key.project, name))

    def _behind(self, bot: Bot) -> str:
        """The name of the bot's endpoint; as above where it was deleted since."""
        before = self._state.entries.get(bot.ref)
        if isinstance(before, Bot) and before.endpoint == bot.endpoint:
            return bot.endpoint
        return self._named(bot.ref, Ref("endpoint", bot.account, bot.project, bot.endpoint))

    def _secret(self, upstream: Upstream) -> str:
        """The variable to take the upstream's secret from, "" where it has that one or keeps its own."""
        before, variable = self._state.entries.get(upstream.ref), upstream.key_env
        if upstream.shows == "none":
            return ""
        if variable and (secret := self._commands.variable(variable)):
            has = isinstance(before, Upstream) and self._commands.upstreams.has_secret(upstream.name, secret)
            return "" if has else variable
        same = ("auth", "access_key_id")
        if isinstance(before, Upstream) and all(before.facts()[name] == upstream.facts()[name] for name in same):
            return ""
        wrong = f"the variable `{variable}` is not set; it is to hold" if variable else "name in `key_env` what holds"
        self._say(upstream.ref, f"{wrong} the secret of the {upstream.ref}")
        return variable

    def _subject(self, limit: Limit) -> str:
        return self._named(limit.ref, subject_of(limit))

    def _named(self, of: Ref, wanted: Ref) -> str:
        if wanted in self._state.ambiguous:
            ids = ", ".join(self._state.ambiguous[wanted])
            self._say(of, f"`{wanted.name}` is ambiguous, there are {ids}; write the id that you mean")
        if wanted in self._platform.entries:
            return wanted.name
        name = self._state.name_of(wanted)
        if not name:
            self._say(of, f"there is no {wanted}, neither in the file nor in the database")
        return name or wanted.name

    def _check_place(self, ref: Ref) -> None:
        places = [Ref("account", ref.account, "", "")] if ref.account and ref.kind != "account" else []
        places += [Ref("project", ref.account, ref.project, "")] if ref.project and ref.kind != "project" else []
        for place in places:
            implied = place.project == DEFAULT_PROJECT and Ref("account", ref.account, "", "") in self._platform.entries
            if place not in self._platform.entries and place not in self._state.entries and not implied:
                self._say(ref, f"there is no {place}; name it in [[{place.kind}s]], and it is made")
                return

    def _check_ambiguous(self, found: Mapping[Ref, Entry]) -> None:
        for ref in found:
            if ids := self._state.ambiguous.get(ref):
                self._say(ref, f"the {ref} is ambiguous: there are {', '.join(ids)}; keep one, or rename the others")

    def _check_defaults(self, found: Mapping[Ref, Entry]) -> None:
        named: dict[str, Ref] = {}
        for ref, entry in found.items():
            if isinstance(entry, Group) and entry.default and named.setdefault(entry.model, ref) != ref:
                self._say(ref, f"the {named[entry.model]} is the default version already; write `default = false` here")

    def _say(self, ref: Ref, message: str) -> None:
        self._problems.append(f"{self._platform.place(ref)}: {message}")


def subject_of(limit: Limit) -> Ref:
    """The key, endpoint or bot that a limit is of."""
    kinds: Mapping[str, Kind] = {"key": "key", "access_key": "access key", "endpoint": "endpoint", "bot": "bot"}
    return Ref(kinds[limit.scope], limit.account, limit.project, limit.name)


def rates_of(endpoint: Endpoint) -> Iterator[Limit]:
    """The limits that an endpoint's ``rpm`` and ``tpm`` stand for."""
    for name in RATES:
        if amount := getattr(endpoint, name):
            yield Limit(
                account=endpoint.account,
                project=endpoint.project,
                scope="endpoint",
                name=endpoint.name,
                limit=name,
                amount=amount,
            )


def _made_along(wanted: Mapping[Ref, Entry], state: State) -> dict[Ref, Entry]:
    """Every new account comes with its first project."""
    new = [entry for ref, entry in wanted.items() if isinstance(entry, Account) and ref not in state.entries]
    projects = [Project(account=account.id, id=DEFAULT_PROJECT, name=DEFAULT_PROJECT) for account in new]
    return {project.ref: project for project in projects}


def _in_order(entries: Mapping[Ref, Entry]) -> list[tuple[Ref, Entry]]:
    return sorted(entries.items(), key=lambda pair: (KINDS.index(pair[0].kind), pair[0]))


def _change(entry: Entry, before: Entry | None) -> Change | None:
    facts = entry.facts()
    if before is None:
        made = tuple(Difference(name, None, value) for name, value in facts.items() if value not in (None, "", [], {}))
        return Change("create", entry.ref, "it is not there yet", made)
    had = before.facts()
    found = tuple(Difference(name, had[name], value) for name, value in facts.items() if had[name] != value)
    return Change("update", entry.ref, "it differs from the file", found) if found else None


def _is_owned(entry: Entry, wanted: Mapping[Ref, Entry]) -> bool:
    """Whether it is a rate, written at its endpoint, of an endpoint that the file names."""
    if not is_rate(entry):
        return False
    return Ref("endpoint", entry.account, entry.project, entry.name) in wanted


def is_rate(entry: Entry) -> TypeGuard[Limit]:
    """Whether this limit can be written at its endpoint."""
    whole = isinstance(entry, Limit) and entry.amount == int(entry.amount)
    return (
        whole and isinstance(entry, Limit) and entry.scope == "endpoint" and entry.limit in RATES and not entry.shadow
    )


def _expired(wanted: Mapping[Ref, Entry], state: State, now_s: int) -> tuple[Ref, ...]:
    """Keys of the file that are not there any more, and what it says of their limits."""
    keys = {ref for ref, entry in wanted.items() if ref not in state.entries and _has_expired(entry, now_s)}
    limits = {
        ref for ref, entry in wanted.items() if isinstance(entry, Limit) and entry.name and subject_of(entry) in keys
    }
    return tuple(sorted(keys | limits))


def _has_expired(entry: Entry, now_s: int) -> bool:
    return isinstance(entry, Key) and entry.expires_at is not None and entry.expires_at <= now_s


def _left(ref: Ref, state: State, wanted: Mapping[Ref, Entry]) -> Leftover | None:
    """What is to be said of a thing that the file does not name; nothing where it is named by what is in it."""
    named = {each.account for each in wanted} | {HOST_ACCOUNT}
    if ref.kind == "account":
        return None if ref.account in named else Leftover(ref, _pruned(state.entries[ref]))
    if ref.account and ref.account not in named:
        return None  # with its account
    if ref.kind == "upstream" and any(isinstance(each, Group) and _asks(each, ref.name) for each in wanted.values()):
        return Leftover(ref, None)
    if ref.kind == "project" and (
        ref.project == DEFAULT_PROJECT or any(each.project == ref.project for each in wanted if _same(each, ref))
    ):
        return None
    return Leftover(ref, _pruned(state.entries[ref]))


def _asks(group: Group, upstream: str) -> bool:
    return any(member.upstream == upstream for member in group.value().members)


def _same(one: Ref, other: Ref) -> bool:
    return one.account == other.account


def _pruned(entry: Entry) -> Action | None:
    """What --prune does; nothing to what is stopped or suspended already."""
    if isinstance(entry, Account | Endpoint | Bot) and entry.status in ("suspended", "stopped"):
        return None
    return PRUNED.get(entry.ref.kind)
