"""A pushing backend, pulled: order, ends, backpressure, and what a closed generator does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from arkway.core.errors import BackendFailed, BackendUnavailable
from arkway.core.events import Delta, Event
from tests.tools.pulled import HIGH_WATER_EVENTS, pulled
from tests.tools.pushing import CALL, DEPLOYMENT, END, WORD, Puppet, asks
from tests.tools.waiting import soon


def source(puppet: Puppet) -> AsyncGenerator[Event, None]:
    return pulled(puppet, DEPLOYMENT, asks(), CALL)


async def test_events_come_in_order_whenever_they_are_pushed() -> None:
    puppet = Puppet()
    events = source(puppet)
    first = asyncio.ensure_future(anext(events))
    await soon(lambda: puppet.asked)
    puppet.last.says((Delta("a"), Delta("b")))
    assert await first == Delta("a")
    puppet.last.says((Delta("c"),))
    puppet.last.says(END)
    puppet.last.ends()
    assert [event async for event in events] == [Delta("b"), Delta("c"), *END]


async def test_nothing_begins_before_the_first_pull() -> None:
    puppet = Puppet()
    events = source(puppet)
    await asyncio.sleep(0)
    assert puppet.asked == []
    await events.aclose()
    assert puppet.asked == []


async def test_a_failure_comes_after_what_came_before_it() -> None:
    puppet = Puppet()
    events = source(puppet)
    first = asyncio.ensure_future(anext(events))
    await soon(lambda: puppet.asked)
    puppet.last.says((Delta("a"), Delta("b")))
    puppet.last.fails(BackendFailed("x"))
    assert (await first, await anext(events)) == (Delta("a"), Delta("b"))
    with pytest.raises(BackendFailed):
        await anext(events)


async def test_what_is_refused_at_once_is_raised() -> None:
    puppet = Puppet()
    puppet.refuses = BackendUnavailable("x")
    with pytest.raises(BackendUnavailable):
        await anext(source(puppet))


@pytest.mark.parametrize("waiting", [True, False])
async def test_closing_it_cancels_the_call(waiting: bool) -> None:
    puppet = Puppet()
    events = source(puppet)
    first = asyncio.ensure_future(anext(events))
    await soon(lambda: puppet.asked)
    if waiting:
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        puppet.last.says(WORD)
        await first
        await events.aclose()
    assert puppet.last.cancelled


async def test_a_slow_puller_pauses_the_backend() -> None:
    puppet = Puppet()
    events = source(puppet)
    first = asyncio.ensure_future(anext(events))
    await soon(lambda: puppet.asked)
    asked = puppet.last
    asked.says([Delta(str(number)) for number in range(HIGH_WATER_EVENTS - 1)])
    assert asked.told == []
    asked.says([Delta("last")])
    assert asked.told == ["pause"]
    got: list[Event] = [await first]
    while "resume" not in asked.told:
        got.append(await anext(events))
    asked.says(END)
    asked.ends()
    got += [event async for event in events]
    assert got == [*(Delta(str(number)) for number in range(HIGH_WATER_EVENTS - 1)), Delta("last"), *END]
