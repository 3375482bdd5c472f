"""Starts, stops and waits that overlap; what is taken for a hang and what is not."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest

from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.process import Supervisor
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.errors import BackendFailed, BackendUnavailable
from arkway.core.events import Delta
from tests.tools.waiting import soon
from tests.unit.engine.conftest import Bench, card_of, request

pytestmark = pytest.mark.engine
Bench_ = Callable[..., Awaitable[Bench]]
HANG_S = 0.8
TRIES = 4


def supervisor_of(one: Bench) -> Supervisor:
    return one.pool._engines[one.name].supervisor


def children() -> set[int]:
    """Engine processes of ours that still run."""
    found = psutil.Process().children()
    return {child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE and _is_engine(child)}


def _is_engine(child: psutil.Process) -> bool:
    return "arkway.backends.engine.child" in child.cmdline()


async def test_overlapping_calls_that_are_answered_are_no_hang(bench: Bench_, random_model: Path) -> None:
    one = await bench(random_model, hang_limit_s=HANG_S)

    async def ask(end_s: float) -> None:
        while time.monotonic() < end_s:
            await one.ids("hello " * 2000)

    for _ in range(TRIES):
        before = one.pool.status()[0].restarts
        end_s = time.monotonic() + 2.5 * HANG_S
        # A machine that stands still for so long looks like a hang, and fails calls.
        results = await asyncio.gather(*(ask(end_s) for _ in range(3)), return_exceptions=True)
        if one.pool.status()[0].restarts == before:
            assert results == [None] * 3
            return
    pytest.fail("calls that are answered are taken for a hang")


async def test_a_reader_that_takes_its_time_is_no_hang(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, 8192, hang_limit_s=HANG_S)
    for _ in range(TRIES):
        before, deltas = one.pool.status()[0].restarts, 0
        with suppress(BackendFailed):
            async with aclosing(one.stream(request(max_tokens=40))) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        deltas += 1
                        await asyncio.sleep(2.5 * HANG_S if deltas == 1 else 0)
        if one.pool.status()[0].restarts == before:
            assert deltas > 1
            return
    pytest.fail("a reader that takes its time is taken for a hang")


def stands_still(pid: int) -> bool:
    """Whether the signal to stop has reached every thread."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


async def test_a_start_during_a_stop_waits_for_the_end(bench: Bench_, random_model: Path) -> None:
    """The child does not obey, so the stop takes its two seconds: nobody gets the dying child, none is orphaned."""
    one = await bench(random_model)
    supervisor = supervisor_of(one)
    old = supervisor.pid
    os.kill(old, signal.SIGSTOP)
    await soon(lambda: stands_still(old))
    stopping = asyncio.create_task(supervisor.stop())
    await soon(lambda: supervisor.stopping)
    assert (supervisor.loaded, supervisor.ready, supervisor.stopping) == (False, False, True)
    assert (await one.run(request("x", max_tokens=1))).usage.completion_tokens == 1
    assert stopping.done()
    assert children() == {supervisor.pid}
    assert supervisor.pid != old
    await supervisor.stop()
    assert children() == set()


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.02, 0.1])
async def test_stops_and_starts_in_any_order_leave_one_child(bench: Bench_, random_model: Path, pause_s: float) -> None:
    one = await bench(random_model)
    supervisor = supervisor_of(one)
    works = []
    for work in (supervisor.stop, supervisor.process, supervisor.stop, supervisor.process, supervisor.process):
        works.append(asyncio.create_task(work()))
        await asyncio.sleep(pause_s)
    results = await asyncio.gather(*works, return_exceptions=True)
    assert all(isinstance(each, BackendUnavailable) for each in results if isinstance(each, BaseException))
    process = await supervisor.process()
    assert children() == {process.child.pid}
    await supervisor.stop()
    assert children() == set()


async def test_a_cancelled_stop_still_ends_the_child(bench: Bench_, random_model: Path) -> None:
    supervisor = supervisor_of(await bench(random_model))
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    await supervisor.gone()
    assert children() == set()


async def test_two_first_callers_need_the_memory_once(random_model: Path) -> None:
    card = card_of("one")
    models = {card.served_name: EngineModel(random_model, card)}
    pool = EnginePool(models, EngineSettings(threads=1, memory_bytes=160 * 1024 * 1024))
    await asyncio.gather(*(pool.load(card.served_name) for _ in range(3)))
    assert len(children()) == 1
    await pool.aclose()


async def test_what_the_system_refuses_is_unavailable_and_leaves_nothing(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ark"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    card = card_of("m")
    settings = EngineSettings(threads=1, backoff_first_s=30.0)
    pool = EnginePool({card.served_name: EngineModel(random_model, card)}, settings)
    supervisor = pool._engines[card.served_name].supervisor
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(BackendUnavailable, match="Too many open files") as raised:
            await supervisor.process()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "/" not in raised.value.message
    assert list(folder.iterdir()) == []
    assert pool.status()[0].failure == raised.value.message
    with pytest.raises(BackendUnavailable, match="Too many open files"):
        await supervisor.process()
    await pool.aclose()
    shutil.rmtree(folder)


async def test_leaving_right_after_the_turn_came_keeps_the_slot_until_the_engine_hung_up(
    bench: Bench_, slow_model: Path
) -> None:
    one = await bench(slow_model, 8192, slots=1)
    text = "y" * 400
    await one.run(request(text, max_tokens=1), account="a")
    task = asyncio.create_task(one.run(request(text, max_tokens=4), account="b"))
    while not one.pool.status()[0].in_flight:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert one.pool.status()[0].slots_busy == 1
    await soon(lambda: one.pool.status()[0].slots_busy == 0)
    other = await one.run(request(text, max_tokens=1), account="b")
    assert other.usage.prompt_tokens > 400


async def test_a_prefix_is_never_found_by_another_account(bench: Bench_, random_model: Path) -> None:
    """B takes A's slot and leaves before anything was sent; the engine still holds A's prefix."""
    one = await bench(random_model, slots=1)
    gate = one.pool._engines[one.name].gate
    asked = request("the same long words " * 10, max_tokens=1)
    await one.run(asked, account="a")
    assert (await one.run(asked, account="a")).usage.cached_tokens > 0
    gate.leave(await gate.enter(("b", "k")))
    assert (await one.run(asked, account="b")).usage.cached_tokens == 0
    assert (await one.run(asked, account="b")).usage.cached_tokens > 0
