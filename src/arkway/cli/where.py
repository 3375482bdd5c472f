"""Where the server is, for commands that call it."""

from __future__ import annotations

import click


def server_url(ctx: click.Context, given: str = "") -> str:
    """The URL that was given, else the one of the settings in force; no slash at its end."""
    from arkway.cli.context import settings

    if given:
        return given.rstrip("/")
    server = settings(ctx).server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}"
