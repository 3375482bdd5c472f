"""Limits held in the memory of one process: nothing waits, and they end with the process."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from arkway.core.limit import Demand, Rule, Used, window
from arkway.core.transient import Transient
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
        self._plans: dict[int, _Plan] = {}
        self._rates: dict[str, Bucket] = {}
        self._leases: dict[str, _Leases] = {}
        self._quotas: dict[str, _Quota] = {}

    def hold_nowait(self, demand: Demand) -> MemoryHold:
        """Takes from every limit, or raises RateLimited or QuotaExhausted and takes from none."""
        now_s = self._clock_s()
        plan = self._plans.get(id(demand.rules))
        if plan is None or plan.rules is not demand.rules:
            plan = self._plan(demand.rules)
        over = plan.over(demand, now_s)
        if over:
            plan = self._passed(plan, over)
        plan.take(demand, now_s)
        return MemoryHold(plan, demand, now_s, self._clock_s)

    async def hold(self, demand: Demand) -> MemoryHold:
        return self.hold_nowait(demand)

    def _passed(self, plan: _Plan, over: list[Refusal]) -> _Plan:
        """The limits to take from although some are exceeded: a rate in shadow would have refused, and took nothing."""
        hard = [refusal for refusal in over if not refusal.rule.shadow]
        for refusal in hard or over:
            self._tell(refusal.rule)
        if hard:
            raise worst(hard).error()
        return plan.without({id(refusal.rule) for refusal in over})

    def _plan(self, rules: tuple[Rule, ...]) -> _Plan:
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        plan = self._plans[id(rules)] = _Plan(rules)
        for rule in rules:
            self._add(plan, rule)
        return plan

    def _add(self, plan: _Plan, rule: Rule) -> None:
        place, share = rule.place, self._share
        match rule.kind:
            case "rpm" | "tpm":
                bucket = self._rates.setdefault(place, Bucket())
                plan.rates.append(_Rate(rule, bucket, *rate(rule.amount * share, self._burst_s), rule.kind == "tpm"))
            case "concurrency":
                leases = self._leases.setdefault(place, _Leases())
                plan.leases.append(_Lease(rule, leases, max(1, int(rule.amount * share))))
            case _:
                plan.quotas.append(_QuotaSlot(rule, self._quotas.setdefault(place, _Quota()), share, self._spent))


class MemoryHold(Transient):
    """What one call has taken. ``settle`` is synchronous; the first one counts."""

    _plan: _Plan | None
    _demand: Demand
    _taken_s: float
    _clock_s: Callable[[], float]

    def settle(self, used: Used) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.settle(self._demand, used, self._taken_s, self._clock_s())


class _Plan:
    """All limits that some calls are under, ready to be asked in one go."""

    __slots__ = ("leases", "quotas", "rates", "rules")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.rates: list[_Rate] = []
        self.leases: list[_Lease] = []
        self.quotas: list[_QuotaSlot] = []

    def without(self, exceeded: set[int]) -> _Plan:
        """But for rates and concurrencies that are exceeded (by the identity of their rules)."""
        rest = _Plan(self.rules)
        rest.rates = [slot for slot in self.rates if id(slot.rule) not in exceeded]
        rest.leases = [slot for slot in self.leases if id(slot.rule) not in exceeded]
        rest.quotas = self.quotas
        return rest

    def over(self, demand: Demand, now_s: float) -> list[Refusal]:
        """What speaks against the call. (A comprehension would be one more call of a function for each kind.)"""
        over: list[Refusal] = []
        for each in self.rates:
            wanted = demand.tokens if each.of_tokens else 1
            if wanted:
                wait_s = each.bucket.wait_s(now_s, wanted * each.each_s, each.burst_s)
                if wait_s > TOLERANCE:
                    over.append(Refusal(each.rule, wait_s))
        for lease in self.leases:
            if lease.leases.count >= lease.most:
                over.append(Refusal(lease.rule, BUSY_RETRY_S))  # noqa: PERF401
        for quota in self.quotas:
            if (refusal := quota.refusal(demand, now_s)) is not None:
                over.append(refusal)  # noqa: PERF401
        return over

    def take(self, demand: Demand, now_s: float) -> None:
        for each in self.rates:
            wanted = demand.tokens if each.of_tokens else 1
            if wanted:
                each.bucket.take(now_s, wanted * each.each_s)
        for lease in self.leases:
            lease.leases.count += 1
        for quota in self.quotas:
            quota.take(demand)

    def settle(self, demand: Demand, used: Used, taken_s: float, now_s: float) -> None:
        for each in self.rates:
            difference = used.tokens - demand.tokens if each.of_tokens else used.request - 1
            if difference:
                each.bucket.settle(now_s, taken_s, difference * each.each_s)
        for lease in self.leases:
            lease.leases.count -= 1
        for quota in self.quotas:
            quota.settle(demand, used, taken_s)


class _Rate(NamedTuple):
    """``each_s`` is what one costs, ``burst_s`` what the bucket holds."""

    rule: Rule
    bucket: Bucket
    each_s: float
    burst_s: float
    of_tokens: bool


class _Leases:
    """Calls in progress; they end with the process."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Lease(NamedTuple):
    rule: Rule
    leases: _Leases
    most: int


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

    def take(self, demand: Demand) -> None:
        self._quota.reserved += self._wanted(demand)

    def settle(self, demand: Demand, used: Used, taken_s: float) -> None:
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
