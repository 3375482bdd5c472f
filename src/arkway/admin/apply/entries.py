"""What a platform file may name: one struct for each kind of thing, its keys as they are written.

A key that is left out has its default, for new things and for those that are there. Each entry has a ``ref``, which
tells it from all others, and ``facts``, everything else that can change about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from arkway.admin.access_keys import NAME_MAX_CHARACTERS
from arkway.admin.aliases import NAME_MAX_CHARACTERS as ALIAS_MAX_CHARACTERS
from arkway.admin.endpoints import check as check_endpoint
from arkway.admin.keys import check_role
from arkway.admin.limits import AMOUNT_MAX, AMOUNT_MIN, WHATS
from arkway.admin.prices import MINUTE_S, PRICE_MAX
from arkway.core.caller import Role
from arkway.core.errors import InvalidField
from arkway.core.limit import Scope
from arkway.core.model import EndpointChange, Tag
from arkway.core.roles import HOST_ACCOUNT, ROLES

Kind = Literal["account", "project", "endpoint", "key", "access key", "limit", "alias", "price"]
Facts = Mapping[str, Any]

Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first",
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 printable characters")]
MaybeName = Annotated[str, Meta(max_length=128, description="at most 128 printable characters")]
ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="a model's name")]
Version = Annotated[str, Meta(max_length=256, description='a model\'s version, or "" for its default one')]
Status = Annotated[Literal["running", "stopped"], Meta(description="`running` or `stopped`")]
AccountStatus = Annotated[Literal["active", "suspended"], Meta(description="`active` or `suspended`")]
Text = Annotated[str, Meta(max_length=1024, description="a text of at most 1024 characters")]
Tags = Annotated[dict[str, str], Meta(description='texts by their names, such as { team = "search" }')]
Rate = Annotated[int, Meta(ge=0, le=10**15, description="a whole number, 0 for no limit")]
RoleName = Annotated[Role, Meta(description=" or ".join(f"`{role}`" for role in ROLES))]
Names = Annotated[tuple[str, ...], Meta(description='names of endpoints, such as ["chat"]')]
Moment = Annotated[datetime, Meta(tz=True, description="a time with its offset, such as 2026-12-31T00:00:00Z")]
LimitScope = Annotated[
    Literal["key", "access_key", "endpoint", "project", "account"],
    Meta(description="`key`, `access_key`, `endpoint`, `project` or `account`"),
]
LimitName = Annotated[str, Meta(description=" or ".join(f"`{name}`" for name in WHATS))]
Amount = Annotated[float, Meta(ge=AMOUNT_MIN, le=AMOUNT_MAX, description="a number of at least 0.001")]
Money = Annotated[
    float, Meta(ge=0, le=PRICE_MAX, description=f"the price of a million tokens, from 0 to {PRICE_MAX:,.0f}")
]
CurrencyName = Annotated[Literal["CNY", "USD"], Meta(description="`CNY` or `USD`")]


class Ref(msgspec.Struct, frozen=True, order=True):
    """What tells one thing from all others; ``account`` and ``project`` are empty where it is in none."""

    kind: Kind
    account: str
    project: str
    name: str

    def __str__(self) -> str:
        return " ".join((self.kind, "/".join(filter(None, (self.account, self.project, self.name)))))


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[accounts]]``: a tenant. ``name`` "" = its id."""

    id: Id
    name: MaybeName = ""
    status: AccountStatus = "active"

    @property
    def ref(self) -> Ref:
        return Ref("account", self.id, "", "")

    def facts(self) -> Facts:
        return {"name": self.name or self.id, "status": self.status}

    def check(self) -> None:
        """Raises InvalidField."""
        _check_printable(self.name, "name")
        if self.id == HOST_ACCOUNT and self.status == "suspended":
            raise InvalidField(f"the account `{HOST_ACCOUNT}` is the operator's own and cannot be suspended", "status")


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[projects]]``: a part of an account. ``name`` "" = its id."""

    account: Id = HOST_ACCOUNT
    id: Id
    name: MaybeName = ""

    @property
    def ref(self) -> Ref:
        return Ref("project", self.account, self.id, "")

    def facts(self) -> Facts:
        return {"name": self.name or self.id}

    def check(self) -> None:
        """Raises InvalidField."""
        _check_printable(self.name, "name")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[endpoints]]``: what callers name. ``rpm`` and ``tpm`` are its limits of requests and tokens a minute."""

    account: Id = HOST_ACCOUNT
    project: Id = "default"
    name: Name
    model: ModelName
    version: Version = ""
    status: Status = "running"
    description: Text = ""
    moderation: MaybeName = ""
    tags: Tags = {}
    rpm: Rate = 0
    tpm: Rate = 0

    @property
    def ref(self) -> Ref:
        return Ref("endpoint", self.account, self.project, self.name)

    def facts(self) -> Facts:
        """Without the rates, which are limits of their own."""
        told = {name: getattr(self, name) for name in ("model", "version", "status", "description", "moderation")}
        return {**told, "tags": dict(sorted(self.tags.items()))}

    def tag_list(self) -> tuple[Tag, ...]:
        return tuple(Tag(key, value) for key, value in self.tags.items())

    def check(self) -> None:
        """Raises InvalidField."""
        check_endpoint(EndpointChange(name=self.name, description=self.description, tags=self.tag_list()))
        for field in ("model", "version", "moderation"):
            _check_printable(getattr(self, field), field)


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[keys]]``: an API key by its name; its secret is never in a file. ``endpoints`` none = all of the project."""

    account: Id = HOST_ACCOUNT
    project: Id = "default"
    name: Name
    role: RoleName = "inference"
    endpoints: Names = ()
    expires: Moment | None = None

    @property
    def ref(self) -> Ref:
        return Ref("key", self.account, self.project, self.name)

    @property
    def expires_at(self) -> int | None:
        """Epoch seconds."""
        return None if self.expires is None else int(self.expires.timestamp())

    def facts(self) -> Facts:
        expires = None if self.expires_at is None else iso(self.expires_at)
        return {"role": self.role, "endpoints": sorted(set(self.endpoints)), "expires": expires}

    def check(self) -> None:
        """Raises InvalidField."""
        check_role(self.role, self.account)
        _check_printable(self.name, "name")
        if len(self.name) > NAME_MAX_CHARACTERS:
            raise InvalidField(f"a key's name has at most {NAME_MAX_CHARACTERS} characters", "name")


class AccessKey(Key, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[access_keys]]``: an access key pair by its name. Temporary pairs are not part of a platform."""

    role: RoleName = "owner"

    @property
    def ref(self) -> Ref:
        return Ref("access key", self.account, self.project, self.name)


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[limits]]``: ``name`` is that of the key or endpoint; of a project or an account there is none."""

    account: Id = HOST_ACCOUNT
    project: Annotated[str, Meta(max_length=64, description="a project's id")] = "default"
    scope: LimitScope
    name: MaybeName = ""
    limit: LimitName
    amount: Amount
    shadow: Annotated[bool, Meta(description="true or false")] = False

    @property
    def ref(self) -> Ref:
        project = "" if self.scope == "account" else self.project
        return Ref("limit", self.account, project, " ".join(filter(None, (self.scope, self.name, self.limit))))

    @property
    def table_scope(self) -> Scope:
        """The scope as limits are filed under it: a key of either sort is a key."""
        return "key" if self.scope == "access_key" else self.scope

    def facts(self) -> Facts:
        return {"amount": whole(self.amount), "shadow": self.shadow}

    def check(self) -> None:
        """Raises InvalidField."""
        if self.limit not in WHATS:
            raise InvalidField(f"limits are {', '.join(WHATS)}", "limit")
        if bool(self.name) != (self.scope in ("key", "access_key", "endpoint")):
            raise InvalidField(
                "limits of keys and endpoints name the key or endpoint (`name`), those of projects and accounts do not",
                "name",
            )
        if WHATS[self.limit][0] in ("concurrency", "tokens") and self.amount != int(self.amount):
            raise InvalidField(f"`{self.limit}` is a whole number", "amount")


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[aliases]]``: another name for a model, in any case of letters."""

    name: Name
    model: ModelName
    version: Version = ""

    @property
    def ref(self) -> Ref:
        return Ref("alias", "", "", self.name.casefold())

    def facts(self) -> Facts:
        return {"model": self.model, "version": self.version}

    def check(self) -> None:
        """Raises InvalidField."""
        for field in ("name", "model", "version"):
            _check_printable(getattr(self, field), field)
        if " " in self.name or len(self.name.casefold()) > ALIAS_MAX_CHARACTERS:
            raise InvalidField(f"an alias has 1 to {ALIAS_MAX_CHARACTERS} characters and no space among them", "name")


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[prices]]``: what a million tokens cost from a moment on. ``model`` is the name that usage is filed under."""

    model: ModelName
    effective: Moment
    currency: CurrencyName = "CNY"
    prompt: Money
    completion: Money
    cached: Money | None = None
    reasoning: Money | None = None

    @property
    def effective_at(self) -> int:
        """Epoch seconds."""
        return int(self.effective.timestamp())

    @property
    def ref(self) -> Ref:
        return Ref("price", "", "", f"{self.model} from {iso(self.effective_at)}")

    def facts(self) -> Facts:
        amounts = {name: getattr(self, name) for name in ("prompt", "completion", "cached", "reasoning")}
        told = {name: None if amount is None else whole(amount) for name, amount in amounts.items()}
        return {"currency": self.currency, **told}

    def check(self) -> None:
        """Raises InvalidField."""
        _check_printable(self.model, "model")
        if self.effective.timestamp() < 0 or self.effective.timestamp() % MINUTE_S:
            raise InvalidField("a price begins at a whole minute", "effective")


Entry = Account | Project | Endpoint | Key | AccessKey | Limit | Alias | Price

SECTIONS: Mapping[str, type[Entry]] = {
    "accounts": Account,
    "projects": Project,
    "endpoints": Endpoint,
    "keys": Key,
    "access_keys": AccessKey,
    "limits": Limit,
    "aliases": Alias,
    "prices": Price,
}
"""Every table of a platform file, in the order in which things are made."""

KINDS: tuple[Kind, ...] = ("account", "project", "endpoint", "key", "access key", "limit", "alias", "price")


def iso(epoch_s: int) -> str:
    """``2026-12-31T00:00:00Z``."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def whole(number: float) -> float | int:
    """The number without a fraction that is none."""
    return int(number) if number == int(number) else number


def _check_printable(text: str, field: str) -> None:
    if not text.isprintable():
        raise InvalidField("all of its characters have to be printable", field)
