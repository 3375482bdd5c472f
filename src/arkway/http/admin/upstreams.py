"""Operations on other model servers, and on the models that they answer for. They are the operator's alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from arkway.admin.groups import (
    DIMENSIONS_MAX,
    FIRST_VERSION,
    MEMBERS_MAX,
    POLICY_RANGES,
    PRIORITY_MAX,
    TOKENIZER_PATTERN,
    TOKENS_MAX,
    WEIGHT_MAX,
    GroupInfo,
    card_of,
)
from arkway.admin.upstreams import CONNECTIONS_MAX, SECONDS_MAX, SECONDS_MIN, UpstreamChange, UpstreamInfo
from arkway.core.errors import InvalidField
from arkway.core.model import Capability
from arkway.core.upstream import (
    CONNECT_S,
    CONNECTIONS,
    FIRST_BYTE_S,
    IDLE_S,
    Credential,
    Group,
    Member,
    Policy,
    Upstream,
)
from arkway.http.admin.commands import Commands, Step
from arkway.http.admin.errors import Conflict, NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.paging import Order
from arkway.http.admin.shapes import Removed, Taken

UpstreamName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
BaseUrl = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=1024,
        pattern=r"^https?://[A-Za-z0-9\[]",
        description="Ends where `/chat/completions` begins.",
    ),
]
Secret = Annotated[str, Meta(max_length=4096, pattern=r"^[!-~]*$", description="Never shown again.")]
Seconds = Annotated[float, Meta(ge=SECONDS_MIN, le=SECONDS_MAX)]
Connections = Annotated[int, Meta(ge=1, le=CONNECTIONS_MAX)]
Region = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
CaFile = Annotated[str, Meta(max_length=1024, pattern=r"^(/[^\x00]*)?$")]
Kind = Literal["openai", "ark"]


class CreateUpstream(Taken, frozen=True, kw_only=True):
    """A model server. ``key``, or the pair ``access_key_id`` and ``secret_access_key``, is what it is shown."""

    name: UpstreamName
    base_url: BaseUrl
    kind: Kind = "openai"
    key: Secret = ""
    access_key_id: Secret = ""
    secret_access_key: Secret = ""
    region: Region = "cn-beijing"
    connections_max: Connections = CONNECTIONS
    connect_s: Seconds = CONNECT_S
    first_byte_s: Seconds = FIRST_BYTE_S
    idle_s: Seconds = IDLE_S
    ca_file: CaFile = ""


class UpdateUpstream(Taken, frozen=True, kw_only=True):
    """What is left out stays as it is; an empty ``key`` takes the secret away."""

    base_url: BaseUrl | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    key: Secret | UnsetType = UNSET
    access_key_id: Secret | UnsetType = UNSET
    secret_access_key: Secret | UnsetType = UNSET
    region: Region | UnsetType = UNSET
    connections_max: Connections | UnsetType = UNSET
    connect_s: Seconds | UnsetType = UNSET
    first_byte_s: Seconds | UnsetType = UNSET
    idle_s: Seconds | UnsetType = UNSET
    ca_file: CaFile | UnsetType = UNSET


class MemberGiven(Taken, frozen=True, kw_only=True):
    """One upstream's model. ``share`` is per cent, of canaries and shadows alone."""

    upstream: UpstreamName
    model: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00,]*$")]
    role: Literal["normal", "canary", "shadow"] = "normal"
    weight: Annotated[int, Meta(ge=0, le=WEIGHT_MAX)] = 100
    priority: Annotated[int, Meta(ge=0, le=PRIORITY_MAX)] = 0
    share: Annotated[float, Meta(ge=0, le=100)] = 0.0


def _ranged(name: str) -> Any:
    low, high = POLICY_RANGES[name]
    return Meta(ge=low, le=high)


class PolicyGiven(Taken, frozen=True, kw_only=True):
    """How a group chooses, and when it gives up."""

    stick_to: Literal["nothing", "session", "prefix"] = "nothing"
    attempts: Annotated[int, _ranged("attempts")] = 2
    retry_share: Annotated[float, _ranged("retry_share")] = 0.2
    breaker_ratio: Annotated[float, _ranged("breaker_ratio")] = 0.5
    breaker_calls: Annotated[int, _ranged("breaker_calls")] = 10
    breaker_window_s: Annotated[float, _ranged("breaker_window_s")] = 10.0
    breaker_open_s: Annotated[float, _ranged("breaker_open_s")] = 5.0
    probe_s: Annotated[float, _ranged("probe_s")] = 0.0


Tokenizer = Annotated[
    str,
    Meta(
        max_length=224,
        pattern=TOKENIZER_PATTERN.replace("\\Z", "$"),
        description="The installed model whose tokens are the same, `NAME` or `NAME:VERSION`.",
    ),
]
Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX, description="0 = the default.")]


class SetGroup(Taken, frozen=True, kw_only=True):
    """One version of a model, whole: what is left out has its default. ``is_default`` null = stays as it is."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
    version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")] = FIRST_VERSION
    members: Annotated[tuple[MemberGiven, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]
    policy: PolicyGiven = PolicyGiven()
    title: Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*$")] = ""
    capabilities: Annotated[tuple[Capability, ...], Meta(max_length=16)] = ()
    context_tokens: Tokens = 0
    max_output_tokens: Tokens = 0
    default_output_tokens: Tokens = 0
    dimensions: Annotated[int, Meta(ge=0, le=DIMENSIONS_MAX)] = 0
    tokenizer: Tokenizer = ""
    is_default: bool | None = None


class GroupNamed(Taken, frozen=True, kw_only=True):
    """Which version; empty = the default one."""

    model: Annotated[str, Meta(min_length=1, max_length=128)]
    version: Annotated[str, Meta(max_length=96)] = ""


BY_NAME = Order(lambda upstream: (upstream.name,))
BY_VERSION = Order(lambda group: (group.card.name, group.card.version))


def list_upstreams(commands: Commands, request: Request) -> Sequence[UpstreamInfo]:
    return commands.upstreams(request.actor).list()


def show_upstream(commands: Commands, request: Request) -> UpstreamInfo:
    """Raises NotFound."""
    return _named(list_upstreams(commands, request), request.name)


def _named(found: Sequence[UpstreamInfo], name: str) -> UpstreamInfo:
    info = next((info for info in found if info.name == name), None)
    if info is None:
        raise NotFound("upstream", name)
    return info


def create_upstream(commands: Commands, request: Request) -> UpstreamInfo:
    """Raises Conflict where there is one of that name."""
    body: CreateUpstream = request.body
    told = msgspec.structs.asdict(body)
    credential = Credential(*(told.pop(name) for name in ("key", "access_key_id", "secret_access_key")))
    upstreams = commands.upstreams(request.actor)
    try:
        return upstreams.add(Upstream(**told), credential, request.now_s)
    except InvalidField as error:
        if any(info.name == body.name for info in upstreams.list()):
            raise Conflict(f"there is an upstream `{body.name}` already") from None
        raise error from None


def update_upstream(commands: Commands, request: Request) -> UpstreamInfo:
    """Raises NotFound."""
    told = {name: value for name, value in msgspec.structs.asdict(request.body).items() if value is not UNSET}
    secret = {name: told.pop(name) for name in ("key", "access_key_id", "secret_access_key") if name in told}
    change = UpstreamChange(**told, credential=Credential(**secret) if secret else None)
    if change == UpstreamChange():
        return show_upstream(commands, request)

    def update(step: Step) -> UpstreamInfo:
        _named(step.upstreams.list(), request.name)
        return step.upstreams.update(request.name, change, request.now_s)

    return commands.together(request.actor, update)


def remove_upstream(commands: Commands, request: Request) -> Removed:
    """Raises NotFound, Conflict for a member of a group."""
    show_upstream(commands, request)
    try:
        commands.upstreams(request.actor).remove(request.name)
    except InvalidField as error:
        show_upstream(commands, request)
        raise Conflict(error.message) from None
    return Removed(1)


def list_groups(commands: Commands, request: Request) -> Sequence[GroupInfo]:
    return commands.groups(request.actor).list()


def set_group(commands: Commands, request: Request) -> GroupInfo:
    """A new model gets an endpoint of the operator's own. Raises InvalidField."""
    body: SetGroup = request.body
    card = card_of(
        body.model,
        body.version,
        title=body.title,
        capabilities=tuple(dict.fromkeys(body.capabilities)),
        context_tokens=body.context_tokens,
        max_output_tokens=body.max_output_tokens,
        default_output_tokens=body.default_output_tokens,
        dimensions=body.dimensions,
        tokenizer=body.tokenizer,
    )
    members = tuple(Member(**msgspec.structs.asdict(member)) for member in body.members)
    policy = Policy(**msgspec.structs.asdict(body.policy))

    def put(step: Step) -> GroupInfo:
        flag = body.is_default
        if flag is None:
            flag = step.groups.stays_default(body.model, body.version)
        info = step.groups.set(Group(card=card, members=members, policy=policy, is_default=flag), request.now_s)
        step.endpoints.ensure([body.model], request.now_s)
        return info

    return commands.together(request.actor, put)


def remove_group(commands: Commands, request: Request) -> Removed:
    """Raises NotFound."""
    query: GroupNamed = request.query
    try:
        commands.groups(request.actor).remove(query.model, query.version)
    except InvalidField:
        raise NotFound("group", f"{query.model} {query.version}".strip()) from None
    return Removed(1)


OPERATIONS = (
    Operation(
        id="upstreams.list",
        method="GET",
        path="/upstreams",
        summary="List upstreams",
        permission="upstreams.read",
        run=list_upstreams,
        answer=UpstreamInfo,
        within="host",
        order=BY_NAME,
    ),
    Operation(
        id="upstreams.create",
        method="POST",
        path="/upstreams",
        summary="Add an upstream; its secret is never shown",
        permission="upstreams.create",
        run=create_upstream,
        answer=UpstreamInfo,
        within="host",
        body=CreateUpstream,
        conflicts=True,
        status=201,
    ),
    Operation(
        id="upstreams.show",
        method="GET",
        path="/upstreams/{upstream}",
        summary="Show an upstream",
        permission="upstreams.read",
        run=show_upstream,
        answer=UpstreamInfo,
        within="host",
    ),
    Operation(
        id="upstreams.update",
        method="PATCH",
        path="/upstreams/{upstream}",
        summary="Change an upstream; calls under way go on as they began",
        permission="upstreams.update",
        run=update_upstream,
        answer=UpstreamInfo,
        within="host",
        body=UpdateUpstream,
    ),
    Operation(
        id="upstreams.remove",
        method="DELETE",
        path="/upstreams/{upstream}",
        summary="Forget an upstream that no group has as a member",
        permission="upstreams.remove",
        run=remove_upstream,
        answer=Removed,
        within="host",
        conflicts=True,
    ),
    Operation(
        id="groups.list",
        method="GET",
        path="/groups",
        summary="List the models that upstreams answer for",
        permission="groups.read",
        run=list_groups,
        answer=GroupInfo,
        within="host",
        order=BY_VERSION,
    ),
    Operation(
        id="groups.set",
        method="PUT",
        path="/groups",
        summary="Let members answer for one version of a model",
        permission="groups.set",
        run=set_group,
        answer=GroupInfo,
        within="host",
        body=SetGroup,
    ),
    Operation(
        id="groups.remove",
        method="DELETE",
        path="/groups",
        summary="Take a group away; its endpoints stay",
        permission="groups.remove",
        run=remove_group,
        answer=Removed,
        within="host",
        query=GroupNamed,
    ),
)
