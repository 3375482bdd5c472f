"""An upstream that breaks, lies or babbles: the right error, no word of where it is, and the next call is served."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from arkway.backends.upstream.client import Client
from arkway.core.errors import ArkwayError, BackendFailed, BackendUnavailable
from tests.tools.raw_upstream import HELLO, OK, Peer, RawUpstream, Told, post, saying_once, upstream_at
from tests.tools.waiting import soon

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SQUEEZED = gzip.compress(b"hello")


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs to the end, on either kind of loop."""

    def to_the_end(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return to_the_end


def resets_after(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Hangs up with RST, once the client, on the same loop, has read the pieces."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)
        for _ in range(20):
            await asyncio.sleep(0)
        peer.reset()

    return script


async def endless_header(peer: Peer) -> None:
    await peer.request()
    await peer.say(OK + b"x: ")
    while True:
        await peer.say(b"v" * 8192)


async def endless_headers(peer: Peer) -> None:
    await peer.request()
    await peer.say(OK)
    while True:
        await peer.say(b"x: y\r\n" * 100)


async def endless_trailers(peer: Peer) -> None:
    await peer.request()
    await peer.say(CHUNKED + b"0\r\n")
    while True:
        await peer.say(b"x: y\r\n" * 100)


async def endless_chunk_extension(peer: Peer) -> None:
    await peer.request()
    await peer.say(CHUNKED + b"5;")
    while True:
        await peer.say(b"x" * 8192)


async def speaks_first(peer: Peer) -> None:
    await peer.say(b"220 mail.example.com ESMTP\r\n")
    await peer.gone()


async def resets_at_once(peer: Peer) -> None:
    peer.reset()


FAULTS: dict[str, tuple[Callable[[Peer], Awaitable[None]], type[ArkwayError]]] = {
    "closed before the head": (saying_once(), BackendUnavailable),
    "reset before the head": (resets_after(), BackendUnavailable),
    "closed in the head": (saying_once(OK + b"content-le"), BackendFailed),
    "reset in the head": (resets_after(OK), BackendFailed),
    "closed in the body": (saying_once(OK + b"content-length: 9\r\n\r\nhalf"), BackendFailed),
    "reset in the body": (resets_after(OK + b"content-length: 9\r\n\r\nhalf"), BackendFailed),
    "reset in a body without a length": (resets_after(OK + b"\r\nhalf"), BackendFailed),
    "closed between chunks": (saying_once(CHUNKED + b"4\r\nhalf\r\n"), BackendFailed),
    "closed before the last line": (saying_once(CHUNKED + b"4\r\nhalf\r\n0\r\n"), BackendFailed),
    "garbage": (saying_once(b"\x16\x03\x01\x02\x00\x01\x00" * 20), BackendFailed),
    "HTTP/0.9": (saying_once(b"<html>hello</html>"), BackendFailed),
    "HTTP/0.9 by name": (saying_once(b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "HTTP/2 by name": (saying_once(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "an HTTP/2 frame": (saying_once(b"\0\0\x12\x04\0\0\0\0\0" + bytes(18)), BackendFailed),
    "a request": (saying_once(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), BackendFailed),
    "status 099": (saying_once(b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "status 20": (saying_once(b"HTTP/1.1 20 X\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "switching protocols": (
        saying_once(b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        BackendFailed,
    ),
    "two lengths": (saying_once(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"), BackendFailed),
    "a length and chunks": (
        saying_once(OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        BackendFailed,
    ),
    "a negative length": (saying_once(OK + b"content-length: -5\r\n\r\nhello"), BackendFailed),
    "a length with a sign": (saying_once(OK + b"content-length: +5\r\n\r\nhello"), BackendFailed),
    "a length beyond 2^64": (saying_once(OK + b"content-length: 99999999999999999999\r\n\r\nhello"), BackendFailed),
    "a negative chunk": (saying_once(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"), BackendFailed),
    "a chunk beyond 2^64": (saying_once(CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), BackendFailed),
    "chunks with bare line feeds": (saying_once(CHUNKED + b"5\nhello\n0\n\n"), BackendFailed),
    "a folded header": (saying_once(OK + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "a header with NUL": (saying_once(OK + b"a: b\0c\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "gzip": (
        saying_once(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(SQUEEZED) + SQUEEZED),
        BackendFailed,
    ),
    "gzip as a transfer": (
        saying_once(OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        BackendFailed,
    ),
    "chunks that are then something else": (
        saying_once(OK + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\nhello"),
        BackendFailed,
    ),
    "a huge header": (saying_once(OK + b"x: " + b"v" * 100_000 + b"\r\ncontent-length: 0\r\n\r\n"), BackendFailed),
    "a huge status line": (saying_once(b"HTTP/1.1 200 " + b"O" * 300_000), BackendFailed),
    "a thousand headers": (saying_once(OK + b"x: y\r\n" * 1000 + b"content-length: 0\r\n\r\n"), BackendFailed),
    "an endless header": (endless_header, BackendFailed),
    "endless headers": (endless_headers, BackendFailed),
    "endless trailers": (endless_trailers, BackendFailed),
    "an endless chunk extension": (endless_chunk_extension, BackendFailed),
}


def once(fault: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    """The fault on the first connection, a good answer on the others."""

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await fault(peer)
            return
        while await peer.request():
            await peer.say(HELLO)

    return script


def check_message(error: ArkwayError, server: RawUpstream) -> None:
    for secret in ("127.0.0.1", str(server.port), "localhost", "http://", "scripted", "v1"):
        assert secret not in error.message


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_and_the_next_call_is_served(fault: str, run: Run) -> None:
    async def work() -> None:
        script, expected = FAULTS[fault]
        async with RawUpstream(once(script)) as server:
            client = Client(upstream_at(server.url()))
            told = await post(client).over()
            assert type(told.error) is expected
            check_message(told.error, server)
            assert (await post(client).over()).body == b"hello"
            await soon(lambda: client.stats().open == 1)
            await client.aclose()
            assert not told.order_broken

    run(work())


@pytest.mark.parametrize("fault", [speaks_first, resets_at_once])
def test_a_server_that_is_none_is_never_taken_for_one(fault: Callable[[Peer], Awaitable[None]], run: Run) -> None:
    async def work() -> None:
        async with RawUpstream(fault) as server:
            client = Client(upstream_at(server.url()))
            for _ in range(5):
                told = await post(client).over()
                assert isinstance(told.error, BackendUnavailable | BackendFailed)
                assert told.status == 0
                check_message(told.error, server)
            await client.aclose()

    run(work())


def test_a_port_where_nobody_listens_and_then_somebody_does(run: Run) -> None:
    async def work() -> None:
        async def hello(peer: Peer) -> None:
            while await peer.request():
                await peer.say(HELLO)

        server = RawUpstream(hello)
        await server.open()
        await server.close()
        client = Client(upstream_at(server.url(), connections_max=2))
        asked = [post(client) for _ in range(10)]
        for told in asked:
            error = (await told.over()).error
            assert isinstance(error, BackendUnavailable)
            assert error.message == "the model's server cannot be reached: it refuses connections"
        await server.open()
        assert (await post(client).over()).body == b"hello"
        await client.aclose()
        await server.close()

    run(work())


def test_an_upstream_that_starts_again_breaks_no_call(run: Run) -> None:
    async def work() -> None:
        async def hello(peer: Peer) -> None:
            while await peer.request():
                await peer.say(HELLO)

        server = RawUpstream(hello)
        await server.open()
        client = Client(upstream_at(server.url()))
        for told in [post(client) for _ in range(20)]:
            await told.over()
        for _ in range(3):
            await server.close()
            await server.open()
            for told in [post(client) for _ in range(30)]:
                assert (await told.over()).body == b"hello"
        await client.aclose()
        await server.close()

    run(work())


def test_nothing_of_an_answer_that_was_pushed_ahead_reaches_the_next_call(run: Run) -> None:
    """A second answer behind the first one, by the same write and by a later one, is never somebody else's."""

    async def work() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
            await peer.gone()

        async with RawUpstream(script) as server:
            client = Client(upstream_at(server.url()))
            for _ in range(10):
                assert (await post(client).over()).body == b"hello"
            await client.aclose()
        assert len(server.peers) == 10

    run(work())


def test_a_storm_of_aborts_leaves_nothing_open(run: Run) -> None:
    async def work() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(OK + b"content-length: 100\r\n\r\nsome")
            await peer.gone()

        async with RawUpstream(script) as server:
            client = Client(upstream_at(server.url(), connections_max=64))
            for round_ in range(10):
                told = [Told() for _ in range(50)]
                sent = [client.send(b"POST", b"/x", b"", b"{}", each) for each in told]
                if round_ % 2:
                    await soon(lambda told=told: any(each.pieces for each in told))  # type: ignore[misc]
                for exchange in sent:
                    exchange.abort()
                assert not any(each.is_over for each in told)
            await soon(lambda: client.stats().waiting == 0 and client.stats().open == client.stats().idle)
            await client.aclose()
            await soon(lambda: server.ended == len(server.peers))

    run(work())
