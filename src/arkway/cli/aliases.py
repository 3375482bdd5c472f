"""``arkway aliases``: other names for models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import actor

if TYPE_CHECKING:
    from arkway.admin.aliases import Aliases
    from arkway.stores.store import Store


@click.group("aliases")
def command() -> None:
    """See and choose which names stand for which models.

    Programs that name a model which the vendor has retired (skylark-chat, moonshot-v1-8k, …) are served by the model
    that its name is an alias of. Names are found in upper and lower case.
    """


@command.command("list")
@as_json_option
@click.pass_context
def list_aliases(ctx: click.Context, as_json: bool) -> None:
    """List aliases, and the models they stand for."""
    with opened(ctx) as store:
        aliases = _aliases(store).list()
    if as_json:
        echo_json(aliases)
        return
    if not aliases:
        click.echo("there is no alias; the server makes those of retired models when a chat model is installed")
        return
    rows = [(a.name, a.model_name, a.model_version or "(its default)", moment(a.created_at)) for a in aliases]
    print_table(("alias", "model", "version", "since (UTC)"), rows)


@command.command("set")
@click.argument("name")
@click.argument("model", metavar="MODEL[@VERSION]")
@as_json_option
@click.pass_context
def set_alias(ctx: click.Context, name: str, model: str, as_json: bool) -> None:
    """Let NAME stand for an installed model; running servers follow within two seconds.

    Without a VERSION the alias follows the model's default version, wherever that moves.
    """
    model_name, _, version = model.replace(":", "@", 1).partition("@")
    check_installed(ctx, model_name, version)
    with opened(ctx) as store:
        alias = _aliases(store).set(name, model_name, now_s(), version)
    if as_json:
        echo_json(alias)
        return
    click.echo(f"{alias.name} stands for {alias.model_name}, version {version or 'its default one'}")


@command.command("remove")
@click.argument("name")
@as_json_option
@click.pass_context
def remove_alias(ctx: click.Context, name: str, as_json: bool) -> None:
    """Make NAME unknown again, for good: a default alias does not come back."""
    with opened(ctx) as store:
        _aliases(store).remove(name, now_s())
    if as_json:
        echo_json({"name": name.casefold(), "status": "removed"})
        return
    click.echo(f"removed {name}")


def _aliases(store: Store) -> Aliases:
    from arkway.admin.aliases import Aliases
    from arkway.stores.tables import AliasTable

    return Aliases(AliasTable(store), actor())


def check_installed(ctx: click.Context, model_name: str, version: str) -> None:
    """Raises ClickException unless this version of the model is installed, or upstreams answer for it ("" = any)."""
    from arkway.cli.context import settings
    from arkway.models.store import ModelStore

    if ModelStore(settings(ctx).home / "models").find(model_name, version) is None and not _grouped(
        ctx, model_name, version
    ):
        name = f"{model_name}:{version}" if version else model_name
        raise click.ClickException(
            f"the model `{name}` is not installed; `arkway models list` shows what is, `arkway pull {name}` installs "
            "it, and `arkway groups set` lets other servers answer for it"
        )


def _grouped(ctx: click.Context, model_name: str, version: str) -> bool:
    from arkway.cli.groups import groups_over

    with opened(ctx) as store:
        versions = groups_over(store).versions(model_name)
    return any(version in ("", info.card.version) for info in versions)
