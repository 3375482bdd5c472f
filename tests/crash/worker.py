"""Runs calls until it is killed: the real meter, journal, drain and database, without HTTP.

Usage: python worker.py HOME STREAMS. The database is ``ARKWAY__DATABASE__URL``, else SQLite. On standard output, one
``write()`` for each line:

    begun <attempt>                                   before the reserve
    made <attempt> <prompt> <completion>              the engine has made this many tokens (totals)
    done <attempt> <outcome> <prompt> <completion>    after the settlement, where the final frame would leave
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path

from arkway.core.chat import Usage
from arkway.core.events import Delta, UsageReport
from arkway.flow.meter import Meter
from arkway.ports import Attempt
from arkway.stores.drain import Drain
from arkway.stores.home import database_path, journal_path
from arkway.stores.journal import Journal
from arkway.stores.store import open_store
from arkway.stores.usage import UsageTable

SEGMENT_BYTES = 64 << 10


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def call(journal: Journal, name: str) -> None:
    """One call of a random length; one in four loses its client before the end."""
    prompt, length = 1 + secrets.randbelow(100), 1 + secrets.randbelow(150)
    leaves_at = secrets.randbelow(length) if secrets.randbelow(4) == 0 else -1
    say("begun", name)
    attempt = Attempt(
        name, f"r-{name}", "default", "default", "key-1", "ep-1", "m", "v3", "chat", int(time.time() * 1000)
    )
    meter = Meter(journal, attempt, time.monotonic_ns)
    for token in range(1, length + 1):
        await asyncio.sleep(0.0005 * secrets.randbelow(3))
        say("made", name, prompt, token)
        meter.observe_all([Delta("x", completion_tokens=token, prompt_tokens=prompt)])
        if token == leaves_at:
            meter.settle("client_abort")
            say("done", name, "client_abort", prompt, token)
            return
    meter.observe_all([UsageReport(Usage(prompt, length))])
    meter.settle("done")
    say("done", name, "done", prompt, length)


async def stream(journal: Journal, clearance: str) -> None:
    number = 0
    while True:
        number += 1
        await call(journal, f"{clearance}-{number}")


async def main(home: Path, streams: int) -> None:
    store = open_store(database_path(home), os.environ.get("ARKWAY__DATABASE__URL", ""))
    journal = Journal(journal_path(home), segment_bytes=SEGMENT_BYTES)
    drain = Drain(journal, UsageTable(store), store)
    run = secrets.token_hex(6)
    assert drain.lag >= 0
    await asyncio.gather(*(stream(journal, f"{run}-{clearance}") for clearance in range(streams)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
