"""One request of the Admin API from its bytes to its answer. What waits for the store runs in a thread."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from arkway.admin.tenancy import DEFAULT_PROJECT
from arkway.core.audit import Actor
from arkway.core.caller import Caller
from arkway.core.errors import Forbidden, InvalidField
from arkway.core.raw import RawRequest
from arkway.core.roles import reaches, require
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import NotFound
from arkway.http.admin.openapi import queries
from arkway.http.admin.operations import EVERYTHING, Operation, Request, Uploaded
from arkway.http.admin.paging import Listed, Page, cut, read_cursor
from arkway.http.admin.reading import Query, check_no_body, file_name, read_body
from arkway.http.admin.shapes import PageWanted, Within, WithinAccount
from arkway.http.admin.table import BY_ROUTE
from arkway.http.surface import Route


class AdminApi:
    """The operations over the admin commands."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def perform(self, route: Route, raw: RawRequest, caller: Caller, body: bytes) -> tuple[int, bytes]:
        """Status and JSON. Raises errors of the tree; nothing of a secret leaves before the audit log has it."""
        operation = BY_ROUTE[route.method, route.path]
        _refuse_other_origins(raw)
        require(caller, operation.permission)
        request = _read(operation, route, raw, caller, body)
        # Cancelled, the change goes on: what was begun is done and on record, whoever still listens.
        result = await asyncio.to_thread(self._run, operation, request)
        return operation.status, msgspec.json.encode(result)

    def _run(self, operation: Operation, request: Request) -> Any:
        self._check_place(operation, request)
        result = operation.run(self._commands, request)
        if operation.order is not None:
            return cut(result, operation.order, request.page, operation.id)
        return Listed(list(result), None) if operation.many else result

    def _check_place(self, operation: Operation, request: Request) -> None:
        """Raises NotFound for a project that is not there; the caller's own is."""
        caller, account, project = request.caller, request.account, request.project
        if (
            operation.within == "host"
            or account == EVERYTHING
            or (account, project) == (caller.account, caller.project)
        ):
            return
        try:
            self._commands.projects(account, request.actor).show(DEFAULT_PROJECT if project == EVERYTHING else project)
        except InvalidField:
            raise _no_place(account, project) from None


def _read(operation: Operation, route: Route, raw: RawRequest, caller: Caller, body: bytes) -> Request:
    query = Query(raw.query, queries(operation))
    account, project = _place(operation, caller, query)
    paging = query.take(PageWanted) if operation.order else PageWanted()
    own = query.take(operation.query) if operation.query is not None else None
    if operation.body is None and not operation.upload_max_bytes:
        check_no_body(body)
    return Request(
        caller=caller,
        actor=Actor(caller.key_id, raw.request_id),
        now_s=raw.now_ms // 1000,
        account=account,
        project=project,
        name=_named(route.path, raw.path),
        query=own,
        body=_sent(operation, raw, body),
        page=Page(paging.limit, read_cursor(paging.cursor, operation.id)),
    )


def _sent(operation: Operation, raw: RawRequest, body: bytes) -> Any:
    """What the body is. Raises what `read_body` raises."""
    if operation.upload_max_bytes:
        return Uploaded(file_name(raw.header("x-file-name")), body)
    return None if operation.body is None else read_body(body, raw.header("content-type"), operation.body)


def _place(operation: Operation, caller: Caller, query: Query) -> tuple[str, str]:
    """Account and project that are meant, the caller's to act on. Raises NotFound."""
    if operation.within == "host":
        return caller.account, caller.project
    asked = query.take(Within) if operation.within == "project" else Within(account=query.take(WithinAccount).account)
    account = asked.account or caller.account
    own = caller.project if account == caller.account else DEFAULT_PROJECT
    project = asked.project or (EVERYTHING if account == EVERYTHING else own)
    if not reaches(caller, account, project):
        raise _no_place(account, project)
    # Of all accounts there is no one project; where an operation is not wide, there is nothing of this name.
    narrow = EVERYTHING in (account, project) and not operation.wide
    if narrow or (account == EVERYTHING and project != EVERYTHING):
        raise _no_place(account, project)
    return account, project


def _named(template: str, path: str) -> str:
    """What stands in the path's open segment, empty where it has none. Raises NotFound for what is no id."""
    segments = template.split("/")
    if "{}" not in segments:
        return ""
    name = path.split("/")[segments.index("{}")]
    if not name.isprintable():
        raise NotFound("name in the path", "")
    return name


def _refuse_other_origins(raw: RawRequest) -> None:
    """Raises Forbidden for a request that another site's page has made: there is nothing here for any."""
    origin = raw.header("origin")
    if origin and urlsplit(origin).netloc.lower() != raw.header("host").lower():
        raise Forbidden("requests from pages of other sites are not taken")


def _no_place(account: str, project: str) -> NotFound:
    return NotFound("project", f"{account[:64]}/{project[:64]}")
