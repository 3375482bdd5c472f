"""The limiters under contract: in memory, and on a real Valkey. Both run on the clock of the wall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from arkway.core.limit import Demand, Rule
from arkway.limits.memory import MemoryLimiter, SpentBefore, Tell, nothing_spent, untold
from arkway.limits.valkey import ValkeyLimiter
from arkway.ports import Hold, Limiter

NOW_MS = 1_793_500_000_000  # 2026-11-01 03:06:40 UTC
# Of a test run that shares two processors with others, not of a deployment: a server that is there is never missed.
PATIENT_S = 60.0


class Opened:
    """One limiter; ``take`` is what the road does."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter

    async def take(self, *rules: Rule, tokens: int = 0, cost: float = 0.0, now_ms: int = NOW_MS) -> Hold:
        demand = Demand(rules, now_ms, tokens, cost)
        hold = self.limiter.hold_nowait(demand)
        return await self.limiter.hold(demand) if hold is None else hold

    async def settled(self) -> None:
        """Until what was settled counts."""
        if isinstance(self.limiter, ValkeyLimiter):
            await line_is_idle(self.limiter)


async def line_is_idle(limiter: ValkeyLimiter) -> None:
    """Until the server has answered everything that was put on the line."""
    while limiter._line._sender is not None:
        await asyncio.sleep(0.001)


class Place:
    """Where limiters are opened that count together, or (memory) each for itself."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def open(
        self, *, burst_s: float = 60.0, spent: SpentBefore = nothing_spent, tell: Tell = untold, lease_s: float = 30.0
    ) -> AsyncIterator[Opened]:
        if not self.url:
            yield Opened(MemoryLimiter(burst_s=burst_s, spent=spent, tell=tell))
            return
        limiter = ValkeyLimiter(
            self.url, "p1", timeout_s=PATIENT_S, burst_s=burst_s, spent=spent, tell=tell, lease_s=lease_s
        )
        await limiter.start()
        assert not limiter.away
        try:
            yield Opened(limiter)
        finally:
            await limiter.aclose()


@pytest.fixture(params=["memory", "valkey"])
def place(request: pytest.FixtureRequest) -> Place:
    return Place(request.getfixturevalue("valkey_url") if request.param == "valkey" else "")


Rules = Callable[..., Rule]
