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
from arkway.admin.groups import CHAT_CAPABILITIES, CONTEXT_TOKENS, FIRST_VERSION, card_of, member_of, written_member
from arkway.admin.groups import check as check_group
from arkway.admin.keys import check_role
from arkway.admin.limits import AMOUNT_MAX, AMOUNT_MIN, WHATS
from arkway.admin.prices import MINUTE_S, PRICE_MAX
from arkway.admin.upstreams import UpstreamInfo, plain
from arkway.admin.upstreams import check as check_upstream
from arkway.core.caller import Role
from arkway.core.errors import InvalidField
from arkway.core.limit import Scope
from arkway.core.model import Capability, EndpointChange, Tag
from arkway.core.roles import HOST_ACCOUNT, ROLES
from arkway.core.upstream import CONNECT_S, CONNECTIONS, FIRST_BYTE_S, IDLE_S, Policy
from arkway.core.upstream import Group as GroupValue

Kind = Literal["account", "project", "upstream", "group", "endpoint", "key", "access key", "limit", "alias", "price"]
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
Shown = Annotated[str, Meta(max_length=1024, description="a text of at most 1024 printable characters")]
UpstreamKind = Annotated[Literal["openai", "ark"], Meta(description="`openai` or `ark`")]
Auth = Annotated[Literal["none", "key", "aksk"], Meta(description="`none`, `key` or `aksk`")]
Variable = Annotated[
    str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?\Z", description="the name of a variable of the environment")
]
Seconds = Annotated[float, Meta(ge=0, description="a number of seconds")]
Count = Annotated[int, Meta(ge=0, description="a whole number")]
Portion = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Members = Annotated[tuple[str, ...], Meta(description='members, such as ["vllm/Qwen/Qwen3-8B,weight=50"]')]
Capabilities = Annotated[tuple[Capability, ...], Meta(description='capabilities, such as ["chat", "tools"]')]
Sticking = Annotated[Literal["nothing", "session", "prefix"], Meta(description="`nothing`, `session` or `prefix`")]


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


class Upstream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[upstreams]]``: another model server. Its secret is never in a file.

    ``key_env`` names the variable that holds it when the file is applied; without it, an upstream keeps what it has.
    """

    name: Shown
    base_url: Shown
    kind: UpstreamKind = "openai"
    auth: Auth = "none"
    access_key_id: Shown = ""
    key_env: Variable = ""
    region: Shown = "cn-beijing"
    connections_max: Count = CONNECTIONS
    connect_s: Seconds = CONNECT_S
    first_byte_s: Seconds = FIRST_BYTE_S
    idle_s: Seconds = IDLE_S
    ca_file: Shown = ""

    @property
    def ref(self) -> Ref:
        return Ref("upstream", "", "", self.name)

    @property
    def shows(self) -> Literal["none", "key", "aksk"]:
        """``auth``, or what follows from the other keys."""
        if self.auth != "none":
            return self.auth
        return "aksk" if self.access_key_id else "key" if self.key_env else "none"

    def facts(self) -> Facts:
        """``key_env`` is a change: a secret that it holds and the upstream does not have."""
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("name", "key_env")}
        seconds = {name: whole(told[name]) for name in ("connect_s", "first_byte_s", "idle_s")}
        return {
            **told,
            **seconds,
            "base_url": plain(self.base_url),
            "auth": self.shows,
            "key_env": self.key_env or None,
        }

    def check(self) -> None:
        """Raises InvalidField."""
        values = {
            name: getattr(self, name) for name in self.__struct_fields__ if name in UpstreamInfo.__struct_fields__
        }
        check_upstream(UpstreamInfo(**{**values, "auth": self.shows, "base_url": plain(self.base_url)}))
        _check_printable(self.access_key_id, "access_key_id")
        if (self.shows == "aksk") != bool(self.access_key_id):
            raise InvalidField('an access key pair (`auth = "aksk"`) has its id in `access_key_id`', "access_key_id")
        if self.shows == "aksk" and self.kind != "ark":
            raise InvalidField("an access key pair is for upstreams of the kind `ark`", "auth")


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[groups]]``: a model that upstreams answer for. ``max_output_tokens`` 0 = the context.

    ``default``: the version that the model's bare name means.
    """

    model: ModelName
    version: Version = FIRST_VERSION
    members: Members
    default: Annotated[bool, Meta(description="true or false")] = True
    title: Shown = ""
    capabilities: Capabilities = CHAT_CAPABILITIES
    context_tokens: Count = CONTEXT_TOKENS
    max_output_tokens: Count = 0
    default_output_tokens: Count = 0
    dimensions: Count = 0
    stick_to: Sticking = "nothing"
    attempts: Count = 2
    retry_share: Portion = 0.2
    breaker_ratio: Portion = 0.5
    breaker_calls: Count = 10
    breaker_window_s: Seconds = 10.0
    breaker_open_s: Seconds = 5.0
    probe_s: Seconds = 0.0

    @property
    def ref(self) -> Ref:
        return Ref("group", "", "", f"{self.model}:{self.version}")

    def value(self) -> GroupValue:
        """Raises InvalidField for a member that cannot be read."""
        policy = Policy(**{name: getattr(self, name) for name in Policy.__struct_fields__})
        card = card_of(
            self.model,
            self.version,
            title=self.title,
            capabilities=self.capabilities,
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            default_output_tokens=self.default_output_tokens,
            dimensions=self.dimensions,
        )
        return GroupValue(
            card=card, members=tuple(map(member_of, self.members)), policy=policy, is_default=self.default
        )

    def facts(self) -> Facts:
        value = self.value()
        told = {name: getattr(value.card, name) for name in _OF_CARD}
        policy = {name: getattr(value.policy, name) for name in Policy.__struct_fields__}
        numbers = {name: whole(each) if isinstance(each, float) else each for name, each in policy.items()}
        members = [written_member(member) for member in value.members]
        capabilities = list(value.card.capabilities)
        return {"members": members, "default": self.default, **told, "capabilities": capabilities, **numbers}

    def check(self) -> None:
        """Raises InvalidField."""
        check_group(self.value())


_OF_CARD = ("title", "context_tokens", "max_output_tokens", "default_output_tokens", "dimensions")


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


Entry = Account | Project | Upstream | Group | Endpoint | Key | AccessKey | Limit | Alias | Price

SECTIONS: Mapping[str, type[Entry]] = {
    "accounts": Account,
    "projects": Project,
    "upstreams": Upstream,
    "groups": Group,
    "endpoints": Endpoint,
    "keys": Key,
    "access_keys": AccessKey,
    "limits": Limit,
    "aliases": Alias,
    "prices": Price,
}
"""Every table of a platform file, in the order in which things are made."""

KINDS: tuple[Kind, ...] = (
    "account",
    "project",
    "upstream",
    "group",
    "endpoint",
    "key",
    "access key",
    "limit",
    "alias",
    "price",
)


def iso(epoch_s: int) -> str:
    """``2026-12-31T00:00:00Z``."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def whole(number: float) -> float | int:
    """The number without a fraction that is none."""
    return int(number) if number == int(number) else number


def _check_printable(text: str, field: str) -> None:
    if not text.isprintable():
        raise InvalidField("all of its characters have to be printable", field)
