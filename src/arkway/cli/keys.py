"""``arkway keys``: make, list and revoke API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, check_endpoints, echo_json, moment, now_s, opened, print_table
from arkway.cli.duration import Duration
from arkway.cli.tenant import Place, actor, check_place, place_options
from arkway.core.roles import ROLES

if TYPE_CHECKING:
    from arkway.admin.keys import KeyInfo, Keys
    from arkway.core.caller import Role
    from arkway.stores.store import Store


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys."""


@command.command("create")
@click.option("--name", default="default", show_default=True, help="What you call it.")
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="EP", help="Only for this endpoint or bot; may be repeated."
)
@click.option("--role", type=click.Choice(ROLES), default="inference", show_default=True, help="What it may do.")
@click.option("--expires", "expires_s", type=Duration(), help="Dies after this time, such as 30d or 12h.")
@as_json_option
@place_options
@click.pass_context
def create_key(
    ctx: click.Context,
    place: Place,
    name: str,
    endpoints: tuple[str, ...],
    role: Role,
    expires_s: int | None,
    as_json: bool,
) -> None:
    """Make an API key and show its secret: this once, nothing keeps it.

    With the role inference it calls models and nothing else; the audit log has the key before it is shown.
    """
    moment_s = now_s()
    with opened(ctx) as store:
        keys = _keys(ctx, store, place)
        check_endpoints(store, place, endpoints)
        expires_at = moment_s + expires_s if expires_s else None
        key, secret = keys.create(name, moment_s, endpoints, expires_at, role=role)
    if as_json:
        echo_json({**_document(key, moment_s), "secret": secret})
        return
    click.echo(f"id       {key.id}")
    click.echo(f"secret   {secret}")
    click.echo(f"for      {', '.join(key.endpoints) or 'every endpoint'}")
    click.echo(f"role     {key.role}")
    click.echo(f"expires  {moment(key.expires_at) or 'never'}")
    click.echo("This is the only time the secret is shown. Send it as: Authorization: Bearer <secret>", err=True)


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_keys(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List API keys; of each secret only the last four characters are known."""
    moment_s = now_s()
    with opened(ctx) as store:
        keys = _keys(ctx, store, place).list()
    if as_json:
        echo_json([_document(key, moment_s) for key in keys])
        return
    if not keys:
        click.echo("there is no API key; `arkway keys create` makes one")
        return
    print_table(
        ("id", "name", "secret", "role", "status", "for", "created (UTC)", "expires", "last used"),
        [_row(key, moment_s) for key in keys],
    )


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def revoke_key(ctx: click.Context, place: Place, key_id: str, as_json: bool) -> None:
    """Make a key useless, for good; running servers refuse it within two seconds."""
    with opened(ctx) as store:
        _keys(ctx, store, place).revoke(key_id, now_s())
    if as_json:
        echo_json({"id": key_id, "status": "revoked"})
        return
    click.echo(f"revoked {key_id}")


def _keys(ctx: click.Context, store: Store, place: Place) -> Keys:
    from arkway.admin.keys import Keys
    from arkway.cli.context import settings
    from arkway.stores.home import pepper
    from arkway.stores.tables import KeyTable

    check_place(store, place)
    return Keys(KeyTable(store), pepper(settings(ctx).home).digest, *place, actor())


def _document(key: KeyInfo, moment_s: int) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(key), "status": key.status(moment_s)}


def _row(key: KeyInfo, moment_s: int) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        f"ark-…{key.last4}",
        key.role,
        key.status(moment_s),
        ", ".join(key.endpoints) or "every endpoint",
        moment(key.created_at),
        moment(key.expires_at) or "never",
        moment(key.last_used_at) or "never",
    )
