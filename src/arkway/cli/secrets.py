"""``arkway secrets``: the key ring, under which the secrets of access keys and upstreams lie in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, key_ring, opened
from arkway.cli.tenant import actor

if TYPE_CHECKING:
    from arkway.stores.access_keys import Rotation


@click.group("secrets")
def command() -> None:
    """Look after the keys under which the secrets of access keys and upstreams are encrypted.

    They are in the file `keyring` of the data directory, unless ARKWAY_MASTER_KEY or the setting `secrets.command`
    gives them.
    """


@command.command("rotate")
@click.option("--drop-old", is_flag=True, help="Delete the keys that no secret needs any more from the key file.")
@as_json_option
@click.pass_context
def rotate_keys(ctx: click.Context, drop_old: bool, as_json: bool) -> None:
    """Make a new key and encrypt every secret under it; running servers go on and follow by themselves.

    It may be interrupted at any moment: given again, the command goes on where it stopped, with the key made then.
    Where ARKWAY_MASTER_KEY or `secrets.command` gives the key, no key is made: put the new one first, before the old
    one, restart the servers, then give this command.
    """
    from arkway.admin.audit import Acting
    from arkway.core.roles import HOST_ACCOUNT
    from arkway.stores.access_keys import rotate
    from arkway.stores.audit import AuditTable

    with opened(ctx) as store:
        # Before it begins: of a rotation that is interrupted the log knows as well.
        AuditTable(store).append(
            Acting(HOST_ACCOUNT, "", actor()).entry("secrets.rotate", "keyring", drop_old=drop_old)
        )
        done = rotate(store, key_ring(ctx), drop_old=drop_old, progress=_silent if as_json else _shown)
    if as_json:
        echo_json(done)
    else:
        _print(done)
    if done.unreadable:
        raise SystemExit(1)


def _print(done: Rotation) -> None:
    click.echo(f"current key {done.current}" + (" (new)" if done.new_key else ""))
    click.echo(f"{done.rows} secrets were encrypted anew")
    if not done.new_key:
        click.echo("no key was made: the current one was given, or made by a rotation that was interrupted", err=True)
    for kid in done.dropped:
        click.echo(f"dropped the key {kid}")
    for place in done.unreadable:
        click.echo(f"the secret of {place} does not decrypt; restore its key, or {_otherwise(place)}", err=True)


def _otherwise(place: str) -> str:
    kind, _, name = place.rpartition("/")
    return f"give it again: arkway upstreams update {name}" if kind else f"revoke it: arkway aksk revoke {name}"


def _shown(done: int, total: int) -> None:
    click.echo(f"{done} of {total} access keys", err=True)


def _silent(done: int, total: int) -> None:
    """The output is one JSON document."""
