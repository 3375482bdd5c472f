"""The gateway under load: ``python -m benchmarks.server HOME [CPU]``.

A whole installation in a directory of its own (database, keys, journal with ``group`` durability, drain, metrics), with
three scripted models where engines would be. Prints one JSON line: url, home, key, and an endpoint for each model.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import uvicorn

from arkway.admin.access_keys import AccessKeys
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.app import asgi_app, server_config
from arkway.app.installation import Installation
from arkway.config import Settings, load
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta, Event, Finished, Progress, UsageReport
from arkway.core.model import Deployment, ModelCard
from arkway.ports import Backend
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.home import database_path, pepper
from arkway.stores.keyring import open_ring
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable, KeyTable
from benchmarks.machine import pin

ANSWER = "十字花科植物包括白菜、萝卜、西兰花、花椰菜、甘蓝、芥菜、油菜、荠菜等,它们的花都有四片十字形的花瓣。"
FRAME_GAP_S = 0.02
PROMPT_TOKENS = 40


class Answering:
    """A backend that answers at once, with one piece of text."""

    async def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        yield Progress(PROMPT_TOKENS, PROMPT_TOKENS)
        yield Delta(ANSWER, completion_tokens=len(ANSWER), prompt_tokens=PROMPT_TOKENS)
        yield Finished("stop")
        yield UsageReport(Usage(PROMPT_TOKENS, len(ANSWER)))


class Pacing:
    """A backend that says one token every 20 ms, ``max_tokens`` in all.

    The text of a token is the nanosecond (monotonic clock, 20 digits) at which it was due, so that the reader can tell
    how long it took; a server that falls behind does not stretch the schedule.
    """

    async def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        yield Progress(PROMPT_TOKENS, PROMPT_TOKENS)
        count = request.max_tokens or deployment.card.default_output_tokens
        start_ns = time.monotonic_ns()
        for number in range(1, count + 1):
            due_ns = start_ns + round(number * FRAME_GAP_S * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            yield Delta(f"{due_ns:020d}", completion_tokens=number, prompt_tokens=PROMPT_TOKENS)
        yield Finished("length")
        yield UsageReport(Usage(PROMPT_TOKENS, count))


class Idling:
    """A backend that says one word and then nothing, for as long as anybody listens."""

    async def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        yield Delta("嗯", completion_tokens=1, prompt_tokens=PROMPT_TOKENS)
        await asyncio.Event().wait()


BACKENDS: dict[str, Backend] = {"answering": Answering(), "pacing": Pacing(), "idling": Idling()}


def card(name: str) -> ModelCard:
    return ModelCard(
        name=name,
        version="1",
        title=name,
        licence="Apache-2.0",
        capabilities=("chat",),
        context_tokens=65_536,
        max_output_tokens=32_768,
        default_output_tokens=128,
    )


CARDS = {name: (card(name), name) for name in BACKENDS}


def main() -> None:
    """Serves until it is told to stop."""
    home, *cpu = sys.argv[1:]
    if cpu and cpu[0]:
        pin(int(cpu[0]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = load(environ={}, overrides={"home": home, "server": {"drain_s": 1}, "stream": {"next_event_s": 3600}})
    said = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}", "home": home, **_prepared(config.home)}
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.flush()
    _serve(config, listener)


def _prepared(home: Path) -> dict[str, object]:
    """A first key, an access key and an endpoint for each scripted model, in the database."""
    now_s = int(time.time())
    with SqliteStore(database_path(home)) as store:
        made = Endpoints(EndpointTable(store)).ensure(list(BACKENDS), now_s)
        _, secret = Keys(KeyTable(store), pepper(home).digest).create("benchmark", now_s)
        pair = AccessKeys(AccessKeyTable(store, open_ring(home))).create("benchmark", now_s)
    return {
        "key": secret,
        "access_key_id": pair.info.id,
        "secret_access_key": pair.secret,
        "endpoints": {endpoint.model_name: endpoint.id for endpoint in made},
    }


def _serve(config: Settings, listener: socket.socket) -> None:
    installation = Installation(config)
    try:
        parts = installation.parts()
        parts.backends = BACKENDS
        parts.find_model = lambda name, version: CARDS.get(name) if version in ("", "1") else None
        uvicorn.Server(server_config(config, asgi_app(config, parts))).run(sockets=[listener])
    finally:
        installation.close()


if __name__ == "__main__":
    main()
