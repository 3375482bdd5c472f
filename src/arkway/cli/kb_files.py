"""Files and folders that ``arkway kb`` takes in: what they are called, and what a sync says that it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.intake import Desk, work_off

if TYPE_CHECKING:
    from arkway.core.knowledge import Document, Job
    from arkway.knowledge.folder import Plan


PORTION_BYTES = 512 * 1024 * 1024


def checked(path: Path) -> Any:
    """Reads the file when it is called; that it can be is found out now."""
    from arkway.knowledge.folder import why_not

    if path.is_dir():
        raise click.ClickException(f"{path} is a folder; `arkway kb sync` takes whole folders in")
    if not path.is_file():
        raise click.ClickException(f"there is no file {path}")
    if reason := why_not(path):
        raise click.ClickException(f"{path}: {reason}")

    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None

    return read


def taken_in(at: Desk, jobs: Iterable[Job], *, wait: bool = True) -> list[Job]:
    """Hands files over as ``jobs`` is iterated over, and sees them taken in; without ``wait`` a server does that.

    Whole folders of large files are never in the database all at once.
    """
    ended: list[Job] = []
    portion: list[Job] = []
    for job in jobs:
        portion.append(job)
        if wait and sum(each.size_bytes for each in portion) >= PORTION_BYTES:
            ended += work_off(at, portion, "taking in")
            portion = []
    return ended + (work_off(at, portion, "taking in") if wait else portion)


def source_of(path: Path) -> str:
    """What a document is called by default: the path as given, as far as it says anything elsewhere."""
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def told_plan(plan: Plan, gone: Sequence[Document]) -> dict[str, Any]:
    """For JSON."""
    return {
        "added": [each.source for each in plan.added],
        "changed": [each.source for each in plan.changed],
        "gone": [each.source for each in gone],
        "unchanged": plan.unchanged,
        "skipped": plan.skipped,
    }


def print_plan(plan: Plan, gone: Sequence[Document], *, dry_run: bool) -> None:
    """A line for each document that is touched, and how many there are."""
    for word, sources in (
        ("new", [each.source for each in plan.added]),
        ("changed", [each.source for each in plan.changed]),
        ("gone", [each.source for each in gone]),
    ):
        for source in sources:
            click.echo(f"{word:<9}{source}")
    for skipped in plan.skipped:
        click.echo(f"left out: {skipped.path}: {skipped.reason}", err=True)
    counts = f"{len(plan.added)} new, {len(plan.changed)} changed, {len(gone)} gone, {plan.unchanged} as they were"
    click.echo(f"{counts}{'; nothing was done' if dry_run else ''}")
