"""``arkway models``: what is installed, what each model can do, and which version a name means."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from arkway.core.model import ModelCard, ParameterRange
    from arkway.models.catalogue import CatalogueEntry
    from arkway.models.store import InstalledModel, ModelStore

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group("models")
def command() -> None:
    """See, choose and remove the models of this installation."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what the catalogue offers and is not installed.")
@as_json_option
@click.pass_context
def list_models(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """List installed models."""
    store = _store(ctx)
    installed = store.installed()
    names = {(model.name, model.version) for model in installed}
    offered = [entry for entry in store.catalogue if everything and (entry.name, entry.version) not in names]
    if as_json:
        click.echo(document([*installed, *offered]))
        return
    if not installed and not offered:
        click.echo(
            "no model is installed; `arkway pull` fetches the default one, `arkway models list --all` shows more"
        )
        return
    _print_table([_row(model) for model in installed] + [_row(entry) for entry in offered])


@command.command("show")
@click.argument("name")
@as_json_option
@click.pass_context
def show_model(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one model: abilities, parameters and their ranges, context, licence, sources, hash.

    NAME is a model's name or name:version, installed or in the catalogue.
    """
    store = _store(ctx)
    model = _wanted(store, name)
    if as_json:
        click.echo(document(model))
        return
    for label, value in _facts(store, model):
        click.echo(f"{label:<16} {value}")
    _print_parameters(model.card)


@command.command("default")
@click.argument("name")
@click.argument("version")
@as_json_option
@click.pass_context
def default_model(ctx: click.Context, name: str, version: str, as_json: bool) -> None:
    """Make VERSION what the bare NAME means; endpoints that name no version follow."""
    with _told():
        model = _store(ctx).set_default(name, version)
    click.echo(document(model) if as_json else f"{name} now means {name}:{version}")


@command.command("remove")
@click.argument("name")
@as_json_option
@click.pass_context
def remove_model(ctx: click.Context, name: str, as_json: bool) -> None:
    """Delete a model's weights. NAME without a version removes every version."""
    bare, _, version = name.partition(":")
    with _told():
        removed = _store(ctx).remove(bare, version)
    if as_json:
        click.echo(document([*removed]))
        return
    for model in removed:
        click.echo(f"removed {model.name}:{model.version}")


@command.command("verify")
@click.argument("name", default="")
@as_json_option
@click.pass_context
def verify_models(ctx: click.Context, name: str, as_json: bool) -> None:
    """Hash the weights again and compare. Exits with 1 when any are damaged or missing."""
    import msgspec

    with _told():
        verdicts = _store(ctx).verify(name)
    if as_json:
        click.echo(msgspec.json.encode(verdicts))
    broken = [verdict for verdict in verdicts if verdict.status in ("damaged", "missing")]
    for verdict in () if as_json else verdicts:
        click.echo(f"{verdict.status:<9} {verdict.name}:{verdict.version}")
    for verdict in broken:
        wanted = f"{verdict.name}:{verdict.version}"
        click.echo(f"mend {wanted} with: arkway models remove {wanted}; then pull it again", err=True)
    if broken:
        ctx.exit(1)


def document(models: Any) -> bytes:
    """Installed models or catalogue entries as JSON."""
    import msgspec

    if isinstance(models, list):
        return msgspec.json.encode([_plain(model) for model in models])
    return msgspec.json.encode(_plain(models))


def _plain(model: InstalledModel | CatalogueEntry) -> dict[str, Any]:
    import msgspec

    from arkway.models.store import InstalledModel

    installed = isinstance(model, InstalledModel)
    facts: dict[str, Any] = msgspec.to_builtins(model, enc_hook=str)
    return {"name": model.name, "version": model.version, "installed": installed, **facts}


def _store(ctx: click.Context) -> ModelStore:
    from arkway.cli.context import settings
    from arkway.models.store import ModelStore

    return ModelStore(settings(ctx).home / "models")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns an error of the tree into one that click prints."""
    from arkway.core.errors import ArkwayError

    try:
        yield
    except ArkwayError as error:
        raise click.ClickException(error.message) from error


def _wanted(store: ModelStore, wanted: str) -> InstalledModel | CatalogueEntry:
    from arkway.models.catalogue import catalogued

    name, _, version = wanted.partition(":")
    if model := store.find(name, version):
        return model
    with _told():
        return catalogued(wanted, store.catalogue)


def _row(model: InstalledModel | CatalogueEntry) -> tuple[str, ...]:
    from arkway.models.store import InstalledModel

    state = ("default" if model.is_default else "installed") if isinstance(model, InstalledModel) else "not installed"
    card = model.card
    size = f"{model.size_bytes / 1e6:.0f} MB" if model.size_bytes else ""
    return (card.name, card.version, state, size, str(card.context_tokens), ", ".join(card.capabilities))


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "version", "state", "size", "context"):
        table.add_column(title, no_wrap=True)
    table.add_column("abilities", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _facts(store: ModelStore, model: InstalledModel | CatalogueEntry) -> list[tuple[str, str]]:
    from arkway.models.store import InstalledModel

    card = model.card
    facts = [
        ("name", f"{card.name}:{card.version}"),
        ("title", card.title),
        ("served as", card.served_name),
        ("licence", card.licence),
        ("abilities", ", ".join(card.capabilities)),
        ("context", f"{card.context_tokens} tokens"),
        ("answer", f"up to {card.max_output_tokens} tokens, {card.default_output_tokens} when not asked for more"),
        ("vector", f"{card.dimensions} numbers"),
        ("languages", ", ".join(card.languages) or "not stated"),
        ("remarks", card.remarks),
        ("size", f"{model.size_bytes / 1e6:.0f} MB"),
        ("sha256", model.sha256),
    ]
    skipped = {"vector"} if not card.dimensions else {"answer"}
    skipped |= {label for label, value in facts if not value}
    kept = [fact for fact in facts if fact[0] not in skipped]
    if isinstance(model, InstalledModel):
        default = store.find(card.name)
        kept += [("path", str(model.path)), ("came from", model.source)]
        kept += [("default version", default.version if default else "none")]
    else:
        kept += [("state", f"not installed; fetch it with: arkway pull {card.name}")]
    return kept + [("source", ref) for ref in _refs(store, model)]


def _refs(store: ModelStore, model: InstalledModel | CatalogueEntry) -> tuple[str, ...]:
    for entry in store.catalogue:
        if (entry.name, entry.version, entry.sha256) == (model.name, model.version, model.sha256):
            return entry.sources
    return ()


def _print_parameters(card: ModelCard) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="parameters", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for title in ("name", "range", "default", "note"):
        table.add_column(title, overflow="fold")
    for entry in card.parameters:
        table.add_row(entry.name, _range(entry), "" if entry.default is None else str(entry.default), entry.note)
    Console().print(table)


def _range(entry: ParameterRange) -> str:
    if entry.low is None or entry.high is None:
        return "true or false" if isinstance(entry.default, bool) else ""
    if entry.name == "seed":
        return "64-bit integer"
    return f"{entry.low:g} to {entry.high:g}" if entry.low != entry.high else f"{entry.low:g}"
