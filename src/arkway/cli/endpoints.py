"""``arkway endpoints``: what callers name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import Place, actor, check_place, place_options

if TYPE_CHECKING:
    from arkway.admin.endpoints import Endpoints
    from arkway.core.model import Endpoint, Tag
    from arkway.stores.store import Store


moderation_option = click.option(
    "--moderation", metavar="NAME", help="A strategy of the configuration (docs/moderation.md); empty = its default."
)
tag_option = click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="A label; may be repeated.")


@click.group("endpoints")
def command() -> None:
    """Make, change, stop and delete endpoints."""


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_endpoints(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List endpoints: their ids are what callers send as `model`."""
    with opened(ctx) as store:
        endpoints = _endpoints(store, place).list()
    if as_json:
        echo_json(endpoints)
        return
    if not endpoints:
        click.echo("there is no endpoint; the server makes one for each installed model when it starts")
        return
    rows = [(e.id, e.name, _deployed(e), e.status, moment(e.created_at)) for e in endpoints]
    print_table(("id", "name", "model", "status", "created (UTC)"), rows)


@command.command("show")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def show_endpoint(ctx: click.Context, place: Place, endpoint_id: str, as_json: bool) -> None:
    """Show one endpoint."""
    with opened(ctx) as store:
        endpoint = _endpoints(store, place).show(endpoint_id)
    _print(endpoint, as_json)


@command.command("create")
@click.argument("name")
@click.option("--model", required=True, metavar="MODEL[:VERSION]", help="Without a version: its default one.")
@click.option("--description", default="", help="For people to read.")
@moderation_option
@tag_option
@as_json_option
@place_options
@click.pass_context
def create_endpoint(
    ctx: click.Context,
    place: Place,
    name: str,
    model: str,
    description: str,
    moderation: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make an endpoint called NAME; running servers take calls to it within two seconds.

    \b
    arkway endpoints create orders --model qwen3-0.6b
    arkway endpoints create orders --model qwen3-0.6b:q8 --tag team=shop --description "The shop's assistant"
    """
    from arkway.cli.aliases import check_installed

    model_name, version = _model(model)
    check_installed(ctx, model_name, version)
    with opened(ctx) as store:
        endpoints = _endpoints(store, place)
        more = {"description": description, "moderation": moderation or "", "tags": _tags(tags)}
        endpoint = endpoints.create(name, model_name, now_s(), version, **more)
    _print(endpoint, as_json)


@command.command("update")
@click.argument("endpoint_id", metavar="ID")
@click.option("--name", help="A new name.")
@click.option("--model", metavar="MODEL[:VERSION]", help="Another model, or another version of it.")
@click.option("--description", help="For people to read.")
@moderation_option
@tag_option
@as_json_option
@place_options
@click.pass_context
def update_endpoint(
    ctx: click.Context,
    place: Place,
    endpoint_id: str,
    name: str | None,
    model: str | None,
    description: str | None,
    moderation: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change an endpoint: what is not named stays; tags take the place of those it had.

    Another model or version serves every call that comes in from then on, under the same id; calls being served are
    finished by the one that began them.
    """
    from arkway.cli.aliases import check_installed
    from arkway.core.model import EndpointChange

    model_name, version = _model(model) if model else (None, None)
    if model_name is not None:
        check_installed(ctx, model_name, version or "")
    change = EndpointChange(
        name=name,
        description=description,
        model_name=model_name,
        model_version=version,
        moderation=moderation,
        tags=_tags(tags) if tags else None,
    )
    if change == EndpointChange():
        raise click.UsageError("name what is to change: --name, --model, --description, --moderation or --tag")
    with opened(ctx) as store:
        endpoint = _endpoints(store, place).update(endpoint_id, change, now_s())
    _print(endpoint, as_json)


@command.command("delete")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def delete_endpoint(ctx: click.Context, place: Place, endpoint_id: str, as_json: bool) -> None:
    """Delete an endpoint, for good; its usage stays on record."""
    with opened(ctx) as store:
        _endpoints(store, place).delete(endpoint_id, now_s())
    if as_json:
        echo_json({"id": endpoint_id, "status": "deleted"})
        return
    click.echo(f"deleted {endpoint_id}")


@command.command("stop")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def stop_endpoint(ctx: click.Context, place: Place, endpoint_id: str, as_json: bool) -> None:
    """Refuse calls to an endpoint; running servers follow within two seconds."""
    with opened(ctx) as store:
        endpoints = _endpoints(store, place)
        endpoints.stop(endpoint_id, now_s())
        endpoint = endpoints.show(endpoint_id)
    _print(endpoint, as_json)


@command.command("start")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def start_endpoint(ctx: click.Context, place: Place, endpoint_id: str, as_json: bool) -> None:
    """Take calls to an endpoint again."""
    with opened(ctx) as store:
        endpoints = _endpoints(store, place)
        endpoints.start(endpoint_id, now_s())
        endpoint = endpoints.show(endpoint_id)
    _print(endpoint, as_json)


def _endpoints(store: Store, place: Place) -> Endpoints:
    from arkway.admin.endpoints import Endpoints
    from arkway.stores.tables import EndpointTable

    check_place(store, place)
    return Endpoints(EndpointTable(store), *place, actor())


def _model(text: str) -> tuple[str, str]:
    name, _, version = text.replace(":", "@", 1).partition("@")
    return name, version


def _tags(texts: tuple[str, ...]) -> tuple[Tag, ...]:
    from arkway.core.model import Tag

    return tuple(Tag(key, value) for key, _, value in (text.partition("=") for text in texts))


def _deployed(endpoint: Endpoint) -> str:
    return f"{endpoint.model_name}:{endpoint.model_version or '(its default version)'}"


def _print(endpoint: Endpoint, as_json: bool) -> None:
    if as_json:
        echo_json(endpoint)
        return
    facts = (
        ("id", endpoint.id),
        ("name", endpoint.name),
        ("model", _deployed(endpoint)),
        ("status", endpoint.status),
        ("account", endpoint.account),
        ("project", endpoint.project),
        ("description", endpoint.description),
        ("moderation", endpoint.moderation),
        ("tags", ", ".join(f"{tag.key}={tag.value}" if tag.value else tag.key for tag in endpoint.tags)),
        ("created", f"{moment(endpoint.created_at)} UTC"),
    )
    for label, value in facts:
        if value:
            click.echo(f"{label:<13}{value}")
