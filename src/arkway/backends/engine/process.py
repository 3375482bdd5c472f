"""One engine process: started with nothing but its configuration, watched, started again when it dies.

``Process`` is one life of a child; ``Supervisor`` keeps a model served over many. Ready means that a token was
generated, or of a vocabulary alone that a text was cut. A request that was in flight at two deaths is refused from then
on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from arkway.backends.engine.child import READY_LINE, ChildConfig
from arkway.backends.engine.client import EngineClient, Traits
from arkway.backends.engine.prompt import PromptReader
from arkway.core.errors import ArkwayError, BackendFailed, BackendUnavailable, Quarantined

log = logging.getLogger("arkway")

STDERR_KEPT_BYTES = 4096
STOP_LIMIT_S = 2.0
SUN_PATH_MAX_BYTES = 107
SOCKET_NAME = "e.sock"
"""The engine takes a host name for a Unix socket by this ending."""
DEATHS_TO_QUARANTINE = 2
SUSPECTS_KEPT = 1024
HEALTHY_AFTER_S = 60.0
DEATH_WAIT_S = 1.0
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
COMPLAINT = re.compile(r"llg error:\s*(?:.*?failed to compile JSON schema:\s*)?(.*)")
"""However the grammar engine words it: after this line the answer is free text."""


class Process:
    """One life of the child, made by ``launch``. ``died`` is done when it is over, ``buried`` when nothing is left."""

    def __init__(self, child: asyncio.subprocess.Process, folder: Path, client: EngineClient) -> None:
        self.child = child
        self.client = client
        self.reader = PromptReader(client)
        self.traits = Traits()
        self.complaints: list[str] = []
        self.started_s = time.monotonic()
        self.folder = folder
        self._stderr = b""
        self._listener = asyncio.create_task(self._listen())
        self.died: asyncio.Task[int] = asyncio.create_task(child.wait())
        self.buried: asyncio.Task[int] = asyncio.create_task(self._bury())

    @property
    def alive(self) -> bool:
        return not self.died.done()

    @property
    def last_words(self) -> str:
        """The end of what the child wrote to standard error."""
        return self._stderr.decode(errors="replace").strip()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()

    async def stop(self) -> None:
        """Ends standard input, which the child obeys at once; kills it if it does not."""
        if self.child.stdin is not None:
            self.child.stdin.close()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await asyncio.shield(self.buried)
        except TimeoutError:
            self.kill()
            await self.buried

    async def _bury(self) -> int:
        """After the end: the last words are heard out, connections and socket go."""
        code = await asyncio.shield(self.died)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(self._listener)
        self._listener.cancel()
        await self.client.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code

    async def _listen(self) -> None:
        assert self.child.stderr is not None
        rest = b""
        while piece := await self.child.stderr.read(4096):
            self._stderr = (self._stderr + piece)[-STDERR_KEPT_BYTES:]
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[-STDERR_KEPT_BYTES:]
            for line in lines:
                if found := COMPLAINT.search(line.decode(errors="replace")):
                    self.complaints.append(found[1][:200] or "no reason given")


async def launch(config: ChildConfig, limit_s: float) -> Process:
    """Starts a child and waits until it has shown that it works. Raises BackendUnavailable with the reason.

    ``config`` comes without socket and key; both are made here.
    """
    key = secrets.token_urlsafe(24)
    process = await _spawn(key)
    config = msgspec.structs.replace(config, socket_path=str(process.folder / SOCKET_NAME), api_key=key)
    try:
        async with asyncio.timeout(limit_s):
            await _load(process, config)
    except TimeoutError:
        await _put_down(process)
        raise BackendUnavailable(f"the model did not load within {limit_s:g} seconds") from None
    except BaseException:
        await _put_down(process)
        raise
    return process


async def _spawn(key: str) -> Process:
    """A child that waits for its configuration. What the system refuses (room, descriptors, memory) is said."""
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="ark", dir=_runtime_folder()))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "arkway.backends.engine.child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=child_environment(), start_new_session=True, cwd="/",
        )  # fmt: skip
    except BaseException as error:
        if folder is not None:  # empty, and to walk it would take a descriptor, which may be what is short
            with contextlib.suppress(OSError):
                folder.rmdir()
        if not isinstance(error, OSError):
            raise
        log.warning("the engine process cannot be started: %s", error)
        reason = error.strerror or "no reason given"
        raise BackendUnavailable(f"the system refuses to start the engine process ({reason}); try again") from None
    return Process(child, folder, EngineClient(str(folder / SOCKET_NAME), key))


def child_environment() -> dict[str, str]:
    """What a child needs and nothing else: no secret of ours can leak from a process that does not have it."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed, "LANG": "C.UTF-8", "OMP_WAIT_POLICY": "passive"}


async def _load(process: Process, config: ChildConfig) -> None:
    child = process.child
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(ConnectionError):
        child.stdin.write(msgspec.json.encode(config) + b"\n")
        await child.stdin.drain()
    if await child.stdout.readline() != READY_LINE:
        code = await process.buried
        log.warning("the model file %s does not load: %s", config.model_path, telling_line(process.last_words))
        raise BackendUnavailable(why_not_loaded(config.model_path, code, process.last_words))
    try:
        process.traits = await process.client.traits()
        if config.vocabulary_only:
            await process.client.pieces("ok", special=False)
        else:
            await _generate_one(process.client)
    except ArkwayError as error:
        lack = "cuts no text" if config.vocabulary_only else "generates nothing"
        raise BackendUnavailable(f"the model was loaded but {lack}: {error.message}") from error


async def _generate_one(client: EngineClient) -> None:
    """Health: the model has written a token."""
    ids = await client.ids("ok", special=False, start=True)
    completion = client.complete({"prompt": ids, "n_predict": 1, "cache_prompt": False})
    try:
        async with aclosing(completion.frames()) as frames:
            async for frame in frames:
                if frame.stop and frame.tokens_predicted < 1:
                    raise BackendFailed("no token came")
    finally:
        completion.abandon()


async def _put_down(process: Process) -> None:
    process.kill()
    await asyncio.shield(process.buried)


def why_not_loaded(path: str, code: int, last_words: str) -> str:
    """What is missing or broken, and how to mend it; callers may read it, so it names the file without its folder."""
    name = Path(path).name
    if "libgomp" in last_words:
        return "the engine needs the system library libgomp1: install it (`apt-get install libgomp1`)"
    if "No module named 'xllamacpp'" in last_words:
        return "the embedded engine is not installed: `pip install 'arkway[embedded]'`"
    if code == -signal.SIGILL:
        return "this processor lacks AVX2, which the embedded engine needs; use another machine or an upstream server"
    if code == -signal.SIGKILL:
        return f"the model {name} was killed while loading, most likely for want of memory; use a smaller model"
    if not Path(path).is_file():
        return f"the model file {name} is missing; pull the model again"
    return f"the model file {name} does not load; it may be damaged: pull it again (the server's log has the reason)"


def telling_line(last_words: str) -> str:
    """The line of the child's last words that says most; for the log, since it may hold paths of this machine."""
    lines = [line.strip() for line in last_words.splitlines() if line.strip()]
    telling = [line for line in lines if " E " in line or "error" in line.lower()]
    return (telling or lines or ["no reason given"])[0]


def _runtime_folder() -> str | None:
    """Where sockets are made: the session's runtime folder if there is one, in any case a short path."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        fits = len(folder) + len(f"/arkXXXXXXXX/{SOCKET_NAME}") <= SUN_PATH_MAX_BYTES
        if folder and fits and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


class Supervisor:
    """Keeps one model served: starts on demand, notices death at once, starts again with growing pauses.

    A first start that fails is tried again by the next call; a model that has been served, by itself.
    """

    def __init__(
        self,
        config: Callable[[], ChildConfig],
        *,
        start_limit_s: float,
        hang_limit_s: float,
        backoff_first_s: float,
        backoff_limit_s: float,
        on_death: Callable[[], None],
    ) -> None:
        self._config = config
        self._start_limit_s = start_limit_s
        self._hang_limit_s = hang_limit_s
        self._backoff_first_s = backoff_first_s
        self._backoff_limit_s = backoff_limit_s
        self._on_death = on_death
        self._process: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._failure: tuple[float, str] | None = None
        self._failures = 0
        self._in_flight: Counter[bytes] = Counter()
        self._suspects: dict[bytes, int] = {}
        self._served = False
        self._stopping: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def loaded(self) -> bool:
        """Whether a child runs or a start is under way, the pause before it included."""
        return self._process is not None or self._starting is not None

    @property
    def stopping(self) -> bool:
        """Whether a child that was told to end may still be there."""
        return self._stopping is not None

    @property
    def ready(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def in_flight(self) -> int:
        return self._in_flight.total()

    @property
    def failure(self) -> str:
        """Why the last start failed; empty when it did not."""
        return "" if self._failure is None else self._failure[1]

    @property
    def pid(self) -> int:
        """The child's process id, 0 without one."""
        return self._process.child.pid if self._process is not None else 0

    async def process(self) -> Process:
        """The running child, started if need be. Raises BackendUnavailable with the reason it does not start."""
        await self._settled()
        if self._process is not None and self._process.alive:
            return self._process
        if self._failure is not None and time.monotonic() < self._failure[0]:
            raise BackendUnavailable(self._failure[1])
        starting = self._starting or self._begin_start(0.0)
        await asyncio.wait([starting])
        if starting.cancelled():
            raise BackendUnavailable("the engine is being stopped")
        return starting.result()

    async def brought_down(self, process: Process) -> bool:
        """Whether a broken connection meant the child's death; if so, waits until the death has been dealt with.

        A connection is seen to break a moment before the death that broke it.
        """
        await asyncio.wait([process.died], timeout=DEATH_WAIT_S)
        if process.alive:
            return False
        if self._process is process and self._keeper is not None:
            await asyncio.wait([self._keeper])
        return True

    async def stop(self) -> None:
        """Ends the child; a ``process`` that is asked for meanwhile waits for that end and then starts a new one."""
        if self._stopping is None:
            process, starting, keeper = self._process, self._starting, self._keeper
            self._process = self._starting = self._keeper = None
            self._served = False
            self._stopping = asyncio.create_task(self._end(process, starting, keeper))
        await asyncio.shield(self._stopping)

    async def gone(self) -> None:
        """Waits for the end of a stop that is under way."""
        while self._stopping is not None:
            await asyncio.wait([self._stopping])

    async def _settled(self) -> None:
        """Waits until neither a stop nor a death is being dealt with."""
        await self.gone()
        while self._keeper is not None and not self._keeper.done() and not self.ready and self._starting is None:
            await asyncio.wait([self._keeper])
            await self.gone()

    async def _end(
        self, process: Process | None, starting: asyncio.Task[Process] | None, keeper: asyncio.Task[None] | None
    ) -> None:
        """Ends what ``stop`` found. The keeper goes first: it would start the next child."""
        try:
            for task in (keeper, starting):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            if process is not None:
                await process.stop()
        finally:
            self._failures = 0
            self._stopping = None

    @contextmanager
    def flight(self, fingerprint: bytes) -> Iterator[None]:
        """Around a request that the engine works on. Raises Quarantined for one that was there at two deaths."""
        if self._suspects.get(fingerprint, 0) >= DEATHS_TO_QUARANTINE:
            raise Quarantined("this request brought the engine down twice and is refused until the server restarts")
        self._in_flight[fingerprint] += 1
        try:
            yield
        finally:
            self._in_flight[fingerprint] -= 1
            if self._in_flight[fingerprint] <= 0:
                del self._in_flight[fingerprint]

    def _begin_start(self, pause_s: float) -> asyncio.Task[Process]:
        self._starting = asyncio.create_task(self._start(pause_s))
        self._starting.add_done_callback(self._started)
        return self._starting

    async def _start(self, pause_s: float) -> Process:
        await asyncio.sleep(pause_s)
        process = await launch(self._config(), self._start_limit_s)
        self._failure = None
        self._served = True
        self._process = process
        self._keeper = asyncio.create_task(self._keep(process))
        return process

    def _started(self, starting: asyncio.Task[Process]) -> None:
        """A failed start is told to whoever waits for it. One that ``stop`` has taken over is none of ours."""
        error = None if starting.cancelled() else starting.exception()
        if starting is not self._starting:
            return
        self._starting = None
        if error is None:
            return
        self._failures += 1
        pause_s = self._pause_s()
        reason = error.message if isinstance(error, ArkwayError) else "the engine does not start"
        self._failure = (time.monotonic() + pause_s, reason)
        if self._served:
            self._begin_start(pause_s)

    async def _keep(self, process: Process) -> None:
        """Waits for the child's end, killing it when it hangs; then starts the next."""
        while process.alive:
            await asyncio.wait([process.died], timeout=min(1.0, self._hang_limit_s / 4))
            if process.client.silent_s > self._hang_limit_s:
                process.kill()
        self._blame()
        self._process = None
        self._on_death()
        self.restarts += 1
        lived_s = time.monotonic() - process.started_s
        self._failures = 0 if lived_s > HEALTHY_AFTER_S else self._failures
        pause_s = self._pause_s() if self._failures else 0.0
        self._failures += 1
        self._begin_start(max(pause_s, self._backoff_first_s))

    def _blame(self) -> None:
        for fingerprint in self._in_flight:
            self._suspects[fingerprint] = self._suspects.pop(fingerprint, 0) + 1
        while len(self._suspects) > SUSPECTS_KEPT:
            del self._suspects[next(iter(self._suspects))]

    def _pause_s(self) -> float:
        doubled: float = self._backoff_first_s * 2 ** min(self._failures, 20)
        return min(self._backoff_limit_s, doubled)


def fingerprint(body: dict[str, Any]) -> bytes:
    """What makes two requests the same work for the engine: token ids and sampling, not the slot."""
    same = {key: value for key, value in body.items() if key not in ("id_slot", "cache_prompt")}
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).digest()
