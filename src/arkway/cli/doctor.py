"""``arkway doctor``: what is missing on this machine, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from arkway.admin.doctor import Check

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command("doctor")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address the server would listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="The port likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, host: str, port: int, as_json: bool) -> None:
    """Check this machine and say how to mend what is missing.

    Exits with 1 when something keeps Arkway from running; warnings alone exit with 0.
    """
    from arkway.admin.doctor import examine, healthy
    from arkway.cli.context import settings
    from arkway.models.store import ModelStore

    config = settings(ctx)
    home = config.home
    models = [f"{model.name}:{model.version}" for model in ModelStore(home / "models").installed()]
    checks = (*examine(home, models=models, host=host, port=port), *_of_database(config.database.url))
    if as_json:
        _print_json(checks)
    else:
        _print_lines(checks)
    if not healthy(checks):
        ctx.exit(1)


def _of_database(url: str) -> tuple[Check, ...]:
    """Whether the PostgreSQL server answers, where there is one; nothing is made or changed there."""
    from arkway.admin.doctor import Check
    from arkway.core.errors import ArkwayError

    if not url:
        return ()
    try:
        from arkway.stores.postgres_link import Link

        link = Link(url, busy_s=1)
        link.connect().close()
    except ArkwayError as error:
        return (Check("database", "fail", error.message, "start the server, or mend the setting `database.url`"),)
    return (Check("database", "ok", f"{link.name} answers"),)


def _print_json(checks: tuple[Check, ...]) -> None:
    import msgspec

    from arkway.admin.doctor import healthy

    click.echo(msgspec.json.encode({"healthy": healthy(checks), "checks": checks}))


def _print_lines(checks: tuple[Check, ...]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = MARKS[check.status]
        click.echo(f"{click.style(f'{mark:<4}', fg=colour)}  {check.name:<{width}}  {check.found}")
        if check.mend:
            click.echo(f"      {'':<{width}}  -> {check.mend}")
