"""What the older generations cost beside v3: one server, one run, the same question on every wire.

v1 and v2 are asked with an API key and with a signature, so that the wire and the signature are told apart.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from arkway.signing import KeyPair, signed_headers
from benchmarks.gateway import FRAMES, FULL, PATH, QUESTION, QUICK, Durations, Side, frames, latency, requests
from benchmarks.load import Target
from benchmarks.machine import pinned, split_cpus
from benchmarks.processes import Server, ask, scripted
from benchmarks.report import Options, Report, Table, medians

STREAMS = 500
Ask = Callable[[Target, bool], bytes]


def measure(options: Options) -> Report:
    """Every wire in turns, medians over the rounds, and each as a ratio to v3."""
    cpus = split_cpus()
    durations = QUICK if options.quick else FULL
    with scripted(cpus and cpus[0]) as server, pinned(cpus and cpus[1]):
        sides = _sides(server)
        for side in sides:
            _check(server, side)
        results = uvloop.run(_rounds(sides, durations, spin=cpus is not None))
    return _report(results, pinned=cpus is not None)


def _sides(server: Server) -> tuple[Side, ...]:
    said = server.said
    answering, pacing = (said["endpoints"][name] for name in ("answering", "pacing"))
    pair = KeyPair(said["access_key_id"], said["secret_access_key"])

    def v3(*, stream: bool) -> tuple[str, dict[str, Any]]:
        body = {"model": pacing if stream else answering, "messages": QUESTION, "temperature": 0.7}
        return PATH, body | ({"stream": True, "max_tokens": FRAMES} if stream else {})

    def legacy(*, stream: bool) -> dict[str, Any]:
        parameters = {"temperature": 0.7} | ({"max_new_tokens": FRAMES} if stream else {})
        return {"messages": QUESTION, "parameters": parameters} | ({"stream": True} if stream else {})

    def v1(*, stream: bool) -> tuple[str, dict[str, Any]]:
        return "/api/v1/chat", {"model": {"name": "pacing" if stream else "answering"}, **legacy(stream=stream)}

    def v2(*, stream: bool) -> tuple[str, dict[str, Any]]:
        return f"/api/v2/endpoint/{pacing if stream else answering}/chat", legacy(stream=stream)

    target = Target(*server.address, key=said["key"])
    return tuple(
        Side(name, server.process, target, *(_request(server, target, wire(stream=on), held) for on in (False, True)))
        for name, wire, held in (
            ("v3", v3, None),
            ("v1", v1, None),
            ("v2", v2, None),
            ("v1 signed", v1, pair),
            ("v2 signed", v2, pair),
        )
    )


def _request(server: Server, target: Target, asked: tuple[str, dict[str, Any]], pair: KeyPair | None) -> bytes:
    """A whole request. A signature is good for 15 minutes, which is longer than a run."""
    path, body = asked
    if pair is None:
        return target.post(path, body)
    payload = msgspec.json.encode(body)
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = signed_headers(pair, "POST", f"{server.said['url']}{path}", payload, x_date)
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(payload)}", "", ""]).encode() + payload


def _check(server: Server, side: Side) -> None:
    """Is what will be measured right? Raises RuntimeError."""
    head, _, body = side.question.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    status, answer = ask(server, "POST", first.split(" ")[1], "", body, headers)
    if status != 200 or b"choice" not in answer:
        raise RuntimeError(f"{side.name} does not answer: {status} {answer!r}")


async def _rounds(sides: tuple[Side, ...], durations: Durations, *, spin: bool) -> dict[str, dict[str, float]]:
    collected: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for turn in range(durations.rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            print(f"generations: round {turn + 1} of {durations.rounds}, {side.name}", file=sys.stderr)
            figures = {**await requests(side, durations), **await latency(side, durations, spin=spin)}
            collected[side.name].append(figures | await frames(side, STREAMS, durations))
    return {name: medians(rounds) for name, rounds in collected.items()}


def _report(sides: dict[str, dict[str, float]], *, pinned: bool) -> Report:
    names = ("requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms", f"cpu_us_per_frame_{STREAMS}")
    v3 = sides["v3"]
    ratios = {name: {figure: side[figure] / v3[figure] for figure in names} for name, side in sides.items()}
    rows: list[tuple[str | float | None, ...]] = [
        (name, *(side[figure] for figure in names)) for name, side in sides.items()
    ]
    rows += [(f"{name} / v3", *(side[figure] for figure in names)) for name, side in ratios.items() if name != "v3"]
    columns = ("", "requests/s", "CPU µs/request", "p50 ms", "p99 ms", "CPU µs/frame")
    title = f"Generations: one question on every wire, latency at 200 requests/s, {STREAMS} streams"
    return Report({**sides, "ratios": ratios, "pinned": pinned}, [Table(title, columns, rows)])
