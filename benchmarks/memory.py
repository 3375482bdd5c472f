"""Resident memory of the gateway process: at start, per idle stream, per idle connection. Engines are not in it."""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil
import uvloop

from benchmarks.gateway import PATH, Durations, Side, latency, question, stream
from benchmarks.load import Held, Target
from benchmarks.machine import many_files
from benchmarks.processes import Server, scratch, scripted, serving
from benchmarks.report import Options, Report, Table

STREAMS = 2000
QUICK_STREAMS = 200
FILES_SPARED = 200
WARM_CONNECTIONS = 50
SETTLE_S = 2.0
BYSTANDER = Durations(rounds=1, warm_s=0.5, requests_s=0.0, latency_s=5.0, streams_s=0.0)
MIB = 1 << 20
KIB = 1 << 10


def measure(options: Options) -> Report:
    """A server of its own for each figure, so that none inherits another's heap."""
    count = min(QUICK_STREAMS if options.quick else STREAMS, many_files() - FILES_SPARED)
    embedded = at_start(options)
    with scripted() as server:
        time.sleep(SETTLE_S)
        bare_mib = rss(server.process) / MIB
        streams = uvloop.run(idle_streams(server, count))
    with scripted() as server:
        connections = uvloop.run(idle_connections(server, count))
    figures = {"start": embedded, "start_scripted_mib": bare_mib, "streams": streams, "connections": connections}
    return Report(figures, [_table(figures)])


def rss(process: psutil.Process) -> int:
    """Bytes of physical memory the process holds, shared libraries included."""
    return int(process.memory_info().rss)


def at_start(options: Options) -> dict[str, Any]:
    """``arkway serve`` over the installed models, none of them loaded."""
    print("memory: at start", file=sys.stderr)
    with scratch(models_of=options.home) as home, serving(home, {"ARKWAY__ENGINE__PRELOAD": "false"}) as server:
        time.sleep(SETTLE_S)
        return {
            "rss_mib": rss(server.process) / MIB,
            "models": [endpoint["model"] for endpoint in server.said["endpoints"]],
            "child_processes": len(server.process.children(recursive=True)),
        }


async def idle_streams(server: Server, count: int) -> dict[str, float]:
    """Streams that have said one word and are waiting for the next; and how a bystander fares beside them."""
    print(f"memory: {count} idle streams", file=sys.stderr)
    side, idle = _side(server), _idle_request(server)
    await _warmed(side, idle)
    before = rss(server.process)
    held = Held(side.target)
    await held.connect(count)
    await held.send(idle)
    time.sleep(SETTLE_S)
    after = rss(server.process)
    bystander = await latency(side, BYSTANDER, spin=False)
    _refuse_if_ended(held)
    held.close()
    return {
        "count": count,
        "kib_each": (after - before) / count / KIB,
        "rss_mib": after / MIB,
        "bystander_p50_ms": bystander["p50_ms"],
        "bystander_p99_ms": bystander["p99_ms"],
    }


async def idle_connections(server: Server, count: int) -> dict[str, float]:
    """Connections that have had one answer and are kept open for the next."""
    print(f"memory: {count} idle connections", file=sys.stderr)
    side = _side(server)
    await _warmed(side, _idle_request(server))
    before = rss(server.process)
    held = Held(side.target)
    await held.connect(count)
    await held.send(side.question)
    time.sleep(SETTLE_S)
    after = rss(server.process)
    held.close()
    return {"count": count, "kib_each": (after - before) / count / KIB, "rss_mib": after / MIB}


async def _warmed(side: Side, idle: bytes) -> None:
    """Imports and caches that come with the first calls are not what a stream costs."""
    for request in (side.question, idle):
        held = Held(side.target)
        await held.connect(WARM_CONNECTIONS)
        await held.send(request)
        held.close()
    time.sleep(SETTLE_S)


def _refuse_if_ended(held: Held) -> None:
    if held.ended:
        raise RuntimeError(f"{held.ended} of the idle streams have ended")


def _side(server: Server) -> Side:
    target = Target(*server.address, key=server.said["key"])
    ready = target.post(PATH, question(server.said["endpoints"]["answering"]))
    return Side("gateway", server.process, target, ready, b"")


def _idle_request(server: Server) -> bytes:
    target = Target(*server.address, key=server.said["key"])
    return target.post(PATH, stream(server.said["endpoints"]["idling"]))


def _table(figures: dict[str, Any]) -> Table:
    start, streams, connections = figures["start"], figures["streams"], figures["connections"]
    return Table(
        "Memory of the gateway process",
        ("", "KiB each", "RSS MiB"),
        [
            (f"at start, {len(start['models'])} models installed, none loaded", None, start["rss_mib"]),
            ("at start, scripted models", None, figures["start_scripted_mib"]),
            (f"{streams['count']} idle streams", streams["kib_each"], streams["rss_mib"]),
            (f"{connections['count']} idle connections", connections["kib_each"], connections["rss_mib"]),
        ],
    )
