"""``arkway aksk``: make, list and revoke access key pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, check_endpoints, echo_json, key_ring, moment, now_s, opened, print_table
from arkway.cli.duration import Duration
from arkway.cli.tenant import Place, actor, check_place, place_options
from arkway.core.roles import ROLES

if TYPE_CHECKING:
    from arkway.admin.access_keys import AccessKeyInfo, AccessKeys, NewAccessKey
    from arkway.core.caller import Role
    from arkway.stores.store import Store


@click.group("aksk")
def command() -> None:
    """Make, list and revoke access key pairs (AK/SK), with which clients sign their requests.

    API keys (`arkway keys`) are for clients that send `Authorization: Bearer`; SDKs of the v1 and v2 APIs sign.
    """


@command.command("create")
@click.option("--name", default="default", show_default=True, help="What you call it.")
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="EP", help="Only for this endpoint or bot; may be repeated."
)
@click.option("--role", type=click.Choice(ROLES), default="owner", show_default=True, help="What it may do.")
@click.option("--expires", "expires_s", type=Duration(), help="Dies after this time, such as 30d or 12h.")
@click.option("--temporary", "session_s", type=Duration(), help="With a session token; dies after this time.")
@as_json_option
@place_options
@click.pass_context
def create_pair(
    ctx: click.Context,
    place: Place,
    name: str,
    endpoints: tuple[str, ...],
    role: Role,
    expires_s: int | None,
    session_s: int | None,
    as_json: bool,
) -> None:
    """Make an access key pair and show its secret: this once, no command shows it again.

    With the role owner it may do everything within its account over the control plane; give it developer, viewer or
    inference where less will do. A pair made with --temporary has a session token as well, which clients send, signed,
    in X-Security-Token.
    """
    if expires_s and session_s:
        raise click.UsageError("give --expires or --temporary, not both: a temporary pair has its time in --temporary")
    moment_s = now_s()
    lasts_s = session_s or expires_s
    with opened(ctx) as store:
        pairs = _pairs(ctx, store, place)
        check_endpoints(store, place, endpoints)
        expires_at = moment_s + lasts_s if lasts_s else None
        temporary = session_s is not None
        made = pairs.create(name, moment_s, endpoints, expires_at, temporary=temporary, role=role)
    if as_json:
        echo_json({**_document(made.info, moment_s), **_secrets(made)})
        return
    _print(made)


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_pairs(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List access key pairs; nothing of their secrets is shown."""
    moment_s = now_s()
    with opened(ctx) as store:
        pairs = _pairs(ctx, store, place).list()
    if as_json:
        echo_json([_document(pair, moment_s) for pair in pairs])
        return
    if not pairs:
        click.echo("there is no access key pair; `arkway aksk create` makes one")
        return
    print_table(
        ("access key id", "name", "kind", "role", "status", "for", "created (UTC)", "expires", "last used"),
        [_row(pair, moment_s) for pair in pairs],
    )


@command.command("revoke")
@click.argument("access_key_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def revoke_pair(ctx: click.Context, place: Place, access_key_id: str, as_json: bool) -> None:
    """Make a pair useless, for good; running servers refuse it within two seconds."""
    with opened(ctx) as store:
        _pairs(ctx, store, place).revoke(access_key_id, now_s())
    if as_json:
        echo_json({"id": access_key_id, "status": "revoked"})
        return
    click.echo(f"revoked {access_key_id}")


def _pairs(ctx: click.Context, store: Store, place: Place) -> AccessKeys:
    from arkway.admin.access_keys import AccessKeys
    from arkway.stores.access_keys import AccessKeyTable

    check_place(store, place)
    return AccessKeys(AccessKeyTable(store, key_ring(ctx)), *place, actor())


def _document(pair: AccessKeyInfo, moment_s: int) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(pair), "temporary": pair.temporary, "status": pair.status(moment_s)}


def _secrets(made: NewAccessKey) -> dict[str, object]:
    return {"secret": made.secret, "session_token": made.session_token or None}


def _print(made: NewAccessKey) -> None:
    facts = [("access key id", made.info.id), ("secret access key", made.secret)]
    if made.session_token:
        facts.append(("session token", made.session_token))
    facts.append(("for", ", ".join(made.info.endpoints) or "every endpoint"))
    facts.append(("role", made.info.role))
    facts.append(("expires", f"{moment(made.info.expires_at)} UTC" if made.info.expires_at else "never"))
    for label, value in facts:
        click.echo(f"{label:<19}{value}")
    click.echo(
        "This is the only time the secret is shown. "
        "Most SDKs read the pair from VOLC_ACCESSKEY and VOLC_SECRETKEY, or take it by set_ak and set_sk.",
        err=True,
    )


def _row(pair: AccessKeyInfo, moment_s: int) -> tuple[str, ...]:
    return (
        pair.id,
        pair.name,
        "temporary" if pair.temporary else "permanent",
        pair.role,
        pair.status(moment_s),
        ", ".join(pair.endpoints) or "every endpoint",
        moment(pair.created_at),
        moment(pair.expires_at) or "never",
        moment(pair.last_used_at) or "never",
    )
