"""The actions of one call: all at once, each within its deadline, each an entry of the ledger's.

What fails or is late is done without, and told to the log and the observer; nothing here is an error of the call's.
Whatever ends an action settles it in the same step, even if the plugin itself does not stop when it is told to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from arkway.core.bot import ActionKind, Findings, Quest
from arkway.core.caller import Call
from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError
from arkway.core.transient import Transient
from arkway.ports import Attempt, Ledger, Outcome, Settlement
from arkway.ports.lookup import Plugin

log = logging.getLogger("arkway.bot")

DIALECT = "bot"
OPERATION = "action"

Step = Literal["wanted", "find"]
Result = Literal["found", "nothing", "unwanted", "late", "failed", "absent", "cancelled"]


class PluginCall(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one action of one call, for metrics. ``step``: how far it got. ``source`` is the plugin's."""

    kind: ActionKind
    source: str
    step: Step
    result: Result
    duration_s: float


PluginObserver = Callable[[PluginCall], None]


class Desk(msgspec.Struct, frozen=True):
    """What every call of every bot looks things up with. ``tasks``: plugins at work, those that were given up too."""

    plugins: Callable[[], Mapping[ActionKind, Plugin]]
    ledger: Ledger
    clock_ms: Callable[[], int]
    observer: PluginObserver
    tasks: set[asyncio.Task[None]]


class Errand(Transient):
    """One action that is, or was, being taken. ``certain``: the plugin is not asked whether it would help."""

    quest: Quest
    certain: bool
    plugin: Plugin | None = None
    step: Step = "wanted"
    result: Result | None = None
    findings: Findings | None = None
    attempt: Attempt | None = None
    began_ms: int = 0
    ended_ms: int = 0


_OUTCOMES: Mapping[Result, Outcome] = {"found": "done", "nothing": "done", "cancelled": "client_abort"}


class Errands:
    """Those of one call, over all its rounds. ``endpoint_id`` is the bot's."""

    def __init__(self, desk: Desk, call: Call, endpoint_id: str, user: str) -> None:
        self._desk, self._call, self._endpoint_id, self._user = desk, call, endpoint_id, user
        self._running: dict[asyncio.Task[None], Errand] = {}
        self._entries = 0

    async def run(self, errands: Sequence[Errand], begun: Callable[[], None]) -> None:
        """Takes these actions; each has its ``result`` then. ``begun`` is called whenever a search really begins."""
        plugins = self._desk.plugins()
        for errand in errands:
            errand.plugin = plugins.get(errand.quest.action.kind)
            errand.began_ms = self._desk.clock_ms()
            if errand.plugin is None:
                self._end(errand, "absent")
        loop = asyncio.get_running_loop()
        due_s: dict[asyncio.Task[None], float] = {}
        for errand in errands:
            if errand.plugin is not None:
                task = loop.create_task(self._run(errand, errand.plugin, begun))
                self._keep(task)
                self._running[task] = errand
                due_s[task] = loop.time() + errand.quest.action.deadline_s
        try:
            await self._wait(due_s)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """All of them, now."""
        running, self._running = self._running, {}
        for task, errand in running.items():
            self._end(errand, "cancelled")
            task.cancel()

    async def _wait(self, due_s: Mapping[asyncio.Task[None], float]) -> None:
        """Until each is over or late."""
        loop = asyncio.get_running_loop()
        while self._running:
            next_s = min(due_s[task] for task in self._running)
            patience_s = max(0.0, next_s - loop.time())
            await asyncio.wait(self._running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._running if task.done() or due_s[task] <= loop.time()]:
                errand = self._running.pop(task)
                if not task.done():
                    self._end(errand, "late")
                    task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        """The event loop itself holds no task: one that nobody waits for could vanish half-way."""
        tasks = self._desk.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run(self, errand: Errand, plugin: Plugin, begun: Callable[[], None]) -> None:
        try:
            if not errand.certain and not await plugin.wanted(errand.quest):
                self._end(errand, "unwanted")
                return
            if errand.result is not None:
                return
            self._enter(errand, plugin)
            begun()
            findings = await plugin.find(errand.quest)
        except asyncio.CancelledError:
            self._end(errand, "cancelled")
            raise
        except ArkwayError as error:
            self._end(errand, "failed", type(error).__name__)
        except Exception:
            log.exception("internal error in a plugin", extra={"request_id": self._call.request_id})
            self._end(errand, "failed", "InternalError")
        else:
            if errand.result is None:
                errand.findings = findings
                self._end(errand, "found" if findings.snippets else "nothing")

    def _enter(self, errand: Errand, plugin: Plugin) -> None:
        """The opening entry, before the plugin works. Raises StoreUnavailable."""
        call, now_ms = self._call, self._desk.clock_ms()
        errand.step = "find"
        place = f"{call.request_id}-a{self._entries}"
        who = (call.account, call.project, call.key_id, self._endpoint_id)
        attempt = Attempt(place, call.request_id, *who, plugin.source, DIALECT, OPERATION, now_ms, caller=self._user)
        self._desk.ledger.reserve(attempt)
        self._entries += 1
        errand.attempt = attempt

    def _end(self, errand: Errand, result: Result, error: str = "") -> None:
        """Once; what comes later changes nothing."""
        if errand.result is not None:
            return
        errand.result = result
        errand.ended_ms = max(self._desk.clock_ms(), errand.began_ms)
        action, plugin, step = errand.quest.action, errand.plugin, errand.step
        source = plugin.source if plugin is not None else ""
        try:
            self._settle(errand, result, error)
            seconds = (errand.ended_ms - errand.began_ms) / 1000
            self._desk.observer(
                PluginCall(kind=action.kind, source=source, step=step, result=result, duration_s=seconds)
            )
        except Exception:
            log.exception("an action could not be settled", extra={"request_id": self._call.request_id})
        if result in ("late", "failed", "absent"):
            self._tell(errand, error)

    def _settle(self, errand: Errand, result: Result, error: str) -> None:
        attempt, errand.attempt = errand.attempt, None
        if attempt is None:
            return
        closed_ms = max(errand.ended_ms, attempt.opened_ms)
        outcome = _OUTCOMES.get(result, "upstream_error")
        failure = error or ("BackendTimeout" if result == "late" else "")
        took_ms = closed_ms - attempt.opened_ms
        settlement = Settlement(outcome, Usage(provenance="counted"), closed_ms, duration_ms=took_ms, error=failure)
        self._desk.ledger.settle(attempt.id, settlement)

    def _tell(self, errand: Errand, error: str) -> None:
        facts: dict[str, Any] = {
            "request_id": self._call.request_id,
            "bot": self._endpoint_id,
            "action": errand.quest.action.kind,
            "step": errand.step,
            "result": errand.result,
            "error": error,
        }
        log.warning("a bot answers without one of its actions", extra=facts)
