"""What commands share: the settings in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from arkway.config import Settings, load
from arkway.core.errors import Misconfigured


def settings(ctx: click.Context, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings for this invocation; ``overrides`` are the command's own flags, as a tree."""
    root = ctx.find_root().obj or {}
    tree: dict[str, Any] = dict(overrides or {})
    if root.get("home"):
        tree["home"] = str(root["home"])
    try:
        return load(root.get("config"), overrides=tree)
    except Misconfigured as error:
        raise click.ClickException(error.message) from None
