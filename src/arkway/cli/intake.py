"""Documents taken in from the command line, which does the work itself, beside a running server or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from arkway.cli.database import echo_json, moment, opened, print_table
from arkway.cli.tenant import Place, actor, check_place

if TYPE_CHECKING:
    from arkway.app.knowledge import Opened
    from arkway.config import Settings
    from arkway.core.knowledge import Job
    from arkway.knowledge.holdings import Holdings

LOOK_S = 0.2


class Desk(msgspec.Struct, frozen=True):
    """One project's holdings, and what its commands need beside it."""

    holdings: Holdings
    store: Opened
    settings: Settings


@contextmanager
def desk(ctx: click.Context, place: Place) -> Iterator[Desk]:
    """The knowledge of the data directory in force; errors of the tree become sentences."""
    from arkway.app.knowledge import Opened, alone
    from arkway.cli.context import settings
    from arkway.knowledge.holdings import Holdings

    with opened(ctx) as database:
        check_place(database, place)
        config = settings(ctx)
        store = Opened(config)
        try:
            yield Desk(Holdings(alone(store, database), *place, actor()), store, config)
        finally:
            store.close()


def work_off(at: Desk, jobs: Sequence[Job], what: str) -> list[Job]:
    """Does the jobs, or sees a server do them, with a progress bar; as they ended. Interrupted, the rest waits."""
    from arkway.app.knowledge import work_of
    from arkway.cli.progress import Bar

    with Bar(what, len(jobs)) as bar:
        try:
            return asyncio.run(_worked_off(at, work_of(at.settings), jobs, bar))
        except KeyboardInterrupt:
            raise click.ClickException(
                "stopped; what was not taken in yet waits, and a running server or the same command takes it in"
            ) from None


async def _worked_off(at: Desk, work: Any, jobs: Sequence[Job], bar: Callable[[int], None]) -> list[Job]:
    from arkway.knowledge.ingestion import Ingestion

    ingestion, store = Ingestion(at.store, None, work), at.store()
    pending = {job.id: job for job in jobs}
    ended: dict[str, Job] = {}
    while pending:
        done = await ingestion.step()
        looked_at = list(pending) if done is None else [done.id] if done.id in pending else []
        for job_id in looked_at:
            now = await asyncio.to_thread(store.job, job_id)
            if now is None or now.state in ("done", "failed"):
                # A job that is gone went with its collection.
                lost = msgspec.structs.replace(pending.pop(job_id), state="failed", error="the collection is gone")
                ended[job_id] = now or lost
                bar(1)
        if done is None and pending:
            await asyncio.sleep(LOOK_S)
    return [ended[job.id] for job in jobs]


def report(ctx: click.Context, jobs: Sequence[Job], *, as_json: bool, vectors: bool = False, **more: Any) -> None:
    """What became of the jobs; exits with 1 if any has failed. ``vectors``: a server will make some."""
    failed = [job for job in jobs if job.state == "failed"]
    if as_json:
        echo_json({**more, "jobs": jobs} if more else jobs)
    else:
        print_jobs(jobs)
        if vectors:
            click.echo("a running server makes the vectors; until then, words alone find what is new")
    if failed:
        ctx.exit(1)


def print_jobs(jobs: Sequence[Job]) -> None:
    """Failures with their reasons below."""
    if not jobs:
        return
    rows = [(job.id, job.source or "(vectors)", job.state, _change(job), moment(job.updated_at)) for job in jobs]
    print_table(("job", "source", "state", "chunks: new, kept, gone", "at (UTC)"), rows)
    for job in jobs:
        if job.error:
            click.echo(f"{job.source or job.id}: {job.error}", err=True)


def _change(job: Job) -> str:
    change = job.change
    return "" if change is None else f"{change.added}, {change.kept}, {change.removed}"
