"""``arkway keys``: make, list and revoke API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, check_endpoints, echo_json, moment, now_s, opened, print_table
from arkway.cli.duration import Duration

if TYPE_CHECKING:
    from arkway.admin.keys import KeyInfo, Keys
    from arkway.stores.sqlite import SqliteStore


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys."""


@command.command("create")
@click.option("--name", default="default", show_default=True, help="What you call it.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="EP", help="Only for this endpoint; may be repeated.")
@click.option("--expires", "expires_s", type=Duration(), help="Dies after this time, such as 30d or 12h.")
@as_json_option
@click.pass_context
def create_key(ctx: click.Context, name: str, endpoints: tuple[str, ...], expires_s: int | None, as_json: bool) -> None:
    """Make an API key and show its secret: this once, nothing keeps it."""
    moment_s = now_s()
    with opened(ctx) as store:
        check_endpoints(store, endpoints)
        expires_at = moment_s + expires_s if expires_s else None
        key, secret = _keys(ctx, store).create(name, moment_s, endpoints, expires_at)
    if as_json:
        echo_json({**_document(key, moment_s), "secret": secret})
        return
    click.echo(f"id       {key.id}")
    click.echo(f"secret   {secret}")
    click.echo(f"for      {', '.join(key.endpoints) or 'every endpoint'}")
    click.echo(f"expires  {moment(key.expires_at) or 'never'}")
    click.echo("This is the only time the secret is shown. Send it as: Authorization: Bearer <secret>", err=True)


@command.command("list")
@as_json_option
@click.pass_context
def list_keys(ctx: click.Context, as_json: bool) -> None:
    """List API keys; of each secret only the last four characters are known."""
    moment_s = now_s()
    with opened(ctx) as store:
        keys = _keys(ctx, store).list()
    if as_json:
        echo_json([_document(key, moment_s) for key in keys])
        return
    if not keys:
        click.echo("there is no API key; `arkway keys create` makes one")
        return
    print_table(
        ("id", "name", "secret", "status", "for", "created (UTC)", "expires", "last used"),
        [_row(key, moment_s) for key in keys],
    )


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@as_json_option
@click.pass_context
def revoke_key(ctx: click.Context, key_id: str, as_json: bool) -> None:
    """Make a key useless, for good; running servers refuse it within two seconds."""
    with opened(ctx) as store:
        _keys(ctx, store).revoke(key_id, now_s())
    if as_json:
        echo_json({"id": key_id, "status": "revoked"})
        return
    click.echo(f"revoked {key_id}")


def _keys(ctx: click.Context, store: SqliteStore) -> Keys:
    from arkway.admin.keys import Keys
    from arkway.cli.context import settings
    from arkway.stores.home import pepper
    from arkway.stores.tables import KeyTable

    return Keys(KeyTable(store), pepper(settings(ctx).home).digest)


def _document(key: KeyInfo, moment_s: int) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(key), "status": key.status(moment_s)}


def _row(key: KeyInfo, moment_s: int) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        f"ark-…{key.last4}",
        key.status(moment_s),
        ", ".join(key.endpoints) or "every endpoint",
        moment(key.created_at),
        moment(key.expires_at) or "never",
        moment(key.last_used_at) or "never",
    )
