"""What commands share: the settings in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from arkway.config import Settings, load
from arkway.core.errors import Misconfigured


def settings(ctx: click.Context, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings for this invocation; ``overrides`` are the command's own flags, as a tree."""
    try:
        return reading(ctx, overrides)()
    except Misconfigured as error:
        raise click.ClickException(error.message) from None


def reading(ctx: click.Context, overrides: Mapping[str, Any] | None = None) -> Callable[[], Settings]:
    """Reads the same settings whenever it is called: file and environment may have changed. Raises Misconfigured."""
    root = ctx.find_root().obj or {}
    tree: dict[str, Any] = dict(overrides or {})
    if root.get("home"):
        tree["home"] = str(root["home"])
    return partial(load, root.get("config"), overrides=tree)
