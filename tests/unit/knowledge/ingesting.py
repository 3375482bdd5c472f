"""A worker in a process of its own, which says every step of a job before it takes it; it is there to be killed.

``python -m tests.unit.knowledge.ingesting FILE LEASE_S``: lines ``<source> <stage>`` on standard output.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from arkway.core.knowledge import Job
from arkway.knowledge.ingestion import Ingestion, Stage, Work
from arkway.knowledge.sqlite_store import open_sqlite


def tell(job: Job, stage: Stage) -> None:
    print(job.source, stage, flush=True)


async def work(path: Path, lease_s: int) -> None:
    store = open_sqlite(path)
    ingestion = Ingestion(lambda: store, None, Work(lease_s=lease_s, poll_s=0.05), told=tell)
    print("ready ready", flush=True)
    await ingestion.run()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2])))
