"""What every Ledger owes the road of a call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.core.chat import Usage
from arkway.ports import Attempt, Ledger, Settlement

if TYPE_CHECKING:
    from tests.contract.ledger.conftest import Recorder


def attempt(number: int) -> Attempt:
    return Attempt(f"a{number}", f"r{number}", "default", "default", "key-1", "ep-1", "m", "v3", "chat", 1000 + number)


def ending(number: int) -> Settlement:
    return Settlement("done", Usage(number, 2 * number, 1, 1, "counted"), 2000 + number, 3, 4, "")


def test_an_ending_is_kept_as_it_was_given(recorder: Recorder) -> None:
    ledger = recorder.open()
    ledger.reserve(attempt(1))
    ledger.checkpoint("a1", 5, 16)
    ledger.settle("a1", ending(1))
    assert recorder.settled() == {"a1": ending(1)}


def test_a_checkpoint_is_no_ending(recorder: Recorder) -> None:
    ledger = recorder.open()
    ledger.reserve(attempt(1))
    ledger.checkpoint("a1", 5, 16)
    assert recorder.settled() == {}


def test_every_method_is_synchronous(recorder: Recorder) -> None:
    ledger = recorder.open()
    for method in (ledger.reserve, ledger.checkpoint, ledger.settle):
        assert not inspect.iscoroutinefunction(method)


def test_attempts_from_many_threads_do_not_mix(recorder: Recorder) -> None:
    ledger = recorder.open()

    def call(number: int) -> None:
        ledger.reserve(attempt(number))
        ledger.checkpoint(f"a{number}", number, number)
        ledger.settle(f"a{number}", ending(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(300)))
    assert recorder.settled() == {f"a{number}": ending(number) for number in range(300)}


async def test_a_cancelled_stream_is_settled_in_its_finally(recorder: Recorder) -> None:
    ledger = recorder.open()
    running = asyncio.Event()

    async def stream() -> AsyncGenerator[int, None]:
        ledger.reserve(attempt(1))
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            ledger.settle("a1", ending(1))

    async def consume() -> None:
        async with aclosing(stream()) as tokens:
            async for _ in tokens:
                running.set()

    task = asyncio.create_task(consume())
    await running.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert recorder.settled() == {"a1": ending(1)}


steps = st.lists(
    st.tuples(st.sampled_from(["reserve", "checkpoint", "settle", "restart"]), st.integers(0, 5)), max_size=40
)


class Model:
    """What a ledger that loses nothing would hold."""

    def __init__(self) -> None:
        self.open: dict[str, tuple[int, int]] = {}
        self.closed: dict[str, Settlement] = {}
        self.interrupted: dict[str, tuple[int, int]] = {}

    def play(self, ledger: Ledger, step: str, number: int, moment: int) -> None:
        name = f"a{number}"
        if step == "reserve" and name not in {*self.open, *self.closed, *self.interrupted}:
            ledger.reserve(attempt(number))
            self.open[name] = (0, 0)
        elif step == "checkpoint" and name in self.open:
            ledger.checkpoint(name, moment, 2 * moment)
            self.open[name] = (moment, 2 * moment)
        elif step == "settle" and name in self.open:
            ledger.settle(name, ending(number))
            del self.open[name]
            self.closed[name] = ending(number)

    def restart(self) -> None:
        self.interrupted |= self.open
        self.open = {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(played=steps)
def test_any_history_with_restarts_is_kept(
    played: list[tuple[str, int]], fresh_journal: Callable[[], Recorder]
) -> None:
    recorder = fresh_journal()
    model, ledger = Model(), recorder.open()
    for moment, (step, number) in enumerate(played):
        if step == "restart":
            recorder.close()
            model.restart()
            ledger = recorder.open()
        else:
            model.play(ledger, step, number, moment)
    recorder.close()
    model.restart()
    recorder.open()
    found = recorder.settled()
    recorder.close()
    assert {name: end for name, end in found.items() if end.outcome == "done"} == model.closed
    left = {name: end for name, end in found.items() if end.outcome == "interrupted"}
    assert {
        name: (end.usage.prompt_tokens, end.usage.completion_tokens) for name, end in left.items()
    } == model.interrupted
    assert all(end.usage.provenance == "counted" for end in left.values())


def test_a_restart_closes_what_was_open(recorder: Recorder) -> None:
    if not recorder.survives:
        pytest.skip("lives in memory")
    ledger = recorder.open()
    ledger.reserve(attempt(1))
    ledger.reserve(attempt(2))
    ledger.checkpoint("a2", 5, 32)
    recorder.close()
    recorder.open()
    assert recorder.settled()["a1"].usage == Usage(0, 0, provenance="counted")
    assert recorder.settled()["a2"].usage == Usage(5, 32, provenance="counted")
    assert {end.outcome for end in recorder.settled().values()} == {"interrupted"}
