"""``arkway endpoints``: what callers name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, opened, print_table

if TYPE_CHECKING:
    from arkway.admin.endpoints import Endpoints
    from arkway.core.model import Endpoint
    from arkway.stores.sqlite import SqliteStore


@click.group("endpoints")
def command() -> None:
    """See, stop and start endpoints."""


@command.command("list")
@as_json_option
@click.pass_context
def list_endpoints(ctx: click.Context, as_json: bool) -> None:
    """List endpoints: their ids are what callers send as `model`."""
    with opened(ctx) as store:
        endpoints = _endpoints(store).list()
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
@click.pass_context
def show_endpoint(ctx: click.Context, endpoint_id: str, as_json: bool) -> None:
    """Show one endpoint."""
    with opened(ctx) as store:
        endpoint = _endpoints(store).show(endpoint_id)
    _print(endpoint, as_json)


@command.command("stop")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@click.pass_context
def stop_endpoint(ctx: click.Context, endpoint_id: str, as_json: bool) -> None:
    """Refuse calls to an endpoint; running servers follow within two seconds."""
    with opened(ctx) as store:
        endpoints = _endpoints(store)
        endpoints.stop(endpoint_id)
        endpoint = endpoints.show(endpoint_id)
    _print(endpoint, as_json)


@command.command("start")
@click.argument("endpoint_id", metavar="ID")
@as_json_option
@click.pass_context
def start_endpoint(ctx: click.Context, endpoint_id: str, as_json: bool) -> None:
    """Take calls to an endpoint again."""
    with opened(ctx) as store:
        endpoints = _endpoints(store)
        endpoints.start(endpoint_id)
        endpoint = endpoints.show(endpoint_id)
    _print(endpoint, as_json)


def _endpoints(store: SqliteStore) -> Endpoints:
    from arkway.admin.endpoints import Endpoints
    from arkway.stores.tables import EndpointTable

    return Endpoints(EndpointTable(store))


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
        ("created", f"{moment(endpoint.created_at)} UTC"),
    )
    for label, value in facts:
        click.echo(f"{label:<9}{value}")
