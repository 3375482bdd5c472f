"""A server in a process of its own, for tests that count what a process holds: ``python edge_worker.py SETTINGS``.

``SETTINGS`` is JSON: the tree of settings, and beside it ``descriptors``, the limit of open files (0 = as it is).
Prints its address; at SIGUSR1 a line of figures about itself; at SIGUSR2 it takes every descriptor that is left, and
gives them back at the next. What a caller says is a script: see `script`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from arkway.app import asgi_app, server_config
from arkway.cli.serve import _server
from arkway.config import load
from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta, Finished, Progress, UsageReport
from arkway.testing import Gate, MemoryLedger, Pause, ScriptedBackend, Step, echoes, scripted_parts

LARGE = "字" * 10_000
TOLD_TO_STOP = Gate()
WATCH_S = 0.02


def say(**figures: Any) -> None:
    os.write(1, msgspec.json.encode(figures) + b"\n")


def script(request: ChatRequest) -> Iterable[Step]:
    """``count N PAUSE``: N numbers, a pause before each; ``stopped N PAUSE``: as that, but that all beyond the first
    number wait until the server is told to stop; ``flood``: large pieces without an end; else an echo."""
    text = request.messages[-1].text()
    match text.split():
        case ["count", number, pause]:
            return counting(int(number), float(pause))
        case ["stopped", number, pause]:
            return counting(int(number), float(pause), TOLD_TO_STOP)
        case ["flood"]:
            return flooding()
    return echoes(request)


def counting(number: int, pause_s: float, gate: Gate | None = None) -> Iterable[Step]:
    yield Progress(7, 7)
    for count in range(1, number + 1):
        yield gate if gate is not None and count == 2 else Pause(pause_s)
        yield Delta(f"{count} ", completion_tokens=count, prompt_tokens=7)
    yield Finished("stop")
    yield UsageReport(Usage(7, number))


def flooding() -> Iterable[Step]:
    count = 0
    while True:
        count += 1
        yield Delta(LARGE, completion_tokens=count, prompt_tokens=7)
        yield Pause(0.001)


class Hoard:
    """Every descriptor that is left, for as long as it is wanted."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def turn(self) -> None:
        if self._held:
            for descriptor in self._held:
                os.close(descriptor)
            self._held = []
            return
        with suppress(OSError):
            while True:
                self._held.append(os.open("/dev/null", os.O_RDONLY))


def main() -> None:
    given = msgspec.json.decode(sys.argv[1])
    descriptors = given.pop("descriptors", 0)
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    config = load(environ={}, overrides={"home": "/nonexistent", **given, "server": {"port": 0, **given["server"]}})
    backend, ledger, hoard = ScriptedBackend(script), MemoryLedger(), Hoard()
    app = asgi_app(config, scripted_parts(backend, ledger))

    def announce() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, tell)
        loop.add_signal_handler(signal.SIGUSR2, hoard.turn)
        watch()
        say(port=server.servers[0].sockets[0].getsockname()[1])

    def watch() -> None:
        if server.should_exit:
            TOLD_TO_STOP.open()
        else:
            asyncio.get_running_loop().call_later(WATCH_S, watch)

    def tell() -> None:
        backend.requests.clear()
        backend.calls.clear()
        gc.collect()
        say(
            tasks=len(asyncio.all_tasks()),
            connections=len(server.server_state.connections),
            streams=backend.open_streams,
            unsettled=len(ledger.attempts) - len(ledger.settlements),
            outcomes=[each.outcome for each in ledger.settlements.values()],
        )

    server = _server(server_config(config, app), announce)
    server.run()


if __name__ == "__main__":
    main()
