"""The one timer behind all signs of life: who is skipped, and that one stream's trouble is not another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import pytest

from arkway.http.pulse import Pulse


class Stream:
    """A stream that was silent since it began, and does what ``acts`` says when it beats."""

    def __init__(self, acts: Callable[[], None] = lambda: None) -> None:
        self.acts = acts
        self.last_s = monotonic()
        self.beats = 0
        self.beaten = asyncio.Event()

    def beat(self) -> None:
        self.beats += 1
        self.beaten.set()
        self.acts()


async def test_a_stream_that_ended_meanwhile_gets_nothing() -> None:
    pulse = Pulse(0.02)
    streams: list[Stream] = []

    def end_the_other(own: int) -> Callable[[], None]:
        return lambda: pulse.remove(streams[1 - own])

    streams += [Stream(end_the_other(place)) for place in range(2)]
    for one in streams:
        one.last_s = 0.0
        pulse.add(one)
    await asyncio.wait([asyncio.create_task(one.beaten.wait()) for one in streams], return_when="FIRST_COMPLETED")
    pulse.close()
    # Whichever was first has ended the other, which was due in the same round.
    assert sorted(bool(one.beats) for one in streams) == [False, True]


async def test_a_stream_that_speaks_gets_nothing() -> None:
    pulse, silent, speaking = Pulse(0.02), Stream(), Stream()
    speaking.last_s = float("inf")
    pulse.add(silent)
    pulse.add(speaking)
    await asyncio.wait_for(silent.beaten.wait(), 30)
    pulse.close()
    assert not speaking.beats


async def test_a_silent_stream_is_given_sign_after_sign() -> None:
    pulse, stream = Pulse(0.01), Stream()
    pulse.add(stream)
    for _ in range(3):
        await asyncio.wait_for(stream.beaten.wait(), 30)
        stream.beaten.clear()
    pulse.close()
    assert stream.beats >= 3


async def test_nothing_follows_the_close() -> None:
    pulse, stream = Pulse(0.01), Stream()
    pulse.add(stream)
    pulse.close()
    pulse.add(stream)
    await asyncio.sleep(0.05)
    assert not stream.beats


async def test_no_stream_costs_a_task() -> None:
    pulse, tasks = Pulse(0.01), len(asyncio.all_tasks())
    streams = [Stream() for _ in range(1000)]
    for stream in streams:
        pulse.add(stream)
    assert len(asyncio.all_tasks()) == tasks
    for stream in streams:
        await asyncio.wait_for(stream.beaten.wait(), 30)
    pulse.close()


@pytest.mark.parametrize("rounds", [2])
async def test_the_timer_ends_with_the_last_stream_and_begins_again(rounds: int) -> None:
    pulse = Pulse(0.01)
    for _ in range(rounds):
        stream = Stream()
        pulse.add(stream)
        await asyncio.wait_for(stream.beaten.wait(), 30)
        pulse.remove(stream)
        await asyncio.sleep(0.05)
        assert stream.beats
    pulse.close()
