"""Limits shared by processes and hosts, in Valkey or Redis: one round trip before a call, none waited for after it.

While the server is away, every process gives its own share of each limit, out of its memory. What a call in progress
holds are leases that end by themselves when the process that renews them is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from arkway.core.errors import ArkwayError
from arkway.core.limit import DAY_MS, END_OF_TIME_MS, Demand, Rule, Used, window
from arkway.limits.bucket import rate
from arkway.limits.line import Job, Line, LineBroken
from arkway.limits.memory import MemoryHold, MemoryLimiter, SpentBefore, Tell, nothing_spent, untold
from arkway.limits.refusal import BUSY_RETRY_S, Refusal, worst
from arkway.limits.scripts import ATTEND, HOLD, RENEW, SETTLE

log = logging.getLogger("arkway.limits")

PREFIX = "{arkway}:limits"
OWED_MAX = 10_000
KNOWN_MAX = 10_000
TOTAL_KEPT_MS = 3650 * DAY_MS
BROKEN_IN_A_ROW = 2
AWAY = "the server of the limits does not answer (%s): this process gives its share of them, from memory"


async def _nothing() -> None:
    pass


class ValkeyLimiter:
    """Implements `arkway.ports.Limiter`. ``start`` it in the loop that uses it, ``aclose`` it there.

    ``process_id`` is this process's own among all; ``processes`` how many share the limits when the server is away, 0 =
    as many as were seen. A call waits for the server ``timeout_s`` at most. ``refresh`` brings what ``spent`` says up
    to date; it is called before the server counts again after it was away, and then every ``refresh_s``.
    """

    def __init__(
        self,
        url: str,
        process_id: str,
        *,
        timeout_s: float = 0.045,
        lease_s: float = 30.0,
        burst_s: float = 60.0,
        processes: int = 0,
        tick_s: float = 0.5,
        refresh_s: float = 60.0,
        spent: SpentBefore = nothing_spent,
        refresh: Callable[[], Awaitable[None]] = _nothing,
        tell: Tell = untold,
    ) -> None:
        self._line = Line(url, timeout_s=timeout_s / 2)
        self._process_id, self._processes = process_id, processes
        self._lease_s, self._burst_s, self._tick_s = lease_s, burst_s, tick_s
        self._refresh_s, self._refresh = refresh_s, refresh
        self._spent, self._tell = spent, tell
        self._seen = 1
        self._numbers = 0
        self._broken = 0
        self._known: dict[tuple[str, int], float] = {}
        self._live: dict[str, ValkeyHold] = {}
        self._owed: deque[tuple[list[str], list[str | float]]] = deque(maxlen=OWED_MAX)
        self._task: asyncio.Task[None] | None = None
        self._local = self._share()
        self.away = True

    async def start(self) -> None:
        """Looks for the server; where there is none, calls go on with this process's share."""
        try:
            await self._come_back()
        except LineBroken as reason:
            log.warning(AWAY, reason)
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._line.aclose()

    def hold_nowait(self, demand: Demand) -> MemoryHold | None:
        """None while the server is there: `hold` asks it."""
        return self._local.hold_nowait(demand) if self.away else None

    async def hold(self, demand: Demand) -> ValkeyHold | MemoryHold:
        self._numbers += 1
        hold = ValkeyHold(self, f"{self._process_id}.{self._numbers}", demand)
        if not hold.keys:
            return hold
        answer: asyncio.Future[list[str] | LineBroken] = asyncio.get_running_loop().create_future()
        self._line.put(Job(HOLD, hold.keys, hold.arguments(), lambda said: self._answered(hold, answer, said)))
        try:
            said = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                self._unwanted(hold, answer.result())
            raise
        if isinstance(said, LineBroken):
            return self._local.hold_nowait(demand)
        hold.taken = said[0]
        hold.drop(self._judged(hold, said[1:]))
        self._live[hold.id] = hold
        return hold

    def give(self, hold: ValkeyHold, arguments: list[str | float], *, again: bool = False) -> None:
        """Settles a hold at the server, now or when it is back."""
        self._live.pop(hold.id, None)
        if hold.keys:
            self._settle(hold.keys, [hold.id, int(again), hold.taken, *arguments])

    def numbers(self, demand: Demand) -> list[_Limit]:
        """The demand's limits as the server's scripts count them."""
        return [limit for rule in demand.rules if (limit := self._limit(rule, demand)) is not None]

    @property
    def lease_s(self) -> float:
        return self._lease_s

    def _limit(self, rule: Rule, demand: Demand) -> _Limit | None:
        if rule.kind == "concurrency":
            return _Limit(rule, "lease", [rule.amount, 0, 0, 0])
        if rule.kind in ("rpm", "tpm"):
            each_s, burst_s = rate(rule.amount, self._burst_s)
            count = demand.tokens if rule.kind == "tpm" else 1
            return _Limit(rule, "rate", [count * each_s, burst_s, 0, 0], each_s=each_s) if count else None
        start_ms, end_ms = window(rule.period, demand.now_ms)
        wanted = min(float(demand.tokens) if rule.kind == "tokens" else demand.cost, rule.amount)
        kept_ms = TOTAL_KEPT_MS if end_ms == END_OF_TIME_MS else end_ms - start_ms + DAY_MS
        numbers = [rule.amount, wanted, self._spent(rule, start_ms), kept_ms]
        return _Limit(rule, "quota", numbers, start_ms=start_ms) if wanted else None

    def _answered(self, hold: ValkeyHold, answer: asyncio.Future[Any], said: Any) -> None:
        """Nobody may be waiting any more, and whether the server has taken anything may be unknown."""
        if isinstance(said, LineBroken):
            self._break(said)
            hold.taken = "0"
            self.give(hold, hold.returned(), again=True)
        elif answer.cancelled():
            self._unwanted(hold, said)
        if not answer.done():
            answer.set_result(said)

    def _unwanted(self, hold: ValkeyHold, said: list[str] | LineBroken) -> None:
        """The caller has left while the server was asked: what it gave goes back."""
        if isinstance(said, LineBroken):
            return
        pairs = zip(hold.limits, said[1:], strict=True)
        if all(verdict[0] == "o" or limit.rule.shadow for limit, verdict in pairs):
            hold.taken = said[0]
            hold.drop(_exceeded(hold, said[1:]))
            self.give(hold, hold.returned())

    def _judged(self, hold: ValkeyHold, verdicts: list[str]) -> list[_Limit]:
        """The limits that nothing was taken from, being exceeded shadows. Raises RateLimited, QuotaExhausted."""
        self._broken = 0
        over: list[Refusal] = []
        for limit, verdict in zip(hold.limits, verdicts, strict=True):
            number = float(verdict[1:] or 0)
            if verdict[0] == "o":
                if limit.kind == "quota":
                    self._note(limit, number)
            elif verdict[0] == "x":
                over.append(Refusal(limit.rule, left=number))
            else:
                over.append(Refusal(limit.rule, number or BUSY_RETRY_S))
        hard = [refusal for refusal in over if not refusal.rule.shadow]
        for refusal in hard or over:
            self._tell(refusal.rule)
        if hard:
            raise worst(hard).error()
        return _exceeded(hold, verdicts)

    def _note(self, limit: _Limit, spent: float) -> None:
        """What was spent when the server was last there: the share is one of what was left then."""
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[limit.rule.place, limit.start_ms] = spent

    # While the server is away

    def _break(self, reason: LineBroken) -> None:
        self._broken += 1
        if self.away:
            return
        if self._broken == 1:
            self._local = self._share()
        if self._broken >= BROKEN_IN_A_ROW:
            self.away = True
            log.warning(AWAY, reason)

    def _share(self) -> MemoryLimiter:
        def spent(rule: Rule, start_ms: int) -> float:
            return max(self._known.get((rule.place, start_ms), 0.0), self._spent(rule, start_ms))

        share = 1 / (self._processes or self._seen)
        return MemoryLimiter(burst_s=self._burst_s, share=share, spent=spent, tell=self._tell)

    def _settle(self, keys: list[str], arguments: list[str | float]) -> None:
        def done(said: Any) -> None:
            if isinstance(said, LineBroken):
                self._break(said)
                self._owed.append((keys, [arguments[0], 1, *arguments[2:]]))

        if self.away:
            self._owed.append((keys, arguments))
        else:
            self._line.put(Job(SETTLE, keys, arguments, done))

    # Beside the calls

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        renew_s = refresh_s = loop.time()
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                if self.away:
                    await self._come_back()
                elif loop.time() - renew_s >= self._lease_s / 3:
                    renew_s = loop.time()
                    await self._renew()
                if not self.away and loop.time() - refresh_s >= self._refresh_s:
                    refresh_s = loop.time()
                    await self._refreshed()
            except LineBroken as reason:
                self._break(reason)
            except Exception:
                log.exception("the limits could not be looked after, and will be again")

    async def _come_back(self) -> None:
        """The server counts again, after it has heard what was used meanwhile. Raises LineBroken."""
        await self._renew()
        await self._refreshed()
        for _ in range(len(self._owed)):
            keys, arguments = self._owed.popleft()
            self._line.put(Job(SETTLE, keys, arguments, _forget))
        if self.away and self._task is not None:
            log.warning("the server of the limits is back: it counts again")
        self.away, self._broken = False, 0

    async def _refreshed(self) -> None:
        try:
            await self._refresh()
        except ArkwayError as error:
            log.warning("what was spent could not be read from the ledger, and will be again: %s", error)

    async def _renew(self) -> None:
        seen = await self._line.ask(ATTEND, [f"{PREFIX}:processes"], [self._process_id, self._lease_s])
        self._seen = int(seen)
        leases = [lease for hold in self._live.values() for lease in hold.leases()]
        if leases:
            keys = [key for key, _ in leases]
            await self._line.ask(RENEW, keys, [self._lease_s, *(member for _, member in leases)])


class ValkeyHold:
    """What one call holds at the server."""

    __slots__ = ("_limiter", "_settled", "id", "keys", "limits", "taken")

    def __init__(self, limiter: ValkeyLimiter, hold_id: str, demand: Demand) -> None:
        self._limiter = limiter
        self._settled = False
        self.id = hold_id
        self.limits = limiter.numbers(demand)
        self.keys = [key for limit in self.limits for key in limit.keys]
        self.taken = "0"

    def settle(self, used: Used) -> None:
        if not self._settled:
            self._settled = True
            self._limiter.give(self, [number for limit in self.limits for number in limit.settled(used)])

    def arguments(self) -> list[str | float]:
        arguments: list[str | float] = [self.id, self._limiter.lease_s]
        for limit in self.limits:
            arguments += (limit.kind, int(limit.rule.shadow), *map(repr, limit.numbers))
        return arguments

    def returned(self) -> list[str | float]:
        """As if nothing had been taken."""
        return [number for limit in self.limits for number in limit.settled(Used(request=0))]

    def drop(self, limits: list[_Limit]) -> None:
        """These have nothing to be settled."""
        if limits:
            self.limits = [limit for limit in self.limits if limit not in limits]
            self.keys = [key for limit in self.limits for key in limit.keys]

    def leases(self) -> list[tuple[str, str]]:
        """Sets and members to be renewed while the call goes on."""
        return [(limit.keys[1], limit.member(self.id)) for limit in self.limits if limit.kind != "rate"]


class _Limit:
    """One limit of one call: its keys at the server, and its numbers for the scripts."""

    __slots__ = ("each_s", "keys", "kind", "numbers", "rule", "start_ms")

    def __init__(self, rule: Rule, kind: str, numbers: list[float], *, each_s: float = 0.0, start_ms: int = 0) -> None:
        self.rule, self.kind, self.numbers = rule, kind, numbers
        self.each_s, self.start_ms = each_s, start_ms
        key = f"{PREFIX}:{rule.place}:{start_ms}" if kind == "quota" else f"{PREFIX}:{rule.place}"
        self.keys = (key, f"{key}:held")

    def member(self, hold_id: str) -> str:
        return f"{hold_id}|{self.numbers[1]!r}" if self.kind == "quota" else hold_id

    def settled(self, used: Used) -> tuple[str, str, float]:
        if self.kind == "quota":
            return self.kind, repr(self.numbers[1]), used.tokens if self.rule.kind == "tokens" else used.cost
        if self.kind == "rate":
            cost_s = (used.tokens if self.rule.kind == "tpm" else used.request) * self.each_s
            return self.kind, repr(cost_s - self.numbers[0]), 0
        return self.kind, "0", 0


def _exceeded(hold: ValkeyHold, verdicts: list[str]) -> list[_Limit]:
    """Shadows that were exceeded and are no quotas: what is over a rate was not taken from it."""
    pairs = zip(hold.limits, verdicts, strict=True)
    return [limit for limit, verdict in pairs if verdict[0] != "o" and limit.kind != "quota"]


def _forget(said: Any) -> None:
    """What was owed is asked for once: leases end, and the ledger knows what was spent."""
