"""A backend behind moderation: what goes in is searched before it begins, what comes out before it goes on.

Without a strategy for an endpoint a call goes straight through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from arkway.backends.moderation.asked import is_long, question, searched, shown
from arkway.backends.moderation.asking import Judge, ModeratorSilent
from arkway.backends.moderation.filtering import Filter
from arkway.backends.moderation.gate import Gate
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.settings import Mode, Stage
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.wrapping import Awaiting, Passing, expire
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, InputBlocked
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Pushing, Running, Sink

BROKEN_OFF = "the call was broken off while it was looked at"

Count = Callable[[Stage, str], None]


def uncounted(stage: Stage, action: str) -> None:
    """Nobody counts."""


class Moderated:
    """Implements `arkway.ports.Pushing` over a backend, and `Heeding` where that does.

    ``strategy_of`` gives the strategy of a call, None = none. ``count`` is told what became of each stage of a call
    that has one: ``allow``, ``mask`` or ``block``, and ``fail_open`` or ``fail_closed`` for each verdict that did not
    come.
    """

    def __init__(
        self, inner: Pushing, strategy_of: Callable[[Deployment], Strategy | None], count: Count = uncounted
    ) -> None:
        self._inner, self._strategy_of, self._count = inner, strategy_of, count
        if (heeded := getattr(inner, "heeded", None)) is not None:
            self.heeded = heeded

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        """As the backend's. Raises InputBlocked as well."""
        strategy = self._strategy_of(deployment)
        if strategy is None:
            return self._inner.start(deployment, request, call, sink)
        scans = strategy.scans("input")
        if strategy.asks("input") or (scans and is_long(request)):

            def begin(allowed: ChatRequest) -> Running:
                self._count("input", "allow" if allowed is request else "mask")
                return self._begin(strategy, deployment, allowed, call, sink)

            return Awaiting(partial(self._allowed, strategy, request), begin, sink, call.request_id, BROKEN_OFF)
        if scans:
            request = self._searched(strategy, request)
        return self._begin(strategy, deployment, request, call, sink)

    async def _allowed(self, strategy: Strategy, request: ChatRequest) -> ChatRequest:
        """Raises InputBlocked, ModeratorSilent."""
        try:
            if strategy.scans("input"):
                request = await _searched_beside(strategy, request)
            if strategy.judge is not None and strategy.asks("input"):
                await self._judged(strategy.judge, request)
        except InputBlocked:
            self._count("input", "block")
            raise
        return request

    async def _judged(self, judge: Judge, request: ChatRequest) -> None:
        verdict = await judge.verdict_on("input", shown(request))
        if verdict.by != "moderator":
            self._count("input", f"fail_{verdict.by}")
            if not verdict.allowed:
                raise ModeratorSilent
        elif not verdict.allowed:
            raise InputBlocked

    def _searched(self, strategy: Strategy, request: ChatRequest) -> ChatRequest:
        try:
            found = searched(strategy, request)
        except InputBlocked:
            self._count("input", "block")
            raise
        self._count("input", "allow" if found is request else "mask")
        return found

    def _begin(
        self, strategy: Strategy, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink
    ) -> Running:
        if not strategy.scans("output") and not strategy.asks("output"):
            return self._inner.start(deployment, request, call, sink)
        leaving = Leaving(strategy, request, sink, self._count)
        leaving.began(self._inner.start(deployment, request, call, leaving))
        return leaving


async def _searched_beside(strategy: Strategy, request: ChatRequest) -> ChatRequest:
    if is_long(request):
        return await asyncio.to_thread(searched, strategy, request)
    return searched(strategy, request)


class Leaving(Passing):
    """One answer under way: implements `arkway.ports.Sink` for the backend and `Running` for who waits for it."""

    def __init__(self, strategy: Strategy, request: ChatRequest, sink: Sink, count: Count) -> None:
        super().__init__()
        self._sink, self._count = sink, count
        self._choices = request.n
        self._filter: Filter | None = None
        self._gate: Gate | None = None
        self._blocked = self._cut = self._over = False
        if strategy.scans("output"):
            is_json = request.response_format.kind != "text"
            self._filter = Filter(strategy, self._hit, scored=request.logprobs, json=is_json)
        if strategy.judge is not None and strategy.asks("output"):
            mode: Mode = strategy.judge.settings.mode
            if not request.stream:
                mode = "final"  # nobody sees a part of it
            self._gate = Gate(strategy.judge, mode, question(request), request.n, self._send, self._ended, self._judged)

    # The backend's side

    def events(self, batch: Sequence[Event]) -> None:
        if self._over:
            return
        found = self._filter
        events = batch if found is None else found.passed(batch)
        if events:
            self._pass(events)
        if self._cut and found is not None:
            self._cut = False
            if len(found.ended) >= self._choices:  # nothing more is wanted of the backend
                self._finish()

    def ended(self) -> None:
        self._running = None
        self._finish()

    def failed(self, error: ArkwayError) -> None:
        self._running = None
        self._ended(error)

    # The waiting side

    def cancel(self) -> None:
        self._leave()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long."""
        running, self._running = self._running, None
        self._leave()
        if running is not None:
            expire(running)

    # Ours

    def _pass(self, events: Sequence[Event]) -> None:
        if self._gate is not None:
            self._gate.put(events)
        else:
            self._sink.events(events)

    def _send(self, events: Sequence[Event]) -> None:
        if not self._over:
            self._sink.events(events)

    def _finish(self) -> None:
        """Everything that there will be has been passed."""
        if self._over:
            return
        if self._gate is not None:
            self._stop_backend()
            self._gate.complete()
        else:
            self._ended(None)

    def _ended(self, error: ArkwayError | None) -> None:
        if self._over:
            return
        masks = self._filter is not None and self._filter.masks
        self._leave()
        if error is not None:
            self._sink.failed(error)
            return
        if not self._blocked:
            self._count("output", "mask" if masks else "allow")
        self._sink.ended()

    def _leave(self) -> None:
        self._over = True
        gate, self._gate, self._filter = self._gate, None, None  # nothing that holds this is left to the collector
        if gate is not None:
            gate.close()
        self._stop_backend()

    def _stop_backend(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _hit(self, hit: Hit) -> None:
        self._blocked = self._cut = True
        self._count("output", "block")

    def _judged(self, action: str) -> None:
        if action == "block":
            self._blocked = True
        self._count("output", action)
