"""How the limits are counted: in this process, or on the server that several share."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from arkway.admin.prices import PriceBook
from arkway.config import Limits
from arkway.core.chat import Usage
from arkway.core.errors import Misconfigured
from arkway.flow.reserve import CostOf
from arkway.limits.memory import MemoryLimiter, SpentBefore, Tell
from arkway.ports import Limiter

Step = Callable[[], Awaitable[None]]


class Counting:
    """A limiter with its beginning and its end; ``away`` is 1 while the server that counts does not answer.

    Raises Misconfigured for a server without the extra that speaks to it.
    """

    def __init__(self, settings: Limits, spent: SpentBefore, refresh: Step, tell: Tell) -> None:
        self.start: Step = _nothing
        self.aclose: Step = _nothing
        self.away: Callable[[], int] = lambda: 0
        self.limiter: Limiter = MemoryLimiter(burst_s=settings.burst_s, spent=spent, tell=tell)
        if settings.valkey:
            self._share(settings, spent, refresh, tell)

    def _share(self, settings: Limits, spent: SpentBefore, refresh: Step, tell: Tell) -> None:
        try:
            from arkway.limits.valkey import ValkeyLimiter  # redis is an extra
        except ModuleNotFoundError:
            raise Misconfigured(
                "the setting `limits.valkey` needs the client library: install `arkway[valkey]`"
            ) from None
        limiter = ValkeyLimiter(
            settings.valkey,
            secrets.token_hex(8),
            timeout_s=settings.timeout_s,
            burst_s=settings.burst_s,
            processes=settings.processes,
            spent=spent,
            refresh=refresh,
            tell=tell,
        )
        self.limiter, self.start, self.aclose = limiter, limiter.start, limiter.aclose
        self.away = lambda: int(limiter.away)


def cost_in(currency: str, book: PriceBook) -> CostOf:
    """What use costs in one currency; nothing where its price is in another one, or where there is none."""

    def cost_of(model: str, usage: Usage, at_ms: int) -> float:
        cost = book.cost_of(model, usage, at_ms)
        return float(cost.amount) if cost is not None and cost.currency == currency else 0.0

    return cost_of


async def _nothing() -> None:
    pass
