"""The one task behind all signs of life: who is skipped, and that one stream's trouble is not another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from arkway.core.raw import ClientGone
from arkway.http.pulse import Beat, Pulse


class Client:
    """A writer that keeps what it is given, and does first what ``acts`` says."""

    def __init__(self, acts: Callable[[], None] = lambda: None, wait_s: float = 0.0) -> None:
        self.acts = acts
        self.wait_s = wait_s
        self.written: list[bytes] = []

    async def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        raise AssertionError("a stream has begun")

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        raise AssertionError("a stream has begun")

    async def write(self, data: bytes) -> None:
        self.acts()
        await asyncio.sleep(self.wait_s)
        self.written.append(data)

    async def finish(self) -> None:
        raise AssertionError("a heartbeat ends nothing")


def beat(client: Client) -> Beat:
    return Beat(client, lambda: b"beat")


async def test_a_stream_that_ended_meanwhile_gets_nothing() -> None:
    pulse = Pulse(0.02)
    beats: list[Beat] = []

    def end_the_other(own: int) -> Callable[[], None]:
        return lambda: pulse.remove(beats[1 - own])

    clients = [Client(end_the_other(place), wait_s=0.01) for place in range(2)]
    beats += map(beat, clients)
    for one in beats:
        pulse.add(one)
    await asyncio.sleep(0.15)
    await pulse.aclose()
    # Whichever was first has ended the other, which was due in the same round.
    assert sorted(bool(client.written) for client in clients) == [False, True]


async def test_a_stream_that_speaks_gets_nothing() -> None:
    pulse, client = Pulse(0.05), Client()
    own = beat(client)
    pulse.add(own)
    for _ in range(10):
        await own.write(b"own")
        await asyncio.sleep(0.02)
    await pulse.aclose()
    assert set(client.written) == {b"own"}


async def test_a_stream_in_the_middle_of_a_write_gets_nothing() -> None:
    pulse, client = Pulse(0.02), Client(wait_s=0.15)
    own = beat(client)
    pulse.add(own)
    await own.write(b"own")
    pulse.remove(own)
    await pulse.aclose()
    assert client.written == [b"own"]


async def test_one_that_left_does_not_stop_the_others() -> None:
    def left() -> None:
        raise ClientGone

    pulse, gone, here = Pulse(0.02), Client(left), Client()
    pulse.add(beat(gone))
    pulse.add(beat(here))
    await asyncio.sleep(0.2)
    await pulse.aclose()
    assert gone.written == []
    assert len(here.written) >= 2


async def test_the_task_ends_with_the_last_stream_and_begins_again() -> None:
    pulse = Pulse(0.01)
    tasks = len(asyncio.all_tasks())
    for _ in range(2):
        own = beat(Client())
        pulse.add(own)
        assert len(asyncio.all_tasks()) == tasks + 1
        pulse.remove(own)
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == tasks
    await pulse.aclose()


@pytest.mark.parametrize("count", [1000])
async def test_a_thousand_silent_streams_cost_one_task(count: int) -> None:
    pulse, clients = Pulse(0.05), [Client() for _ in range(count)]
    tasks = len(asyncio.all_tasks())
    for client in clients:
        pulse.add(beat(client))
    assert len(asyncio.all_tasks()) == tasks + 1
    await asyncio.sleep(0.4)
    await pulse.aclose()
    assert all(client.written for client in clients)
