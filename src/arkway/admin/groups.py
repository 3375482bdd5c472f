"""Groups: models that upstreams answer for, which members and how they share the calls. They are the operator's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar, get_args

import msgspec

from arkway.admin.audit import Acting
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.model import Capability, ModelCard
from arkway.core.roles import HOST_ACCOUNT
from arkway.core.upstream import Group, Member, Policy

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z"
TOKENIZER_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9._/-]{0,127}(:[A-Za-z0-9][A-Za-z0-9._-]{0,95})?)?\Z"
FIRST_VERSION = "1"
CONTEXT_TOKENS = 32_768
DEFAULT_OUTPUT_TOKENS = 4096
CHAT_CAPABILITIES: tuple[Capability, ...] = ("chat", "tools", "json")
TOKENS_MAX = 100_000_000
DIMENSIONS_MAX = 65_536
TITLE_MAX_CHARACTERS = 256
MEMBERS_MAX = 64
MODEL_MAX_CHARACTERS = 256
WEIGHT_MAX = 10_000
PRIORITY_MAX = 100

POLICY_RANGES: Mapping[str, tuple[float, float]] = {
    "attempts": (1, 10),
    "retry_share": (0, 1),
    "breaker_ratio": (0.01, 1),
    "breaker_calls": (1, 100_000),
    "breaker_window_s": (0.1, 3600),
    "breaker_open_s": (0.1, 3600),
    "probe_s": (0, 86_400),
}
"""What the numbers of a policy may be, both ends among it."""

_NAME, _VERSION, _TOKENIZER = map(re.compile, (NAME_PATTERN, VERSION_PATTERN, TOKENIZER_PATTERN))


class GroupInfo(Group, frozen=True, kw_only=True):
    """A group as it is kept; times are epoch seconds."""

    created_at: int = 0
    updated_at: int = 0


class GroupTable(Protocol):
    """Where groups are kept."""

    def under(self, entry: Entry) -> Self: ...

    def put(self, row: Mapping[str, Any]) -> bool: ...

    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def remove(self, model_name: str, model_version: str) -> bool: ...

    def upstreams(self) -> Sequence[str]: ...


class Groups:
    """The commands on groups."""

    def __init__(self, table: GroupTable, actor: Actor = SERVER) -> None:
        self._table = table
        self._acting = Acting(HOST_ACCOUNT, "", actor)

    def set(self, group: Group, now_s: int) -> GroupInfo:
        """One version of a model, in the place of what it was. A default one takes that from the other versions.

        Raises InvalidField.
        """
        check(group)
        card = group.card
        infos = self.list()
        _check_served_name(card, infos)
        before = _version(infos, card)
        parts: dict[str, Any] = msgspec.to_builtins(group)
        made_at = now_s if before is None else before.created_at
        row = {
            "model_name": card.name,
            "model_version": card.version,
            **{name: parts[name] for name in ("card", "members", "policy", "is_default")},
            "created_at": made_at,
            "updated_at": now_s,
        }
        told = {"members": [written_member(member) for member in group.members], "is_default": group.is_default}
        table = self._table.under(self._acting.entry("groups.set", f"{card.name}:{card.version}", **told))
        if not table.put(row):
            self._refuse_members(group)
        return GroupInfo(**_fields(group), created_at=made_at, updated_at=now_s)

    def list(self) -> tuple[GroupInfo, ...]:
        """Every version of every model, by name and version."""
        return tuple(map(_info, self._table.rows()))

    def versions(self, model_name: str) -> tuple[GroupInfo, ...]:
        """Those of one model."""
        return tuple(info for info in self.list() if info.card.name == model_name)

    def show(self, model_name: str, model_version: str = "") -> GroupInfo:
        """One version ("" = the default one). Raises InvalidField when there is none."""
        exact = self.version(model_name, model_version)
        found = exact if model_version else default_of(self.versions(model_name))
        if found is None:
            raise _unknown(model_name, model_version)
        return found

    def remove(self, model_name: str, model_version: str = "") -> GroupInfo:
        """Takes one version away ("" = the default one): which it was. Raises InvalidField when there is none."""
        info = self.show(model_name, model_version)
        version = info.card.version
        entry = self._acting.entry("groups.remove", f"{model_name}:{version}")
        if not self._table.under(entry).remove(model_name, version):
            raise _unknown(model_name, version)
        return info

    def version(self, model_name: str, model_version: str) -> GroupInfo | None:
        """That very version, if there is one."""
        return next((info for info in self.versions(model_name) if info.card.version == model_version), None)

    def stays_default(self, model_name: str, model_version: str) -> bool:
        """Whether a version of which nobody has said it is the default one: it was before, or it is the first."""
        versions = self.versions(model_name)
        before = next((info for info in versions if info.card.version == model_version), None)
        return before.is_default if before is not None else not any(info.is_default for info in versions)

    def _refuse_members(self, group: Group) -> None:
        known = sorted(self._table.upstreams())
        missing = next((member.upstream for member in group.members if member.upstream not in known), "")
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise InvalidField(
            f"there is no upstream `{missing[:64]}` ({there}); `arkway upstreams add {missing[:64]} URL` makes it",
            "members",
        )


G = TypeVar("G", bound=Group)


def default_of(versions: Iterable[G]) -> G | None:
    """What the model's bare name means: the version that was made the default one, else the last in their order."""
    return max(versions, key=lambda group: (group.is_default, group.card.version), default=None)


def card_of(
    name: str,
    version: str,
    *,
    title: str = "",
    capabilities: tuple[Capability, ...] = (),
    context_tokens: int = 0,
    max_output_tokens: int = 0,
    default_output_tokens: int = 0,
    dimensions: int = 0,
    tokenizer: str = "",
) -> ModelCard:
    """A card with what nobody has said filled in: chat with tools and JSON, or embeddings where vectors have a length.

    An answer may fill the context, unless something else is said. With a tokenizer there is tokenization.
    """
    found = capabilities or (("embeddings",) if dimensions else CHAT_CAPABILITIES)
    context = context_tokens or CONTEXT_TOKENS
    chats = "chat" in found
    most = (max_output_tokens or context) if chats else 0
    card = ModelCard(
        name=name,
        version=version,
        title=title or name,
        licence="unknown",
        capabilities=found,
        context_tokens=context,
        max_output_tokens=most,
        default_output_tokens=(default_output_tokens or min(DEFAULT_OUTPUT_TOKENS, most)) if chats else 0,
        dimensions=dimensions,
    )
    return with_tokenizer(card, tokenizer)


def with_tokenizer(card: ModelCard, tokenizer: str) -> ModelCard:
    """The card with this tokenizer ("" = none), and the capability that comes with one."""
    there = card.capabilities
    more: tuple[Capability, ...] = ("tokenization",) if tokenizer and "tokenization" not in there else ()
    return msgspec.structs.replace(card, tokenizer=tokenizer, capabilities=(*there, *more))


def named(text: str) -> tuple[str, str]:
    """``NAME[:VERSION]`` in its two parts; the version is empty where there is none."""
    name, _, version = text.replace(":", "@", 1).partition("@")
    return name, version


def member_of(text: str) -> Member:
    """``UPSTREAM/MODEL[,weight=50][,priority=1][,role=canary][,share=5]``. Raises InvalidField."""
    place, *options = text.split(",")
    upstream, slash, model = place.partition("/")
    if not (slash and upstream and model):
        raise InvalidField(
            f"`{text[:128]}` is not a member; write UPSTREAM/MODEL, perhaps with ,weight= ,priority= ,role= ,share=",
            "members",
        )
    values: dict[str, Any] = {"upstream": upstream, "model": model}
    for option in options:
        key, _, value = option.partition("=")
        if key not in ("weight", "priority", "role", "share"):
            raise InvalidField(f"a member has weight, priority, role and share, not `{key[:64]}`", "members")
        values[key] = value
    try:
        return msgspec.convert(values, Member, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidField(f"the member `{text[:128]}`: {error}", "members") from None


def written_member(member: Member) -> str:
    """As `member_of` reads it, without what has its default."""
    usual = Member(upstream="", model="")
    parts = [f"{member.upstream}/{member.model}"]
    for name in ("role", "weight", "priority", "share"):
        value = getattr(member, name)
        if value != getattr(usual, name):
            parts.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return ",".join(parts)


def check(group: Group) -> None:
    """Raises InvalidField for what no group can have."""
    check_card(group.card)
    check_members(group.members)
    check_policy(group.policy)


def check_card(card: ModelCard) -> None:
    """Raises InvalidField."""
    if not _NAME.match(card.name):
        raise InvalidField(
            "a model's name has 1 to 128 letters, digits and . _ - /, and begins with a letter or digit", "model"
        )
    if not _VERSION.match(card.version):
        raise InvalidField("a model's version has 1 to 96 letters, digits and . _ -", "version")
    if len(card.title) > TITLE_MAX_CHARACTERS or not card.title.isprintable():
        raise InvalidField(f"a title has at most {TITLE_MAX_CHARACTERS} printable characters", "title")
    if not _TOKENIZER.match(card.tokenizer):
        raise InvalidField("a tokenizer is that of an installed model, NAME or NAME:VERSION", "tokenizer")
    unknown = [name for name in card.capabilities if name not in get_args(Capability)]
    if unknown or not {"chat", "embeddings"} & set(card.capabilities):
        raise InvalidField(
            f"capabilities are {', '.join(get_args(Capability))}; chat or embeddings is among them", "capabilities"
        )
    _check_tokens(card)


def _check_tokens(card: ModelCard) -> None:
    if not 1 <= card.context_tokens <= TOKENS_MAX:
        raise InvalidField(f"`context_tokens` is from 1 to {TOKENS_MAX:,}", "context_tokens")
    if "chat" in card.capabilities and not 1 <= card.max_output_tokens <= card.context_tokens:
        raise InvalidField("`max_output_tokens` is from 1 to the context's tokens", "max_output_tokens")
    if "chat" in card.capabilities and not 1 <= card.default_output_tokens <= card.max_output_tokens:
        raise InvalidField("`default_output_tokens` is from 1 to `max_output_tokens`", "default_output_tokens")
    embeds = "embeddings" in card.capabilities
    if not (1 <= card.dimensions <= DIMENSIONS_MAX if embeds else card.dimensions == 0):
        raise InvalidField(
            f"a model with embeddings has the length of its vectors (1 to {DIMENSIONS_MAX}) in `dimensions`, "
            "others have none",
            "dimensions",
        )


def check_members(members: Sequence[Member]) -> None:
    """Raises InvalidField."""
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise InvalidField(f"a group has 1 to {MEMBERS_MAX} members", "members")
    if len({(member.upstream, member.model) for member in members}) < len(members):
        raise InvalidField("each upstream's model is a member once", "members")
    for member in members:
        _check_member(member)
    if not any(member.role == "normal" and member.weight for member in members):
        raise InvalidField("at least one member is a normal one with a weight above 0", "members")
    if sum(member.share for member in members if member.role == "canary") > 100:
        raise InvalidField("the shares of all canaries together are at most 100 per cent", "members")


def _check_member(member: Member) -> None:
    shown = f"{member.upstream[:64]}/{member.model[:128]}"
    model = member.model
    if not model or len(model) > MODEL_MAX_CHARACTERS or not model.isprintable() or "," in model:
        raise InvalidField(
            f"a member's model has 1 to {MODEL_MAX_CHARACTERS} printable characters and no comma", "members"
        )
    if not 0 <= member.weight <= WEIGHT_MAX or not 0 <= member.priority <= PRIORITY_MAX:
        raise InvalidField(
            f"`{shown}`: a weight is from 0 to {WEIGHT_MAX}, a priority from 0 (first) to {PRIORITY_MAX}", "members"
        )
    if member.role == "normal" and member.share:
        raise InvalidField(f"`{shown}`: only canaries and shadows have a share; give it a weight", "members")
    if member.role != "normal" and not (math.isfinite(member.share) and 0 < member.share <= 100):
        raise InvalidField(f"`{shown}`: a {member.role} has a share above 0 and up to 100 per cent", "members")


def check_policy(policy: Policy) -> None:
    """Raises InvalidField."""
    for name, (low, high) in POLICY_RANGES.items():
        value = getattr(policy, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise InvalidField(f"`{name}` is from {low:g} to {high:,g}", name)


def _info(row: Mapping[str, Any]) -> GroupInfo:
    return msgspec.convert({name: row[name] for name in GroupInfo.__struct_fields__}, GroupInfo)


def _version(groups: Sequence[GroupInfo], card: ModelCard) -> GroupInfo | None:
    return next((info for info in groups if (info.card.name, info.card.version) == (card.name, card.version)), None)


def _check_served_name(card: ModelCard, groups: Sequence[GroupInfo]) -> None:
    """Answers and backends know a model by that name alone. Raises InvalidField."""
    for info in groups:
        there = info.card
        if there.served_name == card.served_name and there.name != card.name:
            raise InvalidField(
                f"answers name this model `{card.served_name}`, as they do `{there.name}:{there.version}`, which is "
                "there already; choose another version",
                "version",
            )


def _fields(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in Group.__struct_fields__}


def _unknown(model_name: str, model_version: str) -> InvalidField:
    shown = f"{model_name}:{model_version}" if model_version else model_name
    return InvalidField(f"there is no group `{shown[:256]}`; `arkway groups list` shows all of them", "model")
