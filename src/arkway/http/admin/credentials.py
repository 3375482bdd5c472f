"""Operations on API keys and access key pairs. A secret is shown once, when the audit log has its key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from msgspec import UNSET

from arkway.core.caller import Role
from arkway.core.errors import InvalidField
from arkway.core.roles import require_grant
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import Conflict, NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.shapes import (
    AccessKey,
    CreateAccessKey,
    CreatedAccessKey,
    CreateKey,
    Key,
    NewKey,
    UpdateKey,
    access_key_made,
    access_key_shown,
    key_shown,
)
from arkway.http.admin.tenants import OLDEST_FIRST

Shown = TypeVar("Shown", Key, AccessKey)


def list_keys(commands: Commands, request: Request) -> Sequence[Key]:
    """Without their secrets, which nothing keeps."""
    keys = commands.keys(request.account, request.project, request.actor)
    return [key_shown(info, request.now_s) for info in keys.list()]


def create_key(commands: Commands, request: Request) -> NewKey:
    """Raises Forbidden for a role above the caller's own."""
    body: CreateKey = request.body
    require_grant(request.caller, body.role)
    check_endpoints(commands, request, body.endpoints)
    keys = commands.keys(request.account, request.project, request.actor)
    info, secret = keys.create(body.name, request.now_s, body.endpoints, body.expires_at, role=body.role)
    shown = msgspec.structs.asdict(key_shown(info, request.now_s))
    return msgspec.convert({**shown, "secret": secret}, NewKey)


def show_key(commands: Commands, request: Request) -> Key:
    return _found(list_keys(commands, request), request.name, "API key")


def update_key(commands: Commands, request: Request) -> Key:
    """Raises NotFound, Conflict for one that was revoked, Forbidden for a role above the caller's own."""
    body: UpdateKey = request.body
    _check_change(commands, request, show_key(commands, request).role)
    if body != UpdateKey():
        keys = commands.keys(request.account, request.project, request.actor)
        with in_use():
            keys.update(request.name, body.role, body.endpoints, body.expires_at)
    return show_key(commands, request)


def revoke_key(commands: Commands, request: Request) -> Key:
    """Raises NotFound. A second time changes nothing."""
    show_key(commands, request)
    commands.keys(request.account, request.project, request.actor).revoke(request.name, request.now_s)
    return show_key(commands, request)


def list_pairs(commands: Commands, request: Request) -> Sequence[AccessKey]:
    """Without their secrets."""
    pairs = commands.access_keys(request.account, request.project, request.actor)
    return [access_key_shown(info, request.now_s) for info in pairs.list()]


def create_pair(commands: Commands, request: Request) -> CreatedAccessKey:
    """Raises Forbidden for a role above the caller's own."""
    body: CreateAccessKey = request.body
    require_grant(request.caller, body.role)
    check_endpoints(commands, request, body.endpoints)
    pairs = commands.access_keys(request.account, request.project, request.actor)
    made = pairs.create(
        body.name, request.now_s, body.endpoints, body.expires_at, temporary=body.temporary, role=body.role
    )
    return access_key_made(made, request.now_s)


def show_pair(commands: Commands, request: Request) -> AccessKey:
    return _found(list_pairs(commands, request), request.name, "access key")


def update_pair(commands: Commands, request: Request) -> AccessKey:
    """Raises NotFound, Conflict for one that was revoked, Forbidden for a role above the caller's own."""
    body: UpdateKey = request.body
    _check_change(commands, request, show_pair(commands, request).role)
    if body != UpdateKey():
        pairs = commands.access_keys(request.account, request.project, request.actor)
        with in_use():
            pairs.update(request.name, body.role, body.endpoints, body.expires_at)
    return show_pair(commands, request)


def revoke_pair(commands: Commands, request: Request) -> AccessKey:
    """Raises NotFound. A second time changes nothing."""
    show_pair(commands, request)
    commands.access_keys(request.account, request.project, request.actor).revoke(request.name, request.now_s)
    return show_pair(commands, request)


def _check_change(commands: Commands, request: Request, held: Role) -> None:
    """Raises Forbidden for a role above the caller's own, which the key has or is to get; InvalidField."""
    body: UpdateKey = request.body
    require_grant(request.caller, held)
    if body.role is not UNSET:
        require_grant(request.caller, body.role)
    if body.endpoints is not UNSET:
        check_endpoints(commands, request, body.endpoints)


@contextmanager
def in_use() -> Iterator[None]:
    """A key that is there and cannot be changed was revoked: a Conflict."""
    try:
        yield
    except InvalidField as error:
        raise Conflict(error.message) if error.field == "id" else error from None


def check_endpoints(commands: Commands, request: Request, wanted: Sequence[str]) -> None:
    """Raises InvalidField unless the project has all of these endpoints and bots."""
    if not wanted:
        return
    where = (request.account, request.project, request.actor)
    known = {endpoint.id for endpoint in commands.endpoints(*where).list()}
    known |= {bot.id for bot in commands.bots(*where).list()}
    for place, endpoint_id in enumerate(wanted):
        if endpoint_id not in known:
            raise InvalidField(f"the project has no endpoint or bot `{endpoint_id}`", f"endpoints[{place}]")


def _found(there: Sequence[Shown], wanted: str, kind: str) -> Shown:
    found = next((info for info in there if info.id == wanted), None)
    if found is None:
        raise NotFound(kind, wanted)
    return found


OPERATIONS = (
    Operation(
        id="keys.list",
        method="GET",
        path="/keys",
        summary="List API keys, revoked and expired ones too",
        permission="keys.read",
        run=list_keys,
        answer=Key,
        order=OLDEST_FIRST,
    ),
    Operation(
        id="keys.create",
        method="POST",
        path="/keys",
        summary="Make an API key; its secret is shown this once",
        permission="keys.create",
        run=create_key,
        answer=NewKey,
        body=CreateKey,
        status=201,
    ),
    Operation(
        id="keys.show",
        method="GET",
        path="/keys/{key}",
        summary="Show an API key",
        permission="keys.read",
        run=show_key,
        answer=Key,
    ),
    Operation(
        id="keys.update",
        method="PATCH",
        path="/keys/{key}",
        summary="Change what an API key may do, and until when",
        permission="keys.update",
        run=update_key,
        answer=Key,
        body=UpdateKey,
        conflicts=True,
    ),
    Operation(
        id="keys.revoke",
        method="POST",
        path="/keys/{key}/revoke",
        summary="Make an API key useless, for good",
        permission="keys.revoke",
        run=revoke_key,
        answer=Key,
    ),
    Operation(
        id="access_keys.list",
        method="GET",
        path="/access-keys",
        summary="List access key pairs, revoked and expired ones too",
        permission="access_keys.read",
        run=list_pairs,
        answer=AccessKey,
        order=OLDEST_FIRST,
    ),
    Operation(
        id="access_keys.create",
        method="POST",
        path="/access-keys",
        summary="Make an access key pair; its secret is shown this once",
        permission="access_keys.create",
        run=create_pair,
        answer=CreatedAccessKey,
        body=CreateAccessKey,
        status=201,
    ),
    Operation(
        id="access_keys.show",
        method="GET",
        path="/access-keys/{access_key}",
        summary="Show an access key pair",
        permission="access_keys.read",
        run=show_pair,
        answer=AccessKey,
    ),
    Operation(
        id="access_keys.update",
        method="PATCH",
        path="/access-keys/{access_key}",
        summary="Change what an access key pair may do, and until when",
        permission="access_keys.update",
        run=update_pair,
        answer=AccessKey,
        body=UpdateKey,
        conflicts=True,
    ),
    Operation(
        id="access_keys.revoke",
        method="POST",
        path="/access-keys/{access_key}/revoke",
        summary="Make an access key pair useless, for good",
        permission="access_keys.revoke",
        run=revoke_pair,
        answer=AccessKey,
    ),
)
