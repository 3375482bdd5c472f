"""One timer for many steps: each step's own deadline, the sum's, and whose cancellation it was."""

from __future__ import annotations

import asyncio

import pytest

from arkway.flow.patience import Patience


async def after(seconds: float, value: str = "") -> str:
    await asyncio.sleep(seconds)
    return value


async def at_once() -> None:
    """A step that does not wait: no timer can come in between."""


async def test_a_step_in_time_gives_its_result() -> None:
    patience = Patience()
    assert await patience.wait(after(0, "a"), 30) == "a"
    patience.close()


async def test_a_step_out_of_time_is_cancelled() -> None:
    ended: list[str] = []

    async def step() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    patience = Patience()
    with pytest.raises(TimeoutError):
        await patience.wait(step(), 0.05)
    patience.close()
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_the_timer_follows_the_deadline_as_it_moves() -> None:
    patience, loop = Patience(), asyncio.get_running_loop()
    await patience.wait(at_once(), 0.05)
    start = loop.time()
    # The timer of the first step goes off in the middle of this one, and has to look again.
    with pytest.raises(TimeoutError):
        await patience.wait(after(60), 0.15)
    assert loop.time() - start >= 0.14
    patience.close()


async def test_a_nearer_deadline_is_met_first() -> None:
    patience = Patience()
    await patience.wait(after(0), 60)
    with pytest.raises(TimeoutError):
        await patience.wait(after(30), 0.05)
    patience.close()


async def test_all_steps_together_have_an_end() -> None:
    patience, loop = Patience(0.2), asyncio.get_running_loop()
    start = loop.time()

    async def steps() -> None:
        while True:
            await patience.wait(after(0.03), 60)

    with pytest.raises(TimeoutError):
        await steps()
    assert loop.time() - start >= 0.15
    patience.close()


async def test_time_between_steps_is_nobodys() -> None:
    patience = Patience()
    await patience.wait(at_once(), 0.03)
    await asyncio.sleep(0.1)
    assert await patience.wait(after(0.01, "b"), 30) == "b"
    patience.close()


async def test_a_cancellation_from_outside_stays_one() -> None:
    patience = Patience()
    waiting = asyncio.ensure_future(patience.wait(after(60), 50))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    patience.close()


async def test_errors_of_a_step_are_its_own() -> None:
    async def fails(error: Exception) -> None:
        raise error

    patience = Patience()
    for error in (ValueError("a"), TimeoutError("the step's own")):
        with pytest.raises(type(error), match=str(error)):
            await patience.wait(fails(error), 30)
    patience.close()
