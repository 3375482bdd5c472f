"""The client over real sockets: pooling, the line, backpressure, and both of asyncio's loops."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress

import pytest

from arkway.backends.upstream.client import Client, Stats
from arkway.core.errors import BackendFailed, BackendUnavailable, Overloaded
from tests.tools.raw_upstream import HELLO, OK, Peer, RawUpstream, Told, post, saying, saying_once, silent, upstream_at
from tests.tools.waiting import soon

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_leaks(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    gc.collect()
    assert [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)] == []


async def test_the_request_on_the_wire() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            heard.append(request)
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url("/api/v3/")))
        told = await post(client, b'{"model":"m"}').over()
        await client.fetch(b"GET", b"/models?a=b", b"", b"", 100)
        await client.fetch(b"POST", b"/empty", b"", b"", 100)
        await client.aclose()
    common = b"host: 127.0.0.1:%d\r\naccept-encoding: identity\r\n" % server.port
    assert heard == [
        b"POST /api/v3/chat/completions HTTP/1.1\r\n" + common + b"content-type: application/json\r\n"
        b'content-length: 13\r\n\r\n{"model":"m"}',
        b"GET /api/v3/models?a=b HTTP/1.1\r\n" + common + b"\r\n",
        b"POST /api/v3/empty HTTP/1.1\r\n" + common + b"content-length: 0\r\n\r\n",
    ]
    assert (told.status, told.body, told.headers) == (200, b"hello", {"content-length": "5"})
    assert len(server.peers) == 1


async def test_the_connection_last_used_is_the_next_one() -> None:
    used: list[int] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            used.append(peer.number)
            if request.endswith(b"both"):
                await soon(lambda: len(used) >= 2)
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        for told in [post(client, b"both"), post(client, b"both")]:
            await told.over()
        assert client.stats() == Stats(open=2, idle=2, waiting=0)
        for _ in range(3):
            await post(client).over()
        await client.aclose()
    assert sorted(used[:2]) == [0, 1]
    assert len(set(used[2:])) == 1


async def test_a_body_of_sixteen_mib_arrives_whole() -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            sizes.append(len(request))
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        for _ in range(2):
            assert (await post(client, bytes(16 * MIB)).over()).has_ended
        await client.aclose()
    assert len(sizes) == 2
    assert min(sizes) > 16 * MIB
    assert len(server.peers) == 1


async def test_an_answer_may_come_before_the_body_is_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(10)
        await peer.say(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.Event().wait()

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        told = await post(client, bytes(64 * MIB)).over()
        assert (told.status, told.body, told.has_ended) == (413, b"big", True)
        await soon(lambda: client.stats().open == 0)
        await client.aclose()


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with RawUpstream(saying_once(OK + b"\r\nhel", b"lo")) as server:
        client = Client(upstream_at(server.url()))
        for _ in range(2):
            told = await post(client).over()
            assert (told.body, told.has_ended) == (b"hello", True)
        await client.aclose()
    assert len(server.peers) == 2


async def test_a_stale_connection_is_met_once_and_not_noticed() -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            if peer.number == 0 and request.endswith(b"again"):
                return
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        await post(client).over()
        told = await post(client, b"again").over()
        assert (told.body, told.has_ended) == (b"hello", True)
        await client.aclose()
    assert len(server.peers) == 2


async def test_what_fails_on_a_new_connection_as_well_is_not_sent_a_third_time() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            seen.append(request[-5:])
            if request.endswith(b"again"):
                return
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        await post(client, b"first").over()
        told = await post(client, b"again").over()
        assert isinstance(told.error, BackendUnavailable)
        await client.aclose()
    assert seen == [b"first", b"again", b"again"]


async def test_an_idle_connection_that_the_upstream_closes_leaves_the_pool() -> None:
    async with RawUpstream(saying_once(HELLO)) as server:
        client = Client(upstream_at(server.url()))
        await post(client).over()
        await soon(lambda: client.stats().open == 0)
        assert client.stats() == Stats(open=0, idle=0, waiting=0)
        await client.aclose()


async def test_two_hundred_at_once_over_sixteen_connections() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(server.url(), connections_max=16))
        asked = [post(client) for _ in range(200)]
        assert client.stats().waiting == 200
        for told in asked:
            assert (await told.over()).body == b"hello"
        assert client.stats().waiting == 0
        assert client.stats().open <= 16
        await client.aclose()
    assert len(server.peers) <= 16


async def test_two_hundred_connections_at_once() -> None:
    waiting: list[Peer] = []

    async def script(peer: Peer) -> None:
        while await peer.request():
            waiting.append(peer)
            await soon(lambda: len(waiting) >= 200)
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        asked = [post(client) for _ in range(200)]
        for told in asked:
            assert (await told.over()).body == b"hello"
        assert client.stats() == Stats(open=200, idle=200, waiting=0)
        await client.aclose()
        assert client.stats() == Stats(open=0, idle=0, waiting=0)


async def test_a_full_line_refuses_and_nothing_is_told_before_send_returns() -> None:
    async with RawUpstream(silent) as server:
        client = Client(upstream_at(server.url(), connections_max=1), waiting_max=2)
        first = post(client)
        await soon(lambda: len(server.peers) == 1 and client.stats().waiting == 0)
        asked = [post(client) for _ in range(3)]
        assert [told.is_over for told in asked] == [False, False, False]
        assert isinstance((await asked[2].over()).error, Overloaded)
        assert client.stats().waiting == 2
        await client.aclose()
        assert all(isinstance(told.error, BackendUnavailable) for told in (first, *asked[:2]))


async def test_who_waits_may_pause_and_leave() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await release.wait()
            await peer.say(HELLO)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url(), connections_max=1))
        first = post(client)
        leaving, staying = Told(), Told()
        gone = client.send(b"POST", b"/a", b"", b"{}", leaving)
        paused = client.send(b"POST", b"/b", b"", b"{}", staying)
        paused.pause()
        gone.abort()
        gone.abort()
        release.set()
        await first.over()
        assert client.stats().waiting == 0
        paused.resume()
        await staying.over()
        await client.aclose()
    assert (leaving.status, leaving.is_over, staying.body) == (0, False, b"hello")


async def test_pausing_stops_the_sender() -> None:
    piece, pieces = bytes(MIB), 256
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(OK + b"content-length: %d\r\n\r\n" % (len(piece) * pieces))
        for _ in range(pieces):
            await peer.say(piece)
            sent += 1
        await peer.gone()

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        told = Told()
        told.act = lambda when: exchange.pause() if when == "body" and len(told.pieces) == 1 else None
        exchange = client.send(b"POST", b"/x", b"", b"{}", told)
        await soon(lambda: told.pieces)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < pieces
        assert len(told.pieces) <= 2
        exchange.resume()
        await told.over()
        assert len(told.body) == len(piece) * pieces
        await client.aclose()


async def test_an_abort_is_seen_by_the_upstream_and_told_to_nobody() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 100\r\n\r\nsome")
        await peer.gone()

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        told = Told()
        exchange = client.send(b"POST", b"/x", b"", b"{}", told)
        await soon(lambda: told.pieces)
        assert exchange.received
        exchange.abort()
        exchange.abort()
        await soon(lambda: server.ended == 1)
        assert client.stats().open == 0
        assert not told.is_over
        await client.aclose()
    assert not told.is_over


async def test_an_abort_while_connecting_is_told_to_nobody() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(server.url()))
        told = Told()
        exchange = client.send(b"POST", b"/x", b"", b"{}", told)
        exchange.abort()
        assert client.stats().waiting == 0
        assert (await post(client).over()).has_ended
        await client.aclose()
    assert (told.status, told.is_over, exchange.received) == (0, False, False)


async def test_the_next_request_may_be_sent_from_the_last_word() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(server.url()))
        second, first = Told(), Told()

        def go_on(when: str) -> None:
            if when == "end":
                post(client, told=second)

        first.act = go_on
        await post(client, told=first).over()
        assert (await second.over()).body == b"hello"
        await client.aclose()
    assert len(server.peers) == 1


async def test_closing_ends_everything() -> None:
    async with RawUpstream(silent) as server:
        client = Client(upstream_at(server.url(), connections_max=2))
        asked = [post(client) for _ in range(5)]
        await soon(lambda: len(server.peers) == 2 and client.stats().open == 2)
        await client.aclose()
        assert [type(told.error) for told in asked] == [BackendUnavailable] * 5
        assert client.stats() == Stats(open=0, idle=0, waiting=0)
        late = post(client)
        assert not late.is_over
        assert isinstance((await late.over()).error, BackendUnavailable)
        await client.aclose()
        await soon(lambda: server.ended == 2)


async def test_closing_while_connecting_leaves_nothing() -> None:
    async with RawUpstream(silent) as server:
        client = Client(upstream_at(server.url()))
        told = post(client)
        await client.aclose()
        assert isinstance(told.error, BackendUnavailable)
        assert client.stats() == Stats(open=0, idle=0, waiting=0)


async def test_fetching_has_a_limit_to_the_byte() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(server.url()))
        fetched = await client.fetch(b"GET", b"/models", b"", b"", 5)
        assert (fetched.status, fetched.headers["content-length"], fetched.body) == (200, "5", b"hello")
        with pytest.raises(BackendFailed, match="over 4 bytes"):
            await client.fetch(b"GET", b"/models", b"", b"", 4)
        await client.aclose()


async def test_an_endless_body_is_not_fetched() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"\r\n")
        while True:
            await peer.say(b"x" * 4096)

    async with RawUpstream(script) as server:
        client = Client(upstream_at(server.url()))
        with pytest.raises(BackendFailed, match="over 100000 bytes"):
            await client.fetch(b"GET", b"/models", b"", b"", 100_000)
        await soon(lambda: server.ended == 1)
        await client.aclose()


async def test_a_fetch_that_is_cancelled_hangs_up() -> None:
    async with RawUpstream(silent) as server:
        client = Client(upstream_at(server.url()))
        fetching = asyncio.ensure_future(client.fetch(b"GET", b"/models", b"", b"", 5))
        await soon(lambda: client.stats() == Stats(open=1, idle=0, waiting=0))
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await soon(lambda: server.ended == 1)
        assert client.stats().open == 0
        await client.aclose()


async def test_an_ipv6_address() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.request())
        await peer.say(HELLO)

    try:
        server = await RawUpstream(script, host="::1").__aenter__()
    except OSError:
        pytest.skip("there is no IPv6 here")
    client = Client(upstream_at(server.url()))
    assert (await post(client).over()).body == b"hello"
    await client.aclose()
    await server.close()
    assert b"host: [::1]:%d\r\n" % server.port in heard[0]


async def test_a_name_is_resolved_and_each_of_its_addresses_tried() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(f"http://localhost:{server.port}/v1"))
        assert (await post(client).over()).body == b"hello"
        await client.aclose()


async def test_a_name_that_does_not_exist() -> None:
    client = Client(upstream_at("http://no-such-host.invalid/v1"))
    error = (await post(client).over()).error
    assert isinstance(error, BackendUnavailable)
    assert "invalid" not in error.message
    await client.aclose()


async def test_without_free_descriptors_calls_fail_and_later_ones_do_not() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        client = Client(upstream_at(server.url()))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        try:
            lowest = os.dup(0)
            taken.append(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 8, limits[1]))
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            told = await post(client).over()
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert isinstance(told.error, BackendUnavailable)
        assert "too many files open" in told.error.message
        assert (await post(client).over()).body == b"hello"
        await client.aclose()
