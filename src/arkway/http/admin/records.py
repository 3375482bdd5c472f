"""Operations that only look: usage, the audit log, the server's state, and the description of all of this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from arkway.admin import usage
from arkway.admin.audit import AuditInfo
from arkway.admin.usage import END_OF_TIME_MS, UsageReports, UsageRow
from arkway.http.admin.commands import Commands
from arkway.http.admin.operations import EVERYTHING, Operation, Request
from arkway.http.admin.paging import Order, Page, foreign
from arkway.http.admin.shapes import AuditWanted, CallsWanted, Status, SumsWanted, UsageSum, sum_shown

LOOKED_BACK_S = 30 * 86_400
# More calls than are opened in one millisecond: a page begins in the middle of them at worst.
CALLS_AT_A_TIME = 1000

NEWEST_CALLS = Order(lambda call: (call.opened_ms, call.attempt_id), newest_first=True)
NEWEST_ENTRIES = Order(lambda entry: (entry.at_ms, entry.id), newest_first=True)
BY_GROUP = Order(lambda found: tuple(found.group.values()))


def list_calls(commands: Commands, request: Request) -> Sequence[UsageRow]:
    """The newest first."""
    query: CallsWanted = request.query
    since_ms, until_ms = _times(query, request.now_s)
    page = request.page
    if page.after:
        newest_ms = page.after[0]
        if not isinstance(newest_ms, int):
            raise foreign()
        until_ms = min(until_ms, newest_ms + 1)
    wanted = min(usage.ROWS_MAX, page.limit + 1 + (CALLS_AT_A_TIME if page.after else 0))
    return _reports(commands, request).rows(since_ms, until_ms, wanted, _where(query))


def list_sums(commands: Commands, request: Request) -> Sequence[UsageSum]:
    """Raises InvalidField for groupings that do not go together."""
    query: SumsWanted = request.query
    book = commands.prices(request.actor).book() if query.cost else None
    reports = _reports(commands, request)
    totals = reports.totals(query.by, *_times(query, request.now_s), where=_where(query), prices=book)
    return [sum_shown(total, query.by) for total in totals]


def list_audit(commands: Commands, request: Request) -> Sequence[AuditInfo]:
    """The newest first."""
    query: AuditWanted = request.query
    since_s = request.now_s - LOOKED_BACK_S if query.since_at is UNSET else query.since_at
    log = commands.audit(None if request.account == EVERYTHING else request.account)
    return log.list(since_s * 1000, query.actor, query.action, request.page.limit + 1, _entry_place(request.page))


def show_status(commands: Commands, _: Request) -> Status:
    return commands.status()


def describe(*_: object) -> msgspec.Raw:
    """The OpenAPI document."""
    # It is made from the table that this module is a part of.
    from arkway.http.admin.openapi import document

    return msgspec.Raw(document())


def _reports(commands: Commands, request: Request) -> UsageReports:
    account = None if request.account == EVERYTHING else request.account
    return commands.usage(account, None if request.project == EVERYTHING else request.project)


def _entry_place(page: Page) -> tuple[int, str] | None:
    """The entry that the page before ended at. Raises InvalidField."""
    match page.after:
        case ():
            return None
        case (int(at_ms), str(entry_id)):
            return at_ms, entry_id
        case _:
            raise foreign()


def _times(query: CallsWanted, now_s: int) -> tuple[int, int]:
    since_s = now_s - LOOKED_BACK_S if query.since_at is UNSET else query.since_at
    return since_s * 1000, END_OF_TIME_MS if query.until_at is UNSET else query.until_at * 1000


def _where(query: CallsWanted) -> dict[str, tuple[str, ...]]:
    return {"key": query.key, "endpoint": query.endpoint, "model": query.model, "caller": query.caller}


OPERATIONS = (
    Operation(
        id="usage.sums",
        method="GET",
        path="/usage",
        summary="Sums of what was used, by group, and what it costs",
        permission="usage.read",
        run=list_sums,
        answer=UsageSum,
        query=SumsWanted,
        wide=True,
        order=BY_GROUP,
    ),
    Operation(
        id="usage.calls",
        method="GET",
        path="/usage/calls",
        summary="List settled calls, newest first",
        permission="usage.read",
        run=list_calls,
        answer=UsageRow,
        query=CallsWanted,
        wide=True,
        order=NEWEST_CALLS,
    ),
    Operation(
        id="audit.list",
        method="GET",
        path="/audit",
        summary="List who changed what, newest first",
        permission="audit.read",
        run=list_audit,
        answer=AuditInfo,
        within="account",
        query=AuditWanted,
        wide=True,
        order=NEWEST_ENTRIES,
    ),
    Operation(
        id="status.show",
        method="GET",
        path="/status",
        summary="How the server is",
        permission="status.read",
        run=show_status,
        answer=Status,
        within="host",
    ),
    Operation(
        id="openapi.show",
        method="GET",
        path="/openapi.json",
        summary="The OpenAPI document of all of this",
        permission="openapi.read",
        run=describe,
        answer=dict[str, Any],
        within="host",
    ),
)
