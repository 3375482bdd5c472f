"""``arkway export``: the platform as a file."""

from __future__ import annotations

from pathlib import Path

import click

from arkway.cli.database import as_json_option, echo_json, now_s
from arkway.cli.platform import in_one


@click.command("export")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here; default: show it.")
@as_json_option
@click.pass_context
def command(ctx: click.Context, out: Path | None, as_json: bool) -> None:
    """Write accounts, projects, upstreams, groups, endpoints, bots, keys, aliases, limits and prices as a file.

    It is one for `arkway apply`: applied to this host, it changes nothing. Keys are in it by name, never with a
    secret, and neither is that of an upstream; revoked and expired keys, deleted endpoints and bots, and temporary
    access keys are not in it at all. Things that share a name are left out and reported.
    """
    from arkway.admin.apply import exported, look

    state = in_one(ctx, lambda commands: look(commands, now_s()), read=True)
    text = exported(state)
    if out is not None:
        _write(out, text)
    for ref, ids in sorted(state.ambiguous.items()):
        click.echo(f"left out, since there is more than one: {ref} ({', '.join(ids)})", err=True)
    if as_json:
        ambiguous = {str(ref): ids for ref, ids in state.ambiguous.items()}
        echo_json({"file": str(out) if out else None, "platform": None if out else text, "ambiguous": ambiguous})
    elif out is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {len(state.entries)} things to {out}")


def _write(path: Path, text: str) -> None:
    from arkway.files import replace

    try:
        replace(path, text.encode(), 0o644)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
