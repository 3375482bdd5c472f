"""``arkway admin``: the Admin API that a running server has."""

from __future__ import annotations

import click

from arkway.cli.database import as_json_option


@click.group("admin")
def command() -> None:
    """Describe the Admin API: JSON over HTTP under /admin/v1 of a running server.

    It takes API keys with a role above inference (`arkway keys create --role operator`) and signed requests.
    """


@command.command("openapi")
@as_json_option
def print_openapi(as_json: bool) -> None:
    """Print the OpenAPI 3.1 document, as GET /admin/v1/openapi.json answers it; --json in one line."""
    import msgspec

    from arkway.http.admin.openapi import document

    click.echo(document() if as_json else msgspec.json.format(document(), indent=2))
