"""What the gateway itself costs: requests, added latency and stream frames, against a responder that does nothing.

The server has one processor and the load another. Everything that a request meets in production is on, down to the
ledger on the disk; only the model is scripted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from arkway.stores.home import database_path
from benchmarks.load import ClosedLoop, OpenLoop, Streams, Target, over
from benchmarks.machine import cpu_s, pinned, split_cpus
from benchmarks.processes import Server, ask, running, scripted
from benchmarks.report import Options, Report, Table, medians, quantile

PATH = "/api/v3/chat/completions"
CONNECTIONS = 64
RATE_PER_S = 200.0
STREAMS = (50, 500)
FRAMES = 128
LEDGER_LAG_S = 1.0
FRAMES_PER_S = 50
QUESTION = [
    {"role": "system", "content": "你是豆包,是由字节跳动开发的 AI 人工智能助手"},
    {"role": "user", "content": "常见的十字花科植物有哪些?"},
]


class Side(msgspec.Struct, frozen=True):
    """One of the two that are compared, with its two requests ready to be sent."""

    name: str
    process: psutil.Process
    target: Target
    question: bytes
    stream: bytes


class Durations(msgspec.Struct, frozen=True):
    """Seconds of each phase, and how often all of them are repeated."""

    rounds: int
    warm_s: float
    requests_s: float
    latency_s: float
    streams_s: float


FULL = Durations(rounds=3, warm_s=1.0, requests_s=5.0, latency_s=10.0, streams_s=6.0)
QUICK = Durations(rounds=1, warm_s=0.3, requests_s=1.0, latency_s=2.0, streams_s=2.0)


def measure(options: Options) -> Report:
    """Gateway and bare responder in turns, medians over the rounds."""
    cpus = split_cpus()
    durations = QUICK if options.quick else FULL
    with scripted(cpus and cpus[0]) as server:
        sizes = checked(server)
        with bare(sizes, cpus and cpus[0]) as floor, pinned(cpus and cpus[1]):
            sides = (_side("gateway", server), _side("bare", floor))
            results = uvloop.run(_rounds(sides, durations, spin=cpus is not None))
        rows = ledger_rows(Path(server.said["home"]))
    return _report(results, {**sizes, "ledger_rows": rows}, pinned=cpus is not None)


def checked(server: Server) -> dict[str, int]:
    """Is what will be measured right? The sizes of an answer and of a frame in bytes. Raises RuntimeError."""
    key, endpoints = server.said["key"], server.said["endpoints"]
    status, answer = ask(server, "POST", PATH, key, question(endpoints["answering"]))
    if status != 200 or "choices" not in msgspec.json.decode(answer):
        raise RuntimeError(f"the gateway does not answer: {status} {answer!r}")
    status, body = ask(server, "POST", PATH, key, stream(endpoints["pacing"]))
    *frames, _, end, rest = body.split(b"\n\n")
    if status != 200 or len(frames) != FRAMES or not end.endswith(b"[DONE]") or rest:
        raise RuntimeError(f"the gateway does not stream: {status}, {len(frames)} frames, {end!r}")
    status, _ = ask(server, "POST", PATH, "wrong", question(endpoints["answering"]))
    if status != 401:
        raise RuntimeError(f"the gateway takes any key: {status}")
    return {"answer_bytes": len(answer), "frame_bytes": len(frames[1]) + 2}


def question(endpoint: str) -> dict[str, Any]:
    return {"model": endpoint, "messages": QUESTION, "temperature": 0.7}


def stream(endpoint: str) -> dict[str, Any]:
    return {**question(endpoint), "stream": True, "max_tokens": FRAMES}


@contextlib.contextmanager
def bare(sizes: dict[str, int], cpu: int | None) -> Generator[Server]:
    """The responder that understands nothing, answering with as many octets."""
    words = [str(sizes["answer_bytes"]), str(sizes["frame_bytes"]), "" if cpu is None else str(cpu)]
    with running([sys.executable, "-m", "benchmarks.bare", *words]) as server:
        yield server


def ledger_rows(home: Path) -> int:
    """How many calls have reached the database. Raises RuntimeError when none has: the ledger was not on."""
    time.sleep(LEDGER_LAG_S)
    with contextlib.closing(sqlite3.connect(f"file:{database_path(home)}?mode=ro", uri=True)) as database:
        rows = int(database.execute("SELECT count(*) FROM usage").fetchone()[0])
    if not rows:
        raise RuntimeError("no call has reached the ledger")
    return rows


def _side(name: str, server: Server) -> Side:
    endpoints = server.said.get("endpoints", {})
    target = Target(*server.address, key=server.said.get("key", "none"))
    return Side(
        name=name,
        process=server.process,
        target=target,
        question=target.post(PATH, question(endpoints.get("answering", name))),
        stream=target.post(PATH, stream(endpoints.get("pacing", name))),
    )


async def _rounds(sides: tuple[Side, ...], durations: Durations, *, spin: bool) -> dict[str, dict[str, float]]:
    """Every figure of each side. The order of the sides turns with every round."""
    collected: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for turn in range(durations.rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            print(f"gateway: round {turn + 1} of {durations.rounds}, {side.name}", file=sys.stderr)
            collected[side.name].append(await _round(side, durations, spin=spin))
    return {name: medians(rounds) for name, rounds in collected.items()}


async def _round(side: Side, durations: Durations, *, spin: bool) -> dict[str, float]:
    figures = {**await requests(side, durations), **await latency(side, durations, spin=spin)}
    for count in STREAMS:
        figures |= await frames(side, count, durations)
    return figures


async def requests(side: Side, durations: Durations) -> dict[str, float]:
    """A closed loop: as many requests as the server can take from 64 connections."""
    load = ClosedLoop(side.target, side.question)
    await load.connect(CONNECTIONS)
    load.start()
    await asyncio.sleep(durations.warm_s)
    seconds, before, after = await over(durations.requests_s, lambda: (load.answers, cpu_s(side.process)))
    load.stop()
    answers = after[0] - before[0]
    return {"requests_per_s": answers / seconds, "cpu_us_per_request": 1e6 * (after[1] - before[1]) / answers}


async def latency(side: Side, durations: Durations, *, spin: bool) -> dict[str, float]:
    """An open loop: 200 requests a second, latency from the moment each was due."""
    load = OpenLoop(side.target, side.question)
    await load.connect(CONNECTIONS)
    await load.run(RATE_PER_S, durations.warm_s, spin=spin)
    load.latencies_ns.clear()
    await load.run(RATE_PER_S, durations.latency_s, spin=spin)
    load.close()
    return {f"p{percent}_ms": quantile(load.latencies_ns, percent / 100) / 1e6 for percent in (50, 99)}


async def frames(side: Side, count: int, durations: Durations) -> dict[str, float]:
    """Streams of 128 frames, one every 20 ms, each asked for again when it ends."""
    load = Streams(side.target, side.stream)
    await load.connect(count)
    await load.start(spread_s=durations.warm_s)
    await asyncio.sleep(durations.warm_s)
    load.counting = True
    seconds, before_s, after_s = await over(durations.streams_s, lambda: cpu_s(side.process))
    load.counting = False
    load.stop()
    seen = len(load.transits_ns)
    return {
        f"frames_per_s_{count}": seen / seconds,
        f"cpu_us_per_frame_{count}": 1e6 * (after_s - before_s) / max(1, seen),
        f"frame_p50_ms_{count}": quantile(load.transits_ns, 0.50) / 1e6,
        f"frame_p99_ms_{count}": quantile(load.transits_ns, 0.99) / 1e6,
    }


def _report(sides: dict[str, dict[str, float]], sizes: dict[str, int], *, pinned: bool) -> Report:
    gateway, floor = sides["gateway"], sides["bare"]
    added = {f"added_{name}": gateway[name] - floor[name] for name in ("p50_ms", "p99_ms")}
    figures = {**sides, **added, **sizes, "pinned": pinned, "ledger": "group"}
    names = ("requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms")
    rows = [_row(name, side, names) for name, side in sides.items()]
    cpu_us = gateway["cpu_us_per_request"] - floor["cpu_us_per_request"]
    tables = [
        Table(
            f"Requests: answers of {sizes['answer_bytes']} bytes, latency at {RATE_PER_S:g} requests/s",
            ("", "requests/s", "CPU µs/request", "p50 ms", "p99 ms"),
            [*rows, ("added", None, cpu_us, added["added_p50_ms"], added["added_p99_ms"])],
        ),
        *(_stream_table(sides, count, sizes["frame_bytes"]) for count in STREAMS),
    ]
    return Report(figures, tables)


def _stream_table(sides: dict[str, dict[str, float]], count: int, frame_bytes: int) -> Table:
    figures = ("frames_per_s", "cpu_us_per_frame", "frame_p50_ms", "frame_p99_ms")
    names = tuple(f"{figure}_{count}" for figure in figures)
    return Table(
        f"{count} streams: frames of {frame_bytes} bytes, {count * FRAMES_PER_S:,} a second offered",
        ("", "frames/s", "CPU µs/frame", "p50 ms after due", "p99 ms after due"),
        [_row(name, side, names) for name, side in sides.items()],
    )


def _row(name: str, side: dict[str, float], figures: tuple[str, ...]) -> tuple[str | float | None, ...]:
    return (name, *(side[figure] for figure in figures))
