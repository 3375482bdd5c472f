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
from arkway.admin.apply.terms import (
    AccountStatus,
    Actions,
    Amount,
    Auth,
    BotNames,
    Capabilities,
    CitationName,
    Count,
    CurrencyName,
    EndpointName,
    Facts,
    Id,
    IntentName,
    Kind,
    LimitName,
    LimitScope,
    MaybeName,
    Members,
    ModelName,
    Moment,
    Money,
    Name,
    Names,
    Portion,
    Prompt,
    Rate,
    Ref,
    RoleName,
    Seconds,
    Shown,
    Status,
    Sticking,
    Tags,
    Text,
    UpstreamKind,
    Variable,
    Version,
    Words,
    check_printable,
    whole,
)
from arkway.admin.bots import action_of, written_action
from arkway.admin.bots import check as check_bot
from arkway.admin.endpoints import check as check_endpoint
from arkway.admin.groups import CHAT_CAPABILITIES, CONTEXT_TOKENS, FIRST_VERSION, card_of, member_of, written_member
from arkway.admin.groups import check as check_group
from arkway.admin.keys import check_role
from arkway.admin.limits import WHATS
from arkway.admin.prices import MINUTE_S
from arkway.admin.upstreams import UpstreamInfo, plain
from arkway.admin.upstreams import check as check_upstream
from arkway.core.bot import Bot as BotValue
from arkway.core.errors import InvalidField
from arkway.core.limit import Scope
from arkway.core.model import EndpointChange, Tag
from arkway.core.roles import HOST_ACCOUNT
from arkway.core.upstream import CONNECT_S, CONNECTIONS, FIRST_BYTE_S, IDLE_S, Policy
from arkway.core.upstream import Group as GroupValue


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
        check_printable(self.name, "name")
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
        check_printable(self.name, "name")


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
        check_printable(self.access_key_id, "access_key_id")
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
    tokenizer: Shown = ""
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
            tokenizer=self.tokenizer,
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


_OF_CARD = ("title", "context_tokens", "max_output_tokens", "default_output_tokens", "dimensions", "tokenizer")


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
            check_printable(getattr(self, field), field)


class Bot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[bots]]``: an endpoint, by its name, with a prompt and actions that look things up."""

    account: Id = HOST_ACCOUNT
    project: Id = "default"
    name: Name
    endpoint: EndpointName
    status: Status = "running"
    prompt: Prompt = ""
    actions: Actions = ()
    intent: IntentName = "auto"
    citation: CitationName = "all"
    lexicon: Words = ()
    context_share: Portion = 0.4
    moderation: MaybeName = ""
    description: Text = ""

    @property
    def ref(self) -> Ref:
        return Ref("bot", self.account, self.project, self.name)

    def values(self) -> dict[str, Any]:
        """What the commands on bots take, but for name and endpoint. Raises InvalidField."""
        told = {name: getattr(self, name) for name in _OF_BOT}
        return {**told, "actions": tuple(map(action_of, self.actions))}

    def facts(self) -> Facts:
        told = {name: getattr(self, name) for name in ("endpoint", "status", *_OF_BOT)}
        actions = [written_action(action_of(action)) for action in self.actions]
        numbers = {"context_share": whole(self.context_share)}
        return {**told, "actions": actions, "lexicon": list(self.lexicon), **numbers}

    def check(self) -> None:
        """Raises InvalidField."""
        check_printable(self.endpoint, "endpoint")
        values = self.values()
        check_bot(BotValue(id="", endpoint_id="", name=self.name, account=self.account, project=self.project, **values))


_OF_BOT = ("prompt", "actions", "intent", "citation", "lexicon", "context_share", "moderation", "description")


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[keys]]``: an API key by its name; its secret is never in a file.

    Neither ``endpoints`` nor ``bots`` = all of the project.
    """

    account: Id = HOST_ACCOUNT
    project: Id = "default"
    name: Name
    role: RoleName = "inference"
    endpoints: Names = ()
    bots: BotNames = ()
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
        scope = {"endpoints": sorted(set(self.endpoints)), "bots": sorted(set(self.bots))}
        return {"role": self.role, **scope, "expires": expires}

    def check(self) -> None:
        """Raises InvalidField."""
        check_role(self.role, self.account)
        check_printable(self.name, "name")
        if len(self.name) > NAME_MAX_CHARACTERS:
            raise InvalidField(f"a key's name has at most {NAME_MAX_CHARACTERS} characters", "name")


class AccessKey(Key, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[access_keys]]``: an access key pair by its name. Temporary pairs are not part of a platform."""

    role: RoleName = "owner"

    @property
    def ref(self) -> Ref:
        return Ref("access key", self.account, self.project, self.name)


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[limits]]``: ``name`` is that of the key, endpoint or bot; of a project or an account there is none."""

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
        """The scope as limits are filed under it: a key of either sort is a key, a bot an endpoint."""
        if self.scope == "bot":
            return "endpoint"
        return "key" if self.scope == "access_key" else self.scope

    def facts(self) -> Facts:
        return {"amount": whole(self.amount), "shadow": self.shadow}

    def check(self) -> None:
        """Raises InvalidField."""
        if self.limit not in WHATS:
            raise InvalidField(f"limits are {', '.join(WHATS)}", "limit")
        if bool(self.name) != (self.scope in ("key", "access_key", "endpoint", "bot")):
            raise InvalidField(
                "limits of keys, endpoints and bots name it (`name`), those of projects and accounts do not",
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
            check_printable(getattr(self, field), field)
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
        check_printable(self.model, "model")
        if self.effective.timestamp() < 0 or self.effective.timestamp() % MINUTE_S:
            raise InvalidField("a price begins at a whole minute", "effective")


Entry = Account | Project | Upstream | Group | Endpoint | Bot | Key | AccessKey | Limit | Alias | Price

SECTIONS: Mapping[str, type[Entry]] = {
    "accounts": Account,
    "projects": Project,
    "upstreams": Upstream,
    "groups": Group,
    "endpoints": Endpoint,
    "bots": Bot,
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
    "bot",
    "key",
    "access key",
    "limit",
    "alias",
    "price",
)


def iso(epoch_s: int) -> str:
    """``2026-12-31T00:00:00Z``."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
