"""One process of several that count on one Valkey: ``python -m tests.contract.limits.process URL WHAT ...``.

``rate PER_MINUTE BURST_S SECONDS`` asks as fast as it can and prints how many were served; ``hold N`` takes a place of
N calls at a time and 100 tokens of a day's quota, says so, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import msgspec

from arkway.core.errors import RateLimited
from arkway.core.limit import Demand, Rule
from arkway.limits.valkey import ValkeyLimiter

NOW_MS = 1_793_500_000_000
LEASE_S = 9.0
RATE = Rule("default", "default", "project", "", "rpm", "", 1)
PLACES = Rule("default", "default", "project", "", "concurrency", "", 1)
QUOTA = Rule("default", "default", "project", "", "tokens", "day", 100)


async def rate(limiter: ValkeyLimiter, per_minute: float, seconds: float) -> None:
    rules = (msgspec.structs.replace(RATE, amount=per_minute),)
    served = 0
    started = time.monotonic()
    sys.stdin.readline()
    end = time.monotonic() + seconds
    while time.monotonic() < end or not served:
        try:
            await limiter.hold(Demand(rules, NOW_MS))
            served += 1
        except RateLimited:
            await asyncio.sleep(0.001)
    assert not limiter.away
    print(served, time.monotonic() - started, flush=True)


async def main(url: str, what: str, *numbers: str) -> None:
    burst_s = float(numbers[1]) if what == "rate" else 60.0
    limiter = ValkeyLimiter(url, str(os.getpid()), timeout_s=60.0, lease_s=LEASE_S, tick_s=0.1, burst_s=burst_s)
    await limiter.start()
    assert not limiter.away
    print("ready", flush=True)
    if what == "rate":
        await rate(limiter, float(numbers[0]), float(numbers[2]))
        await limiter.aclose()
    else:
        await limiter.hold(Demand((PLACES, QUOTA), NOW_MS, tokens=100))
        print("held", flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
