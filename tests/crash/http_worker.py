"""A whole server over HTTP, with the real journal and database and an engine that says what it has made.

Usage: python http_worker.py HOME. The database is ``ARKWAY__DATABASE__URL``, else SQLite. On standard output: the
address, then a line ``made <request> <prompt> <completion>`` before each token is handed on (as in ``worker.py``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import uvicorn

from arkway.app import asgi_app, server_config
from arkway.config import load
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta, Event, Finished, Progress, UsageReport
from arkway.core.model import Deployment
from arkway.stores.drain import Drain
from arkway.stores.home import database_path, journal_path
from arkway.stores.journal import Journal
from arkway.stores.store import open_store
from arkway.stores.usage import UsageTable
from arkway.testing import scripted_parts


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Talker:
    """A backend that makes a random number of tokens at a random pace."""

    async def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        prompt, length = 1 + secrets.randbelow(100), 1 + secrets.randbelow(150)
        say("made", call.request_id, prompt, 0)
        yield Progress(prompt, prompt)
        for token in range(1, length + 1):
            await asyncio.sleep(0.0005 * secrets.randbelow(3))
            say("made", call.request_id, prompt, token)
            yield Delta("x", completion_tokens=token, prompt_tokens=prompt)
        yield Finished("stop")
        yield UsageReport(Usage(prompt, length))


def main() -> None:
    home = Path(sys.argv[1])
    store = open_store(database_path(home), os.environ.get("ARKWAY__DATABASE__URL", ""))
    journal = Journal(journal_path(home))
    drain = Drain(journal, UsageTable(store), store)
    config = load(environ={}, overrides={"home": str(home), "server": {"port": 0}})

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup()
            say(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}")

    Announcing(server_config(config, asgi_app(config, scripted_parts(Talker(), journal)))).run()
    journal.close(drain.close())


if __name__ == "__main__":
    main()
