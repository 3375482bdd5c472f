"""Limits held in the memory of one process: nothing waits, and they end with the process."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from arkway.core.limit import Demand, Rule, Used, window
from arkway.limits.bucket import Bucket, rate
from arkway.limits.refusal import BUSY_RETRY_S, Refusal, worst

PLANS_MAX = 4096
# Sums of money are floats.
TOLERANCE = 1e-9

SpentBefore = Callable[[Rule, int], float]
"""What the ledger has on record for a quota, in the period that begins at that moment (epoch milliseconds)."""

Tell = Callable[[Rule], None]


def nothing_spent(_rule: Rule, _start_ms: int) -> float:
    """Where no ledger is asked."""
    return 0.0


def untold(_rule: Rule) -> None:
    """Where nobody is told."""


class MemoryLimiter:
    """Implements `arkway.ports.Limiter`; for one thread. ``clock_s`` is monotonic.

    A rate lets ``burst_s`` seconds' worth through at once, at least one call. ``share`` is the part of every limit that
    this process may give. ``tell`` hears of every limit that a call is over, a shadow one when the call goes ahead.
    """

    def __init__(
        self,
        *,
        burst_s: float = 60.0,
        share: float = 1.0,
        spent: SpentBefore = nothing_spent,
        tell: Tell = untold,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._burst_s, self._share = burst_s, share
        self._spent, self._tell, self._clock_s = spent, tell, clock_s
        self._plans: dict[int, tuple[tuple[Rule, ...], list[_Slot]]] = {}
        self._rates: dict[str, Bucket] = {}
        self._leases: dict[str, _Leases] = {}
        self._quotas: dict[str, _Quota] = {}

    def hold_nowait(self, demand: Demand) -> MemoryHold:
        """Takes from every limit, or raises RateLimited or QuotaExhausted and takes from none."""
        now_s = self._clock_s()
        slots = self._slots(demand.rules)
        over = [refusal for slot in slots if (refusal := slot.refusal(demand, now_s)) is not None]
        if over:
            slots = self._passed(slots, over)
        for slot in slots:
            slot.take(demand, now_s)
        return MemoryHold(slots, demand, now_s, self._clock_s)

    async def hold(self, demand: Demand) -> MemoryHold:
        return self.hold_nowait(demand)

    def _passed(self, slots: list[_Slot], over: list[Refusal]) -> list[_Slot]:
        """The limits to take from although some are exceeded: a rate in shadow would have refused, and took nothing."""
        hard = [refusal for refusal in over if not refusal.rule.shadow]
        for refusal in hard or over:
            self._tell(refusal.rule)
        if hard:
            raise worst(hard).error()
        exceeded = {id(refusal.rule) for refusal in over}
        return [slot for slot in slots if id(slot.rule) not in exceeded or isinstance(slot, _QuotaSlot)]

    def _slots(self, rules: tuple[Rule, ...]) -> list[_Slot]:
        known = self._plans.get(id(rules))
        if known is not None and known[0] is rules:
            return known[1]
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        slots = [self._slot(rule) for rule in rules]
        self._plans[id(rules)] = (rules, slots)
        return slots

    def _slot(self, rule: Rule) -> _Slot:
        place = rule.place
        match rule.kind:
            case "rpm" | "tpm":
                bucket = self._rates.setdefault(place, Bucket())
                return _RateSlot(rule, bucket, self._share, self._burst_s)
            case "concurrency":
                return _LeaseSlot(rule, self._leases.setdefault(place, _Leases()), self._share)
            case _:
                return _QuotaSlot(rule, self._quotas.setdefault(place, _Quota()), self._share, self._spent)


class MemoryHold:
    """What one call has taken. ``settle`` is synchronous; the first one counts."""

    __slots__ = ("_clock_s", "_demand", "_slots", "_taken_s")

    def __init__(self, slots: list[_Slot], demand: Demand, taken_s: float, clock_s: Callable[[], float]) -> None:
        self._slots, self._demand = slots, demand
        self._taken_s, self._clock_s = taken_s, clock_s

    def settle(self, used: Used) -> None:
        slots, self._slots = self._slots, []
        now_s = self._clock_s()
        for slot in slots:
            slot.settle(self._demand, used, self._taken_s, now_s)


class _Slot(Protocol):
    """One limit, ready to be asked."""

    rule: Rule

    def refusal(self, demand: Demand, now_s: float) -> Refusal | None: ...

    def take(self, demand: Demand, now_s: float) -> None: ...

    def settle(self, demand: Demand, used: Used, taken_s: float, now_s: float) -> None: ...


class _RateSlot:
    def __init__(self, rule: Rule, bucket: Bucket, share: float, burst_s: float) -> None:
        self.rule = rule
        self._bucket = bucket
        self._each_s, self._burst_s = rate(rule.amount * share, burst_s)
        self._tokens = rule.kind == "tpm"

    def refusal(self, demand: Demand, now_s: float) -> Refusal | None:
        wanted = demand.tokens if self._tokens else 1
        if not wanted:
            return None
        wait_s = self._bucket.wait_s(now_s, wanted * self._each_s, self._burst_s)
        return Refusal(self.rule, wait_s) if wait_s > TOLERANCE else None

    def take(self, demand: Demand, now_s: float) -> None:
        wanted = demand.tokens if self._tokens else 1
        if wanted:
            self._bucket.take(now_s, wanted * self._each_s)

    def settle(self, demand: Demand, used: Used, taken_s: float, now_s: float) -> None:
        difference = used.tokens - demand.tokens if self._tokens else used.request - 1
        if difference:
            self._bucket.settle(now_s, taken_s, difference * self._each_s)


class _Leases:
    """Calls in progress; they end with the process."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _LeaseSlot:
    def __init__(self, rule: Rule, leases: _Leases, share: float) -> None:
        self.rule = rule
        self._leases = leases
        self._most = max(1, int(rule.amount * share))

    def refusal(self, demand: Demand, now_s: float) -> Refusal | None:
        return Refusal(self.rule, BUSY_RETRY_S) if self._leases.count >= self._most else None

    def take(self, demand: Demand, now_s: float) -> None:
        self._leases.count += 1

    def settle(self, demand: Demand, used: Used, taken_s: float, now_s: float) -> None:
        self._leases.count -= 1


class _Quota:
    """One period of a quota: what was spent when it was first looked at (``base``), by now, and may be yet."""

    __slots__ = ("base", "begun_s", "end_ms", "reserved", "spent", "start_ms")

    def __init__(self) -> None:
        self.start_ms = self.end_ms = -1
        self.begun_s = float("-inf")
        self.base = self.spent = self.reserved = 0.0


class _QuotaSlot:
    def __init__(self, rule: Rule, quota: _Quota, share: float, spent: SpentBefore) -> None:
        self.rule = rule
        self._quota, self._share, self._spent = quota, share, spent
        self._tokens = rule.kind == "tokens"

    def refusal(self, demand: Demand, now_s: float) -> Refusal | None:
        wanted = self._wanted(demand)
        if not wanted:
            return None
        quota = self._quota
        if demand.now_ms >= quota.end_ms:
            self._begin(demand.now_ms, now_s)
        if (recorded := self._spent(self.rule, quota.start_ms)) > quota.spent:
            quota.spent = recorded
        room = (self.rule.amount - quota.base) * self._share + quota.base - quota.spent
        if wanted <= room - quota.reserved + TOLERANCE:
            return None
        waits = wanted <= room + TOLERANCE
        return Refusal(self.rule, BUSY_RETRY_S) if waits else Refusal(self.rule, left=max(0.0, room))

    def take(self, demand: Demand, now_s: float) -> None:
        self._quota.reserved += self._wanted(demand)

    def settle(self, demand: Demand, used: Used, taken_s: float, now_s: float) -> None:
        quota = self._quota
        if quota.begun_s > taken_s:
            return
        quota.reserved = max(0.0, quota.reserved - self._wanted(demand))
        quota.spent += used.tokens if self._tokens else used.cost

    def _wanted(self, demand: Demand) -> float:
        """A call that may take more than there ever is takes all there is: it has its turn while that is whole."""
        return min(demand.tokens if self._tokens else demand.cost, self.rule.amount)

    def _begin(self, now_ms: int, now_s: float) -> None:
        quota = self._quota
        quota.start_ms, quota.end_ms = window(self.rule.period, now_ms)
        quota.begun_s, quota.reserved = now_s, 0.0
        quota.base = quota.spent = self._spent(self.rule, quota.start_ms)
