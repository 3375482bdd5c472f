"""``arkway apply``: make the platform what a file says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, echo_json, now_s
from arkway.cli.platform import in_one

if TYPE_CHECKING:
    from arkway.admin.apply import Change, Made, Plan, Platform, Prepared

CHANGES_PENDING = 2
SIGNS = {"create": "+", "update": "~"}


@click.command("apply")
@click.option(
    "-f", "--file", "file", required=True, type=click.Path(path_type=Path, allow_dash=True), help="TOML file."
)
@click.option("--plan", "plan_only", is_flag=True, help="Only show what would change; exit code 2 when anything would.")
@click.option("--prune", is_flag=True, help="Also stop, revoke or remove what the file does not name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--secrets-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the secrets of new keys to this new file (mode 0600) instead of showing them.",
)
@as_json_option
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    plan_only: bool,
    prune: bool,
    yes: bool,
    secrets_out: Path | None,
    as_json: bool,
) -> None:
    """Make accounts, projects, upstreams, groups, endpoints, keys, aliases, limits and prices what a file says.

    The plan is shown first: `+` is made, `~` is changed, `-` is stopped, revoked or removed. Then everything happens in
    one transaction, or nothing. What the file does not name is reported, and stays unless you say --prune. Applied
    twice, the second time changes nothing. `-f -` reads standard input.

    A key is in the file by its name: one that is not there yet is made, and its secret is shown this once. The secret
    of an upstream is taken from the variable of the environment that the file names (`key_env`).

    \b
    arkway export -o platform.toml
    arkway apply -f platform.toml --plan     exit code 0: nothing to do, 2: changes, 1: an error
    arkway apply -f platform.toml --yes --secrets-out new-keys.json
    """
    platform = _read(file)
    shown = _prepared(ctx, platform, prune)
    plan = shown.plan
    if plan_only or not plan.changes:
        _show(plan, as_json=as_json, done=False)
        raise SystemExit(CHANGES_PENDING if plan.changes else 0)
    if not as_json:
        _show(plan, as_json=False, done=False)
    _ask(plan, yes, as_json or str(file) == "-")
    made = _applied(ctx, platform, shown, prune, secrets_out)
    _report(plan, made, secrets_out, as_json)


def _read(file: Path) -> Platform:
    from arkway.admin.apply import read
    from arkway.core.errors import Misconfigured

    dash = str(file) == "-"
    try:
        text = sys.stdin.read() if dash else file.read_text(encoding="utf-8")
        return read(text, "standard input" if dash else str(file))
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None
    except Misconfigured as error:
        raise click.ClickException(error.message) from None


def _prepared(ctx: click.Context, platform: Platform, prune: bool) -> Prepared:
    from arkway.admin.apply import prepare

    return in_one(ctx, lambda commands: prepare(platform, commands, now_s(), prune=prune), read=True)


def _applied(
    ctx: click.Context, platform: Platform, shown: Prepared, prune: bool, secrets_out: Path | None
) -> tuple[Made, ...]:
    """What was planned, and that alone: the plan is made once more where it is carried out."""
    from arkway.admin.apply import Commands, check_unchanged, perform, prepare

    def work(commands: Commands) -> tuple[Made, ...]:
        moment_s = now_s()
        now = prepare(platform, commands, moment_s, prune=prune)
        check_unchanged(shown, now)
        return perform(now, commands, moment_s)

    if secrets_out is None:
        return in_one(ctx, work)
    _begin(secrets_out)
    try:
        made = in_one(ctx, work)
    except BaseException:
        secrets_out.unlink(missing_ok=True)
        raise
    _write(ctx, secrets_out, made)
    return made


def _begin(path: Path) -> None:
    """The file is there, and its owner's alone, before any key is made."""
    from arkway.files import create_private

    if path.exists():
        raise click.ClickException(f"{path} is there already; --secrets-out writes a new file")
    try:
        create_private(path, b"")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


def _write(ctx: click.Context, path: Path, made: tuple[Made, ...]) -> None:
    """Keys whose secrets cannot be handed over are revoked."""
    import msgspec

    from arkway.admin.apply import Commands
    from arkway.files import replace

    def revoke(commands: Commands) -> None:
        for key in made:
            keys = commands.keys if key.kind == "key" else commands.access_keys
            keys(key.account, key.project).revoke(key.id, now_s())

    try:
        replace(path, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    except OSError as error:
        in_one(ctx, revoke)
        raise click.ClickException(
            f"the new keys' secrets cannot be written to {path}: {error.strerror}; the new keys are revoked again, "
            "everything else is done"
        ) from None


def _ask(plan: Plan, yes: bool, cannot: bool) -> None:
    if yes:
        return
    if cannot or not sys.stdin.isatty():
        raise click.ClickException(f"nothing was done; to make these {len(plan.changes)} changes, say --yes")
    click.confirm("Make these changes?", abort=True)


def _show(plan: Plan, *, as_json: bool, done: bool, made: tuple[Made, ...] = ()) -> None:
    if as_json:
        echo_json(_document(plan, done=done, made=made))
        return
    for change in plan.changes:
        _show_change(change)
    for left in plan.drift:
        what = f"--prune would {left.prune} it" if left.prune else "it stays"
        click.echo(f"  {left.ref}: the file does not name it; {what}")
    for name, ids in plan.ambiguous.items():
        click.echo(f"  {name}: left alone, since there is more than one ({', '.join(ids)})")
    for ref in plan.expired:
        click.echo(f"  {ref}: has expired; it is not made again")
    click.echo(f"{len(plan.changes)} changes" if plan.changes else "nothing to do")


def _show_change(change: Change) -> None:
    click.echo(f"{SIGNS.get(change.action, '-')} {change.ref}: {change.action}, {change.reason}")
    for each in change.differences:
        before = "" if change.action == "create" else f"{_told(each.before)} -> "
        click.echo(f"    {each.field:<12} {before}{_told(each.after)}")


def _told(value: Any) -> str:
    import orjson

    return "none" if value is None else orjson.dumps(value).decode()


def _report(plan: Plan, made: tuple[Made, ...], secrets_out: Path | None, as_json: bool) -> None:
    shown = () if secrets_out else made
    if as_json:
        echo_json(_document(plan, done=True, made=shown))
        return
    click.echo(f"made {len(plan.changes)} changes")
    for key in shown:
        click.echo(f"{key.kind} {key.account}/{key.project}/{key.name}: id {key.id}  secret {key.secret}")
    if made:
        where = f"The secrets are in {secrets_out}." if secrets_out else "This is the only time the secrets are shown."
        click.echo(where, err=True)


def _document(plan: Plan, *, done: bool, made: tuple[Made, ...]) -> dict[str, Any]:
    def named(ref: Any) -> dict[str, str]:
        return {name: getattr(ref, name) for name in ref.__struct_fields__}

    changes = [
        {"action": each.action, **named(each.ref), "reason": each.reason, "differences": each.differences}
        for each in plan.changes
    ]
    return {
        "applied": done,
        "changes": changes,
        "drift": [{**named(left.ref), "prune": left.prune} for left in plan.drift],
        "ambiguous": plan.ambiguous,
        "expired": [named(ref) for ref in plan.expired],
        "secrets": made,
    }
