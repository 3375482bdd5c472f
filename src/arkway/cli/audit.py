"""``arkway audit``: who changed what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, now_s, opened, print_table
from arkway.cli.duration import Duration

if TYPE_CHECKING:
    from arkway.admin.audit import AuditInfo


@click.group("audit")
def command() -> None:
    """Read the audit log: every change of keys, endpoints, accounts and settings of theirs, in the order of time.

    A row is written together with the change, and before a secret is shown; the database refuses to change or delete
    one. Actors are `cli:USER` for these commands, a key's id for the control plane, `arkway` for the server itself.
    """


@command.command("list")
@click.option("--since", "since_s", type=Duration(), default="30d", show_default=True, help="How far back.")
@click.option("--actor", default="", help="Only what this actor did.")
@click.option("--action", default="", help="Only this action, such as keys.create.")
@click.option("--account", default=None, help="Only this account; by default all of them.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many rows.")
@as_json_option
@click.pass_context
def list_audit(
    ctx: click.Context, since_s: int, actor: str, action: str, account: str | None, limit: int, as_json: bool
) -> None:
    """List the newest rows, newest first."""
    from arkway.admin.audit import AuditLog
    from arkway.stores.audit import AuditTable

    with opened(ctx) as store:
        found = AuditLog(AuditTable(store), account).list((now_s() - since_s) * 1000, actor, action, limit)
    if as_json:
        echo_json(found)
        return
    if not found:
        click.echo("nothing of this kind was changed in this time")
        return
    titles = ("when (UTC)", "actor", "action", "target", "account", "project", "detail", "request")
    print_table(titles, [_row(info) for info in found])


def _row(info: AuditInfo) -> tuple[str, ...]:
    import time

    import msgspec

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(info.at_ms // 1000))
    detail = msgspec.json.encode(info.detail).decode() if info.detail else ""
    return (when, info.actor, info.action, info.target, info.account, info.project, detail, info.request_id)
