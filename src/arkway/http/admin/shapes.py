"""Requests and answers, as structs: they validate, and the OpenAPI document is made from them.

Times in ``…_at`` are epoch seconds. Answers that an admin command already has as a struct are that struct.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from arkway.admin.access_keys import AccessKeyInfo, NewAccessKey
from arkway.admin.keys import KeyInfo
from arkway.admin.limits import AMOUNT_MAX, AMOUNT_MIN
from arkway.admin.prices import PRICE_MAX, Cost, Currency
from arkway.admin.usage import Grouping, UsageTotal
from arkway.core.caller import Role
from arkway.core.limit import Scope
from arkway.core.model import Capability, ModelCard

# What PostgreSQL keeps in no text; everything else that is not printable the commands refuse themselves.
_TEXT = r"^[^\x00]*$"
END_OF_9999_S = 253_402_300_799

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=_TEXT)]
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=_TEXT)]
PlainId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
ModelName = Annotated[str, Meta(min_length=1, max_length=256, pattern=_TEXT)]
Version = Annotated[str, Meta(max_length=128, pattern=_TEXT)]
Endpoints = Annotated[
    tuple[Id, ...], Meta(max_length=100, description="Only for these endpoints and bots; empty = all of the project.")
]
At = Annotated[int, Meta(ge=0, le=END_OF_9999_S, description="Epoch seconds.")]
Amount = Annotated[float, Meta(ge=0, le=PRICE_MAX)]


class Taken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent: nothing is taken that is not declared."""


class Within(Taken, frozen=True, kw_only=True):
    """Whose it is; by default the caller's own account and project."""

    account: Annotated[str, Meta(max_length=64)] = ""
    project: Annotated[str, Meta(max_length=64)] = ""


class WithinAccount(Taken, frozen=True, kw_only=True):
    """Whose it is; by default the caller's own account."""

    account: Annotated[str, Meta(max_length=64)] = ""


class PageWanted(Taken, frozen=True, kw_only=True):
    """``cursor``: the ``next_cursor`` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, Meta(max_length=1024)] = ""


class Removed(msgspec.Struct, frozen=True):
    """How many are gone."""

    removed: int


# Accounts and projects


class CreateAccount(Taken, frozen=True, kw_only=True):
    """``id`` empty = one is made (``acc-…``); ``name`` empty = its id."""

    id: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    name: Annotated[str, Meta(max_length=128, pattern=_TEXT)] = ""


class CreateProject(Taken, frozen=True, kw_only=True):
    """``name`` empty = its id."""

    id: PlainId
    name: Annotated[str, Meta(max_length=128, pattern=_TEXT)] = ""


class Rename(Taken, frozen=True, kw_only=True):
    """What people call it from now on; its id stays."""

    name: Name


# Credentials


class CreateKey(Taken, frozen=True, kw_only=True):
    """A new API key."""

    name: Name = "default"
    endpoints: Endpoints = ()
    role: Role = "inference"
    expires_at: At | None = None


class UpdateKey(Taken, frozen=True, kw_only=True):
    """What is left out stays as it is; ``expires_at`` null = never."""

    endpoints: Endpoints | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    expires_at: At | UnsetType | None = UNSET


class Key(msgspec.Struct, frozen=True):
    """An API key, without its secret."""

    id: str
    account: str
    project: str
    name: str
    last4: str
    role: Role
    endpoints: tuple[str, ...]
    status: Literal["active", "expired", "revoked"]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class NewKey(Key, frozen=True):
    """An API key with its secret, which is shown this once."""

    secret: str


class CreateAccessKey(Taken, frozen=True, kw_only=True):
    """A new pair; a ``temporary`` one has a session token and needs ``expires_at``."""

    name: Name = "default"
    endpoints: Endpoints = ()
    role: Role = "owner"
    expires_at: At | None = None
    temporary: bool = False


class AccessKey(msgspec.Struct, frozen=True):
    """An access key pair, without its secret."""

    id: str
    account: str
    project: str
    name: str
    role: Role
    endpoints: tuple[str, ...]
    temporary: bool
    status: Literal["active", "expired", "revoked"]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class CreatedAccessKey(AccessKey, frozen=True):
    """An access key pair with its secret, which is shown this once; ``session_token`` null = a permanent pair."""

    secret: str
    session_token: str | None


# Endpoints, models and their other names


class TagGiven(Taken, frozen=True, kw_only=True):
    """A label."""

    key: Annotated[str, Meta(min_length=1, max_length=128, pattern=_TEXT)]
    value: Annotated[str, Meta(max_length=128, pattern=_TEXT)] = ""


Tags = Annotated[tuple[TagGiven, ...], Meta(max_length=20)]
Description = Annotated[str, Meta(max_length=1024, pattern=_TEXT)]


class CreateEndpoint(Taken, frozen=True, kw_only=True):
    """A new running endpoint; ``model_version`` empty follows the model's default version."""

    name: Name
    model_name: ModelName
    model_version: Version = ""
    description: Description = ""
    tags: Tags = ()


class UpdateEndpoint(Taken, frozen=True, kw_only=True):
    """What is left out stays as it is."""

    name: Name | UnsetType = UNSET
    model_name: ModelName | UnsetType = UNSET
    model_version: Version | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class Model(msgspec.Struct, frozen=True):
    """An installed model version. ``served_name`` is what usage is filed under."""

    name: str
    version: str
    served_name: str
    title: str
    licence: str
    is_default: bool
    capabilities: tuple[Capability, ...]
    context_tokens: int
    max_output_tokens: int
    default_output_tokens: int
    dimensions: int
    languages: tuple[str, ...]
    size_bytes: int
    sha256: str
    source: str


class SetAlias(Taken, frozen=True, kw_only=True):
    """Another name for a model; ``model_version`` empty follows its default version."""

    name: Name
    model_name: ModelName
    model_version: Version = ""


class AliasNamed(Taken, frozen=True, kw_only=True):
    """Which alias."""

    name: Name


class SetPrice(Taken, frozen=True, kw_only=True):
    """For a million tokens each. ``effective_at`` is a whole minute, null = the next one.

    ``cached`` null = as ``prompt``, ``reasoning`` null = as ``completion``.
    """

    model: ModelName
    prompt: Amount
    completion: Amount
    currency: Currency = "CNY"
    cached: Amount | None = None
    reasoning: Amount | None = None
    effective_at: At | None = None


class PricesNamed(Taken, frozen=True, kw_only=True):
    """Which prices: all of the model, or the one that begins at ``effective_at``."""

    model: ModelName
    effective_at: At | UnsetType = UNSET


class PricesWanted(Taken, frozen=True, kw_only=True):
    """``model`` empty = of all models."""

    model: Annotated[str, Meta(max_length=256)] = ""


# Limits


LimitAmount = Annotated[float, Meta(ge=AMOUNT_MIN, le=AMOUNT_MAX)]


class Amounts(Taken, frozen=True, kw_only=True, rename="kebab", omit_defaults=True):
    """At least one: requests and tokens a minute, calls at a time, tokens or money in a period (UTC)."""

    rpm: LimitAmount | UnsetType = UNSET
    tpm: LimitAmount | UnsetType = UNSET
    concurrency: LimitAmount | UnsetType = UNSET
    tokens_per_day: LimitAmount | UnsetType = UNSET
    tokens_per_month: LimitAmount | UnsetType = UNSET
    tokens_total: LimitAmount | UnsetType = UNSET
    cost_per_day: LimitAmount | UnsetType = UNSET
    cost_per_month: LimitAmount | UnsetType = UNSET
    cost_total: LimitAmount | UnsetType = UNSET


LimitName = Literal[
    "rpm",
    "tpm",
    "concurrency",
    "tokens-per-day",
    "tokens-per-month",
    "tokens-total",
    "cost-per-day",
    "cost-per-month",
    "cost-total",
]


class SetLimits(Taken, frozen=True, kw_only=True):
    """``subject``: the id of the key, endpoint or bot, empty for a project or an account.

    ``shadow``: what is beyond it is counted and told, not refused.
    """

    scope: Scope
    subject: Annotated[str, Meta(max_length=128, pattern=_TEXT)] = ""
    amounts: Amounts
    shadow: bool = False


class LimitsNamed(Taken, frozen=True, kw_only=True):
    """Which limits: those ``named`` of the subject, or all of it."""

    scope: Scope
    subject: Annotated[str, Meta(max_length=128)] = ""
    name: Annotated[tuple[LimitName, ...], Meta(max_length=9)] = ()


# Usage and the audit log


Filter = Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=100)]


class CallsWanted(Taken, frozen=True, kw_only=True):
    """Calls opened from ``since_at`` (default: 30 days ago) up to, not including, ``until_at``; filters may repeat."""

    since_at: At | UnsetType = UNSET
    until_at: At | UnsetType = UNSET
    key: Filter = ()
    endpoint: Filter = ()
    model: Filter = ()
    caller: Filter = ()


class SumsWanted(CallsWanted, frozen=True, kw_only=True):
    """``by`` may repeat; ``cost``: at the prices in force when the calls were opened."""

    by: Annotated[tuple[Grouping, ...], Meta(min_length=1, max_length=9)] = ("day",)
    cost: bool = False


class UsageSum(msgspec.Struct, frozen=True):
    """Sums over one group, which ``group`` names by each grouping; ``cost`` null = it was not asked for."""

    group: dict[str, str]
    calls: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost: tuple[Cost, ...] | None
    unpriced_tokens: int | None


class AuditWanted(Taken, frozen=True, kw_only=True):
    """Entries from ``since_at`` on (default: 30 days ago); ``actor`` and ``action`` empty = any."""

    since_at: At | UnsetType = UNSET
    actor: Annotated[str, Meta(max_length=256)] = ""
    action: Annotated[str, Meta(max_length=256)] = ""


class Status(msgspec.Struct, frozen=True):
    """``ready``: no ``troubles`` keep calls from being served; ``warnings`` do not. ``gauges`` as in /metrics."""

    version: str
    ready: bool
    troubles: tuple[str, ...]
    warnings: tuple[str, ...]
    gauges: dict[str, float]


# From what the commands give


def key_shown(info: KeyInfo, now_s: int) -> Key:
    return msgspec.convert({**msgspec.structs.asdict(info), "status": info.status(now_s)}, Key)


def access_key_shown(info: AccessKeyInfo, now_s: int) -> AccessKey:
    return msgspec.convert(_pair(info, now_s), AccessKey)


def access_key_made(made: NewAccessKey, now_s: int) -> CreatedAccessKey:
    """A new pair, with its secret."""
    secrets = {"secret": made.secret, "session_token": made.session_token or None}
    return msgspec.convert({**_pair(made.info, now_s), **secrets}, CreatedAccessKey)


def _pair(info: AccessKeyInfo, now_s: int) -> dict[str, Any]:
    return {**msgspec.structs.asdict(info), "temporary": info.temporary, "status": info.status(now_s)}


def sum_shown(total: UsageTotal, by: tuple[Grouping, ...]) -> UsageSum:
    """One sum, with its groups' names."""
    group = dict(zip(by, total.groups, strict=True))
    values = {**msgspec.structs.asdict(total), "group": group, "total_tokens": total.total_tokens}
    return UsageSum(**{name: values[name] for name in UsageSum.__struct_fields__})


def model_shown(card: ModelCard, *, is_default: bool, size_bytes: int = 0, sha256: str = "", source: str = "") -> Model:
    """An installed model; where its weights lie is nobody's business over the network."""
    values = {name: getattr(card, name) for name in Model.__struct_fields__ if hasattr(card, name)}
    return Model(**values, is_default=is_default, size_bytes=size_bytes, sha256=sha256, source=source)
