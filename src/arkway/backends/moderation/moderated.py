"""A backend behind moderation: what goes in is searched before it begins, what comes out before it goes on.

Without a strategy for an endpoint a call goes straight through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from arkway.backends.moderation.asked import is_long, question, searched, told
from arkway.backends.moderation.asking import ModeratorSilent
from arkway.backends.moderation.filtering import Filter
from arkway.backends.moderation.gate import Gate
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.settings import Mode, Stage
from arkway.backends.moderation.strategy import Strategy
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed, InputBlocked, InternalError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Pushing, Running, Sink

log = logging.getLogger("arkway")

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
            entering = Entering(strategy, sink, self._count, call.request_id)
            entering.begin(request, lambda allowed: self._begin(strategy, deployment, allowed, call, sink))
            return entering
        if scans:
            request = self._searched(strategy, request)
        return self._begin(strategy, deployment, request, call, sink)

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
        leaving.running = self._inner.start(deployment, request, call, leaving)
        return leaving


class Entering:
    """Implements `arkway.ports.Running` for a call whose request waits to be let in."""

    def __init__(self, strategy: Strategy, sink: Sink, count: Count, request_id: str) -> None:
        self._strategy, self._sink, self._count, self._request_id = strategy, sink, count, request_id
        self._running: Running | None = None
        self._over = self._paused = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, request: ChatRequest, start: Callable[[ChatRequest], Running]) -> None:
        """``start`` is what follows when the request is let in."""
        self._task = asyncio.get_running_loop().create_task(self._wait(request, start))

    def pause(self) -> None:
        self._paused = True
        if self._running is not None:
            self._running.pause()

    def resume(self) -> None:
        self._paused = False
        if self._running is not None:
            self._running.resume()

    def cancel(self) -> None:
        self._over = True
        if self._running is not None:
            self._running.cancel()
        elif self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long: what runs may want to know why."""
        if self._running is None:
            self.cancel()
        else:
            self._over = True
            getattr(self._running, "expire", self._running.cancel)()

    async def _wait(self, request: ChatRequest, start: Callable[[ChatRequest], Running]) -> None:
        try:
            allowed = await self._allowed(request)
            if self._over:
                return
            self._count("input", "allow" if allowed is request else "mask")
            self._running = start(allowed)
        except ArkwayError as error:
            if isinstance(error, InputBlocked):
                self._count("input", "block")
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(BackendFailed("the call was broken off while it was looked at"))
            raise
        except Exception:
            log.exception("internal error in moderation", extra={"request_id": self._request_id})
            self._fail(InternalError())
        else:
            if self._paused:
                self._running.pause()

    async def _allowed(self, request: ChatRequest) -> ChatRequest:
        """Raises InputBlocked, ModeratorSilent."""
        strategy = self._strategy
        if strategy.scans("input"):
            if is_long(request):
                request = await asyncio.to_thread(searched, strategy, request)
            else:
                request = searched(strategy, request)
        if strategy.judge is not None and strategy.asks("input") and (text := told(request)):
            verdict = await strategy.judge.verdict("input", text)
            if verdict.by != "moderator":
                self._count("input", f"fail_{verdict.by}")
            if not verdict.allowed:
                raise InputBlocked if verdict.by == "moderator" else ModeratorSilent()
        return request

    def _fail(self, error: ArkwayError) -> None:
        if not self._over:
            self._over = True
            self._sink.failed(error)


class Leaving:
    """One answer under way: implements `arkway.ports.Sink` for the backend and `Running` for who waits for it."""

    def __init__(self, strategy: Strategy, request: ChatRequest, sink: Sink, count: Count) -> None:
        self._sink, self._count = sink, count
        self._choices = request.n
        self._filter = Filter(strategy, self._hit, scored=request.logprobs) if strategy.scans("output") else None
        self._gate: Gate | None = None
        self._blocked = self._cut = self._over = False
        self.running: Running | None = None
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
        self.running = None
        self._finish()

    def failed(self, error: ArkwayError) -> None:
        self.running = None
        self._ended(error)

    # The waiting side

    def pause(self) -> None:
        if self.running is not None:
            self.running.pause()

    def resume(self) -> None:
        if self.running is not None:
            self.running.resume()

    def cancel(self) -> None:
        self._leave()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long: what runs may want to know why."""
        running = self.running
        self._leave(silent=True)
        if running is not None:
            getattr(running, "expire", running.cancel)()

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

    def _leave(self, *, silent: bool = False) -> None:
        self._over = True
        gate, self._gate, self._filter = self._gate, None, None  # nothing that holds this is left to the collector
        if gate is not None:
            gate.close()
        if not silent:
            self._stop_backend()

    def _stop_backend(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.cancel()

    def _hit(self, hit: Hit) -> None:
        self._blocked = self._cut = True
        self._count("output", "block")

    def _judged(self, action: str) -> None:
        if action == "block":
            self._blocked = True
        self._count("output", action)
