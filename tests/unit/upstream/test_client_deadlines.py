"""Deadlines, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arkway.backends.upstream.client import Client
from arkway.core.errors import BackendTimeout, BackendUnavailable, Overloaded
from tests.tools.raw_upstream import (
    HELLO,
    OK,
    Clock,
    Peer,
    RawUpstream,
    Script,
    Told,
    post,
    saying,
    silent,
    upstream_at,
)
from tests.tools.waiting import soon

STREAM = OK + b"content-length: 100\r\n\r\nsome"


@asynccontextmanager
async def bench(
    script: Script, *, tls: bool = False, connections_max: int = 8
) -> AsyncIterator[tuple[RawUpstream, Client, Clock]]:
    """3 s to connect, 120 s to the head, 60 s between pieces, 30 s of rest."""
    clock = Clock()
    async with RawUpstream(script) as server:
        url = server.url().replace("http:", "https:") if tls else server.url()
        upstream = upstream_at(url, connections_max=connections_max, connect_s=3.0, first_byte_s=120.0, idle_s=60.0)
        client = Client(upstream, clock=clock, sweep_s=0.02)
        yield server, client, clock
        await client.aclose()


async def test_no_head_in_time() -> None:
    async with bench(silent) as (server, client, clock):
        told = post(client)
        await soon(lambda: server.peers and not client.stats().waiting)
        await clock.rest()
        clock.now_s += 119.9
        await clock.rest()
        assert not told.is_over
        clock.now_s += 0.1
        error = (await told.over()).error
        assert isinstance(error, BackendTimeout)
        assert error.message == "the model's server did not begin to answer within 120 seconds"
        await soon(lambda: server.ended == 1)
        assert client.stats().open == 0


async def test_a_head_that_drips_is_no_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        while True:
            await peer.say(b"a: b\r\n")
            await asyncio.sleep(0.05)

    async with bench(script) as (_, client, clock):
        told = Told()
        exchange = client.send(b"POST", b"/x", b"", b"{}", told)
        await soon(lambda: exchange.received)
        await clock.rest()
        clock.now_s += 120
        assert isinstance((await told.over()).error, BackendTimeout)


async def test_a_piece_that_does_not_come_in_time() -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(STREAM)
        await more.wait()
        await peer.say(b"more")
        await peer.gone()

    async with bench(script) as (_, client, clock):
        told = post(client)
        await soon(lambda: told.pieces)
        await clock.rest()
        clock.now_s += 59.9
        await clock.rest()
        more.set()
        await soon(lambda: told.body == b"somemore")
        await clock.rest()
        clock.now_s += 59.9
        await clock.rest()
        assert not told.is_over
        clock.now_s += 0.1
        error = (await told.over()).error
        assert isinstance(error, BackendTimeout)
        assert "did not go on to answer within 60 seconds" in error.message


async def test_the_time_of_our_own_pause_does_not_count() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(STREAM)
        await peer.gone()

    async with bench(script) as (_, client, clock):
        told = Told()
        exchange = client.send(b"POST", b"/x", b"", b"{}", told)
        await soon(lambda: told.pieces)
        exchange.pause()
        await clock.rest()
        clock.now_s += 1000
        await clock.rest()
        assert not told.is_over
        exchange.resume()
        await clock.rest()
        assert not told.is_over
        clock.now_s += 60
        assert isinstance((await told.over()).error, BackendTimeout)


async def test_no_connection_in_time() -> None:
    async with bench(silent, tls=True) as (server, client, clock):
        told = post(client)
        await soon(lambda: server.peers)
        await clock.rest()
        assert not told.is_over
        clock.now_s += 3
        error = (await told.over()).error
        assert isinstance(error, BackendUnavailable)
        assert error.message == "the model's server could not be reached in time"
        await soon(lambda: server.ended == 1)


async def test_too_long_in_the_line() -> None:
    async with bench(silent, connections_max=1) as (server, client, clock):
        first = post(client)
        await soon(lambda: server.peers and not client.stats().waiting)
        second = post(client)
        await clock.rest()
        assert not second.is_over
        clock.now_s += 3
        assert isinstance((await second.over()).error, Overloaded)
        assert not first.is_over


async def test_what_rests_for_long_is_closed() -> None:
    async with bench(saying(HELLO)) as (server, client, clock):
        await post(client).over()
        await clock.rest()
        clock.now_s += 29.9
        await clock.rest()
        assert client.stats().idle == 1
        clock.now_s += 0.1
        await soon(lambda: client.stats().open == 0)
        await soon(lambda: server.ended == 1)
        assert (await post(client).over()).has_ended


async def test_the_timer_stops_with_the_last_connection() -> None:
    async with bench(saying(HELLO)) as (_, client, clock):
        await post(client).over()
        await clock.rest()
        clock.now_s += 30
        await soon(lambda: client.stats().open == 0)
        for _ in range(100):
            readings = clock.readings
            await asyncio.sleep(0.1)
            if clock.readings == readings:
                break
        assert clock.readings == readings
