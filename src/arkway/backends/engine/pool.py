"""All embedded engines of one server: started on demand, stopped when idle, within one processor and memory budget."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from arkway.backends.engine.chat import Engine
from arkway.backends.engine.child import ChildConfig
from arkway.backends.engine.cpus import usable_cpus
from arkway.backends.engine.footprint import footprint_bytes, memory_cap_bytes, projector_bytes
from arkway.backends.engine.settings import MIB, EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import Tokenized, TokenizeRequest
from arkway.core.errors import BackendUnavailable, Overloaded
from arkway.core.events import Event
from arkway.core.model import Deployment

CONTEXT_STEP = 256
VOCABULARY_ALONE: Mapping[str, Any] = {
    "vocabulary_only": True,
    "context_tokens": CONTEXT_STEP,
    "slots": 1,
    "threads": 1,
    "batch_threads": 1,
    "projector_path": "",
}
"""What of a child's configuration is otherwise where it only cuts texts."""
SMALL_MACHINE_CPUS = 4
IMAGE_BATCH_TOKENS = 512
"""Some models read an image as a whole: all of its tokens have to be in one batch."""


class EngineStatus(msgspec.Struct, frozen=True):
    """One engine, for readiness and metrics. ``failure`` says why the last start failed."""

    name: str
    loaded: bool
    ready: bool
    queue: int
    in_flight: int
    slots_busy: int
    restarts: int
    pid: int
    failure: str


class EnginePool:
    """Implements `arkway.ports.Backend`, Tokenizer and Classifier for the models it holds, by served name."""

    def __init__(self, models: Mapping[str, EngineModel], settings: EngineSettings | None = None) -> None:
        self._settings = settings or EngineSettings()
        self._engines = {name: self._engine(model) for name, model in models.items()}
        self._vocabularies: dict[str, Engine] = {}
        self._memory_cap = memory_cap_bytes(self._settings.memory_bytes)
        self._leaving: dict[Engine, asyncio.Task[None]] = {}
        self._loading = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None

    def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """See `arkway.ports.Backend`."""
        return self._chat(deployment.card.served_name, request, call)

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        """See `arkway.ports.Tokenizer`."""
        engine = self._found(deployment.card.served_name)
        with engine.use():
            await self._make_room(engine)
            return await engine.tokenize(request)

    async def lend(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        """As `tokenize`, for a model that runs elsewhere and has the same tokens: by the engine where that is loaded,
        else by a child that has read the vocabulary and no weights, and takes no part in the memory cap.
        """
        engine = self._found(deployment.card.served_name)
        if not engine.supervisor.loaded:
            engine = self._vocabulary(deployment.card.served_name, engine.model)
            self._start_reaper()
        with engine.use():
            return await engine.tokenize(request)

    async def classify(self, deployment: Deployment, request: ClassifyRequest, call: Call) -> ClassifyReply:
        """See `arkway.ports.Classifier`."""
        engine = self._found(deployment.card.served_name)
        with engine.use():
            await self._make_room(engine)
            return await engine.classify(request, call)

    async def load(self, name: str) -> None:
        """Loads a model now. Raises BackendUnavailable with the reason it does not load."""
        engine = self._found(name)
        with engine.use():
            await self._make_room(engine)
            await engine.supervisor.process()

    async def aclose(self) -> None:
        """Ends every engine."""
        if self._reaper is not None:
            self._reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reaper
        await asyncio.gather(*(engine.supervisor.stop() for engine in self._all()))

    def add(self, name: str, model: EngineModel) -> None:
        """Takes in a model that was installed meanwhile, or has another file, projector or card than before.

        Calls that begin from now on go to what is new; the engine of before ends when its calls are over. For the event
        loop. The mapping is replaced, not changed: others may be walking through it.
        """
        engine = self._engines.get(name)
        if engine is None or engine.model != model:
            self._leave(name)
            self._engines = {**self._engines, name: self._engine(model)}

    def keep(self, names: Collection[str]) -> None:
        """Lets go of every other model: no call finds it any more, and its engine ends when its calls are over."""
        gone = self._engines.keys() - set(names)
        for name in gone:
            self._leave(name)
        self._engines = {name: engine for name, engine in self._engines.items() if name not in gone}

    def adjust(self, *, queue_limit: int, queue_wait_s: float, idle_stop_s: float) -> None:
        """How many calls may wait, for how long, and when an idle engine stops, from now on; no engine is restarted."""
        self._settings = msgspec.structs.replace(
            self._settings, queue_limit=queue_limit, queue_wait_s=queue_wait_s, idle_stop_s=idle_stop_s
        )
        for engine in self._all():
            engine.adjust(queue_limit, queue_wait_s)

    def status(self) -> tuple[EngineStatus, ...]:
        return tuple(_status(name, engine) for name, engine in self._engines.items())

    def troubles(self) -> tuple[str, ...]:
        """A sentence for every model whose last start failed, after a crash too."""
        found = ((name, engine.supervisor.failure) for name, engine in self._engines.items())
        return tuple(f"the model `{name}` does not start: {failure}" for name, failure in found if failure)

    async def _chat(self, name: str, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        engine = self._found(name)
        with engine.use():
            await self._make_room(engine)
            async with aclosing(engine.chat(request, call)) as events:
                async for event in events:
                    yield event

    def _found(self, name: str) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            raise BackendUnavailable(f"the model `{name}` is not installed in the embedded engine; pull it first")
        return engine

    async def _make_room(self, engine: Engine) -> None:
        """Stops idle engines, the longest idle first, until this one fits. Raises BackendUnavailable when it cannot."""
        if engine.supervisor.loaded:
            return
        self._start_reaper()
        async with self._loading:
            await engine.supervisor.gone()
            await self._load(engine)

    async def _load(self, engine: Engine) -> None:
        """One at a time; an engine that was loaded while its caller waited is not counted twice."""
        if engine.supervisor.loaded:
            return
        needed = await self._footprint(engine)
        if needed > self._memory_cap:
            raise BackendUnavailable(
                f"the model needs about {needed // MIB} MiB and the engine may use {self._memory_cap // MIB} MiB; "
                "use a smaller model or raise the memory cap"
            )
        while self._used_bytes() + needed > self._memory_cap:
            await self._evict()
        await engine.supervisor.process()

    async def _evict(self) -> None:
        """Waits for an engine that is ending anyway; else ends the longest idle."""
        engines = (*self._engines.values(), *self._leaving)
        if leaving := next((engine for engine in engines if engine.supervisor.stopping), None):
            await leaving.supervisor.gone()
            return
        idle = [engine for engine in engines if engine.supervisor.loaded and not engine.users]
        if not idle:
            raise Overloaded("every loaded model is busy and there is no memory for another one; try again later", 5.0)
        await min(idle, key=lambda engine: (engine not in self._leaving, engine.used_s)).supervisor.stop()

    def _used_bytes(self) -> int:
        """What is loaded or not yet gone takes; its footprint became known when room was made for it."""
        engines = (*self._engines.values(), *self._leaving)
        return sum(e.footprint_bytes for e in engines if e.supervisor.loaded or e.supervisor.stopping)

    async def _footprint(self, engine: Engine) -> int:
        """In a thread: the file may lie on a slow disk."""
        model = engine.model
        if not engine.footprint_bytes:
            needed = await asyncio.to_thread(
                footprint_bytes, model.path, model.card.context_tokens, self._settings.slots
            )
            if model.projector is not None:
                needed += await asyncio.to_thread(projector_bytes, model.projector)
            engine.footprint_bytes = needed
        return engine.footprint_bytes

    def _leave(self, name: str) -> None:
        """What runs under this name, its vocabulary too, ends by itself; whatever is in memory until then counts."""
        for engine in (self._engines.get(name), self._vocabularies.pop(name, None)):
            if engine is not None and not _is_out(engine):
                self._see_off(engine)

    def _see_off(self, engine: Engine) -> None:
        task = self._leaving[engine] = asyncio.create_task(_end(engine))
        task.add_done_callback(lambda _: self._leaving.pop(engine))

    def _all(self) -> tuple[Engine, ...]:
        """Those of vocabularies among them, and those that are to end."""
        return (*self._engines.values(), *self._vocabularies.values(), *self._leaving)

    def _vocabulary(self, name: str, model: EngineModel) -> Engine:
        """What cuts texts as the model does."""
        there = self._vocabularies.get(name)
        if there is None:
            config = msgspec.structs.replace(child_config(model, self._settings), **VOCABULARY_ALONE)
            there = self._vocabularies[name] = Engine(model, self._settings, lambda: config)
        return there

    def _engine(self, model: EngineModel) -> Engine:
        return Engine(model, self._settings, lambda: self._child_config(model))

    def _child_config(self, model: EngineModel) -> ChildConfig:
        return child_config(model, self._settings, sum(engine.supervisor.loaded for engine in self._engines.values()))

    def _start_reaper(self) -> None:
        if self._settings.idle_stop_s and (self._reaper is None or self._reaper.done()):
            self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        """Stops engines that nobody has used for a while."""
        while True:
            await asyncio.sleep(min(30.0, self._settings.idle_stop_s / 4))
            now_s = time.monotonic()
            for engine in self._all():
                idle_s = now_s - engine.used_s
                if engine.supervisor.loaded and not engine.users and idle_s > self._settings.idle_stop_s:
                    await engine.supervisor.stop()


def child_config(model: EngineModel, settings: EngineSettings, engines: int = 1) -> ChildConfig:
    """What a child is told when ``engines`` share the processors; its socket and its key are for the caller to choose.

    A slot's room is a little more than the card's context, so that our own count decides.
    """
    threads, batch_threads = thread_counts(usable_cpus(), max(1, engines), settings.threads)
    return ChildConfig(
        model_path=str(model.path),
        socket_path="",
        api_key="",
        context_tokens=(model.card.context_tokens // CONTEXT_STEP + 1) * CONTEXT_STEP,
        slots=settings.slots,
        threads=threads,
        batch_threads=batch_threads,
        batch_tokens=max(settings.batch_tokens, IMAGE_BATCH_TOKENS) if model.projector else settings.batch_tokens,
        projector_path=str(model.projector or ""),
    )


def thread_counts(cpus: int, engines: int, configured: int = 0) -> tuple[int, int]:
    """Threads for decoding and for reading prompts, when ``engines`` share the processors.

    Decoding leaves one processor to the server on a machine that has few: spinning threads that wait for each other
    collapse when one of them is displaced.
    """
    if configured:
        return configured, configured
    share = max(1, cpus // engines)
    return max(1, share - 1 if cpus <= SMALL_MACHINE_CPUS else share), share


async def _end(engine: Engine) -> None:
    """For an engine that no call finds any more: the last user that it has is the last one of all."""
    await engine.unused()
    await engine.supervisor.stop()


def _is_out(engine: Engine) -> bool:
    """Nothing of it is in memory, and nobody is about to put it there."""
    return not (engine.users or engine.supervisor.loaded or engine.supervisor.stopping)


def _status(name: str, engine: Engine) -> EngineStatus:
    supervisor = engine.supervisor
    return EngineStatus(
        name=name,
        loaded=supervisor.loaded,
        ready=supervisor.ready,
        queue=engine.gate.line.waiting,
        in_flight=supervisor.in_flight,
        slots_busy=engine.gate.line.busy,
        restarts=supervisor.restarts,
        pid=supervisor.pid,
        failure=supervisor.failure,
    )
