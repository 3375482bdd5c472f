"""Operations on endpoints, and on the limits of what they and others may use."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from arkway.admin.limits import LimitInfo
from arkway.core.errors import EndpointNotFound, InvalidField
from arkway.core.limit import Scope
from arkway.core.model import Endpoint, EndpointChange, Tag
from arkway.core.roles import require
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.paging import Order
from arkway.http.admin.shapes import CreateEndpoint, LimitsNamed, Removed, SetLimits, TagGiven, UpdateEndpoint
from arkway.http.admin.tenants import OLDEST_FIRST

BY_SUBJECT = Order(lambda limit: (limit.project, limit.scope, limit.subject, limit.kind, limit.period))


def list_endpoints(commands: Commands, request: Request) -> Sequence[Endpoint]:
    """Those that the caller's key is for."""
    allowed = request.caller.endpoints
    found = commands.endpoints(request.account, request.project, request.actor).list()
    return [endpoint for endpoint in found if not allowed or endpoint.id in allowed]


def create_endpoint(commands: Commands, request: Request) -> Endpoint:
    """Raises InvalidField for a model that is not installed."""
    body: CreateEndpoint = request.body
    check_model(commands, body.model_name, body.model_version)
    endpoints = commands.endpoints(request.account, request.project, request.actor)
    return endpoints.create(
        body.name,
        body.model_name,
        request.now_s,
        body.model_version,
        description=body.description,
        tags=_tags(body.tags),
    )


def show_endpoint(commands: Commands, request: Request) -> Endpoint:
    """Raises NotFound."""
    found = (endpoint for endpoint in list_endpoints(commands, request) if endpoint.id == request.name)
    endpoint = next(found, None)
    if endpoint is None:
        raise NotFound("endpoint", request.name)
    return endpoint


def update_endpoint(commands: Commands, request: Request) -> Endpoint:
    """Raises NotFound, InvalidField for a model that is not installed."""
    body: UpdateEndpoint = request.body
    endpoint = show_endpoint(commands, request)
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if "model_name" in given or "model_version" in given:
        # Another model's version would be an odd one to keep.
        version = "" if "model_name" in given else endpoint.model_version
        given = {"model_version": version, **given}
        check_model(commands, given.get("model_name", endpoint.model_name), given["model_version"])
    if "tags" in given:
        given["tags"] = _tags(given["tags"])
    endpoints = commands.endpoints(request.account, request.project, request.actor)
    try:
        return endpoints.update(endpoint.id, EndpointChange(**given), request.now_s)
    except EndpointNotFound:
        raise NotFound("endpoint", request.name) from None


def start_endpoint(commands: Commands, request: Request) -> Endpoint:
    """Raises NotFound."""
    endpoint = show_endpoint(commands, request)
    commands.endpoints(request.account, request.project, request.actor).start(endpoint.id, request.now_s)
    return show_endpoint(commands, request)


def stop_endpoint(commands: Commands, request: Request) -> Endpoint:
    """Raises NotFound."""
    endpoint = show_endpoint(commands, request)
    commands.endpoints(request.account, request.project, request.actor).stop(endpoint.id, request.now_s)
    return show_endpoint(commands, request)


def delete_endpoint(commands: Commands, request: Request) -> Removed:
    """Raises NotFound."""
    endpoint = show_endpoint(commands, request)
    commands.endpoints(request.account, request.project, request.actor).delete(endpoint.id, request.now_s)
    return Removed(1)


def list_limits(commands: Commands, request: Request) -> Sequence[LimitInfo]:
    return commands.limits(request.account, request.project, request.actor).list()


def set_limits(commands: Commands, request: Request) -> Sequence[LimitInfo]:
    """Raises InvalidField for a subject that the project does not have."""
    body: SetLimits = request.body
    check_subject(body.scope, body.subject)
    _check_scope(request, body.scope)
    amounts: dict[str, float] = msgspec.to_builtins(body.amounts)
    limits = commands.limits(request.account, request.project, request.actor)
    return limits.set(body.scope, body.subject, amounts, request.now_s, shadow=body.shadow)


def remove_limits(commands: Commands, request: Request) -> Removed:
    """Raises NotFound where there is none of them."""
    query: LimitsNamed = request.query
    check_subject(query.scope, query.subject)
    _check_scope(request, query.scope)
    limits = commands.limits(request.account, request.project, request.actor)
    try:
        return Removed(limits.remove(query.scope, query.subject, query.name))
    except InvalidField:
        raise NotFound("limit", f"{query.scope} {query.subject}".strip()) from None


def _check_scope(request: Request, scope: Scope) -> None:
    """What a whole account may use is its host's to say, not its own. Raises Forbidden."""
    if scope == "account":
        require(request.caller, "limits.of_account")


def check_model(commands: Commands, name: str, version: str) -> None:
    """Raises InvalidField unless it is installed."""
    if commands.find_model(name, version) is None:
        shown = f"{name} {version}".strip()
        raise InvalidField(
            f"the model `{shown[:128]}` is not installed; the operator installs it with `arkway pull`", "model_name"
        )


def check_subject(scope: str, subject: str) -> None:
    """Raises InvalidField: keys and endpoints have a name, a project and an account have none but their own."""
    if (scope in ("key", "endpoint")) != bool(subject):
        word = "needs the id of one" if not subject else "takes no id"
        raise InvalidField(f"a limit of the scope {scope} {word} as its subject", "subject")


def _tags(given: Sequence[TagGiven]) -> tuple[Tag, ...]:
    return tuple(Tag(tag.key, tag.value) for tag in given)


OPERATIONS = (
    Operation(
        id="endpoints.list",
        method="GET",
        path="/endpoints",
        summary="List endpoints",
        permission="endpoints.read",
        run=list_endpoints,
        answer=Endpoint,
        order=OLDEST_FIRST,
    ),
    Operation(
        id="endpoints.create",
        method="POST",
        path="/endpoints",
        summary="Make an endpoint for an installed model",
        permission="endpoints.create",
        run=create_endpoint,
        answer=Endpoint,
        body=CreateEndpoint,
        status=201,
    ),
    Operation(
        id="endpoints.show",
        method="GET",
        path="/endpoints/{endpoint}",
        summary="Show an endpoint",
        permission="endpoints.read",
        run=show_endpoint,
        answer=Endpoint,
    ),
    Operation(
        id="endpoints.update",
        method="PATCH",
        path="/endpoints/{endpoint}",
        summary="Change an endpoint; calls under way go on as they began",
        permission="endpoints.update",
        run=update_endpoint,
        answer=Endpoint,
        body=UpdateEndpoint,
    ),
    Operation(
        id="endpoints.start",
        method="POST",
        path="/endpoints/{endpoint}/start",
        summary="Take calls to an endpoint again",
        permission="endpoints.start",
        run=start_endpoint,
        answer=Endpoint,
    ),
    Operation(
        id="endpoints.stop",
        method="POST",
        path="/endpoints/{endpoint}/stop",
        summary="Refuse calls to an endpoint",
        permission="endpoints.stop",
        run=stop_endpoint,
        answer=Endpoint,
    ),
    Operation(
        id="endpoints.delete",
        method="DELETE",
        path="/endpoints/{endpoint}",
        summary="Delete an endpoint; its usage stays",
        permission="endpoints.delete",
        run=delete_endpoint,
        answer=Removed,
    ),
    Operation(
        id="limits.list",
        method="GET",
        path="/limits",
        summary="List the limits of a project and of its account",
        permission="limits.read",
        run=list_limits,
        answer=LimitInfo,
        order=BY_SUBJECT,
    ),
    Operation(
        id="limits.set",
        method="PUT",
        path="/limits",
        summary="Set limits of one key, endpoint, project or account; others stay as they are",
        permission="limits.set",
        run=set_limits,
        answer=LimitInfo,
        body=SetLimits,
        many=True,
    ),
    Operation(
        id="limits.remove",
        method="DELETE",
        path="/limits",
        summary="Remove limits",
        permission="limits.remove",
        run=remove_limits,
        answer=Removed,
        query=LimitsNamed,
    ),
)
