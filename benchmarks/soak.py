"""Does it leak? ``python -m benchmarks.soak [--requests N]``: mixed calls for a long while against one whole server.

Every generation of the API, streams and whole answers, wrong keys, broken bodies, broken heads, clients that leave in
the midst. After a warm-up, memory is fitted by a line; descriptors and tasks are counted at rest, before and after.
Exits with 1 when a figure is over its goal or an answer was not the expected one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.load import Target
from benchmarks.processes import Server, running, scratch, wait_ready
from benchmarks.report import Table, show

REQUESTS = 300_000
# Until the allocator and the database's cache have found their size: steps, not a slope, and no more of them later.
WARM_UP = 0.5
WORKERS = 24
SAMPLES = 60
SLOPE_MAX_MIB = 10.0
REST_S = 5.0
COUNTED = "soak-tasks"
PATIENCE_S = 60.0
QUESTION = [{"role": "user", "content": "十字花科植物有哪些？"}]


class Kind(msgspec.Struct, frozen=True):
    """One kind of request: all its bytes, the status it has to get, and whether its sender leaves after the head."""

    name: str
    data: bytes
    status: int = 200
    leaves: bool = False


class Figures(msgspec.Struct, frozen=True):
    """What a server has at rest."""

    descriptors: int
    tasks: int
    memory_mib: float


def serve() -> None:
    """The server of `benchmarks.server`, which tells the number of its tasks at SIGUSR1."""
    from benchmarks import server

    def tell(*_: object) -> None:
        counted = Path(sys.argv[1], COUNTED)
        counted.with_suffix(".new").write_text(str(len(asyncio.all_tasks())))
        counted.with_suffix(".new").rename(counted)

    signal.signal(signal.SIGUSR1, tell)
    server.main()


def kinds(server: Server) -> list[Kind]:
    """A round of twenty requests: 12 streams, 4 whole answers, 2 that are left, 1 wrong one, 1 list of models."""
    target = Target(*server.address, key=server.said["key"])
    answering, pacing = (server.said["endpoints"][name] for name in ("answering", "pacing"))

    def asked(wire: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"messages": QUESTION, **({"stream": True} if stream else {})}
        match wire:
            case "v1":
                return "/api/v1/chat", {"model": {"name": "answering"}, **body}
            case "v2":
                return f"/api/v2/endpoint/{answering}/chat", body
            case "openai":
                return "/v1/chat/completions", {"model": "answering", **body}
        return "/api/v3/chat/completions", {"model": answering, **body}

    wires = ("v1", "v2", "v3", "openai")
    streams = [Kind(f"stream {wire}", target.post(*asked(wire, stream=True))) for wire in wires]
    whole = [Kind(f"whole {wire}", target.post(*asked(wire, stream=False))) for wire in wires]
    body = {"model": pacing, "messages": QUESTION, "stream": True, "max_tokens": 500}
    left = Kind("left", target.post("/api/v3/chat/completions", body), leaves=True)
    models = f"GET /api/v3/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.said['key']}\r\n\r\n".encode()
    return [*streams * 3, *whole, left, left, Kind("wrong", b""), Kind("models", models)]


def wrong(server: Server) -> list[Kind]:
    """What is refused, one after the other in the place of a ``wrong`` one."""
    target = Target(*server.address, key=server.said["key"])
    stranger = Target(*server.address, key="ark-wrong")
    path, answering = "/api/v3/chat/completions", server.said["endpoints"]["answering"]
    broken = target.post(path, {}).replace(b"{}", b"{]")
    return [
        Kind("wrong key", stranger.post(path, {"model": answering, "messages": QUESTION}), 401),
        Kind("wrong model", target.post(path, {"model": "ep-none", "messages": QUESTION}), 404),
        Kind("broken body", broken, 400),
        Kind("wrong field", target.post("/api/v1/chat", {"model": {"name": "answering"}, "messages": 1}), 400),
        Kind("no route", b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        Kind("broken head", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        Kind("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        Kind("large head", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    ]


class Soak:
    """The clients: ``WORKERS`` at a time, each on its own connection for as long as the server keeps it."""

    def __init__(self, server: Server) -> None:
        self._address = server.address
        self._kinds, self._wrong = kinds(server), wrong(server)
        self.sent = 0
        self.seen: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()

    async def run(self, until: int) -> None:
        """Until so many have been sent, all together."""
        await asyncio.gather(*(self._work(until) for _ in range(WORKERS)))

    async def _work(self, until: int) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.sent < until:
            number, self.sent = self.sent, self.sent + 1
            kind = self._kinds[number % len(self._kinds)]
            if not kind.data:
                kind = self._wrong[number // len(self._kinds) % len(self._wrong)]
            self.seen[kind.name] += 1
            try:
                connection = connection or await asyncio.open_connection(*self._address)
                async with asyncio.timeout(PATIENCE_S):
                    kept = await self._ask(*connection, kind)
            except (OSError, EOFError, TimeoutError) as error:
                self.unexpected[f"{kind.name}: {type(error).__name__}"] += 1
                kept = False
            if not kept and connection is not None:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Kind) -> bool:
        """Whether the connection can be used again."""
        writer.write(kind.data)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if status != kind.status:
            self.unexpected[f"{kind.name}: {status}"] += 1
        if kind.leaves:
            await reader.readuntil(b"data: ")
            plug = writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            length = lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        return b"connection: close" not in lower


def at_rest(server: Server) -> Figures:
    """What it has once it has had no fewer descriptors for a while. Raises TimeoutError."""
    process = server.process
    least, since_s = process.num_fds(), time.monotonic()
    while time.monotonic() < since_s + REST_S:
        time.sleep(0.2)
        if (now := process.num_fds()) < least:
            least, since_s = now, time.monotonic()
    return Figures(least, tasks_of(server), memory_mib(server))


def tasks_of(server: Server) -> int:
    counted = Path(server.said["home"], COUNTED)
    counted.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)
    end_s = time.monotonic() + PATIENCE_S
    while not counted.exists():
        if time.monotonic() > end_s:
            raise TimeoutError("the server does not tell how many tasks it has")
        time.sleep(0.01)
    return int(counted.read_text())


def memory_mib(server: Server) -> float:
    return float(server.process.memory_info().rss) / 2**20


def slope(samples: list[tuple[int, float]]) -> float:
    """MiB per million requests, by the line of least squares."""
    sent, held = zip(*samples, strict=True)
    return statistics.linear_regression(sent, held).slope * 1_000_000


def measure(requests: int) -> bool:
    """One soak: shows what it found; whether all goals are met."""
    with scratch() as home, running((sys.executable, "-m", "benchmarks.soak", "serve", str(home), "")) as server:
        wait_ready(server)
        soak = Soak(server)
        warm = int(requests * WARM_UP)
        uvloop.run(soak.run(warm))
        before, began_s = at_rest(server), time.monotonic()
        samples = [(soak.sent, memory_mib(server))]
        for step in range(1, SAMPLES + 1):
            uvloop.run(soak.run(warm + (requests - warm) * step // SAMPLES))
            samples.append((soak.sent, memory_mib(server)))
            print(f"soak: {soak.sent} of {requests}, {samples[-1][1]:.1f} MiB", file=sys.stderr)
        rate = (requests - warm) / (time.monotonic() - began_s)
        after = at_rest(server)
    return told(soak, rate, before, after, slope(samples))


def told(soak: Soak, rate: float, before: Figures, after: Figures, growth_mib: float) -> bool:
    rows: list[tuple[str | float | None, ...]] = [
        ("memory, MiB per million requests", growth_mib, SLOPE_MAX_MIB, verdict(growth_mib <= SLOPE_MAX_MIB)),
        ("descriptors more than before", after.descriptors - before.descriptors, 0, verdict(no_more(after, before)[0])),
        ("tasks more than before", after.tasks - before.tasks, 0, verdict(no_more(after, before)[1])),
        ("unexpected answers", soak.unexpected.total(), 0, verdict(not soak.unexpected)),
        ("memory before and after, MiB", before.memory_mib, None, f"{after.memory_mib:.1f}"),
        ("requests", soak.sent, None, f"{rate:.0f}/s"),
    ]
    show(Table("Soak: mixed calls of every generation", ("", "found", "goal", ""), rows))
    for what, count in soak.unexpected.most_common():
        print(f"soak: unexpected: {what}, {count} times", file=sys.stderr)
    return growth_mib <= SLOPE_MAX_MIB and all(no_more(after, before)) and not soak.unexpected


def no_more(after: Figures, before: Figures) -> tuple[bool, bool]:
    """Of descriptors, of tasks."""
    return after.descriptors <= before.descriptors, after.tasks <= before.tasks


def verdict(good: bool) -> str:
    return "met" if good else "MISSED"


def main() -> None:
    """Runs one soak; exits with 1 when a goal is missed."""
    if sys.argv[1:2] == ["serve"]:
        del sys.argv[1]
        serve()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Does Arkway leak?")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"how many, in all (default {REQUESTS})")
    if not measure(parser.parse_args().requests):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
