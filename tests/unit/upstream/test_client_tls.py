"""The client over TLS, towards servers with a certificate of an authority of our own."""

from __future__ import annotations

import ssl
import time

import pytest

from arkway.backends.upstream.client import Client
from arkway.backends.upstream.connection import Connection
from arkway.backends.upstream.dialing import Dialer
from arkway.backends.upstream.pool import Pool
from arkway.backends.upstream.target import Target, target_of
from arkway.core.errors import BackendFailed, BackendUnavailable
from arkway.takeover.authority import Files, files, initialise
from tests.tools.raw_upstream import (
    HELLO,
    OK,
    Peer,
    RawUpstream,
    open_on_one_port,
    post,
    saying,
    saying_once,
    upstream_at,
)
from tests.tools.waiting import soon


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home = tmp_path_factory.mktemp("authority")
    initialise(home, [], int(time.time()))
    return files(home)


@pytest.fixture
def tls(place: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place.server, place.server_key)
    return context


def named(server: RawUpstream) -> str:
    return f"https://localhost:{server.port}/v1"


async def test_answers_come_over_tls_and_the_connection_is_kept(tls: ssl.SSLContext, place: Files) -> None:
    names: list[str] = []
    tls.sni_callback = lambda _, name, __: names.append(name)
    async with RawUpstream(saying(HELLO), tls=tls) as server:
        client = Client(upstream_at(named(server), ca_file=str(place.ca)))
        for _ in range(3):
            assert (await post(client, bytes(1 << 20)).over()).body == b"hello"
        assert client.stats().open == 1
        await client.aclose()
    assert names == ["localhost"]


async def test_an_authority_that_is_not_trusted(tls: ssl.SSLContext) -> None:
    async with RawUpstream(saying(HELLO), tls=tls) as server:
        client = Client(upstream_at(named(server)))
        error = (await post(client).over()).error
        assert isinstance(error, BackendUnavailable)
        assert error.message == "the model's server cannot be reached: its certificate is not trusted"
        await client.aclose()


async def test_a_certificate_of_another_name(tls: ssl.SSLContext, place: Files) -> None:
    async with RawUpstream(saying(HELLO), host="127.0.0.2", tls=tls) as server:
        client = Client(upstream_at(server.url(), ca_file=str(place.ca)))
        error = (await post(client).over()).error
        assert isinstance(error, BackendUnavailable)
        assert "certificate" in error.message
        await client.aclose()


async def test_a_server_without_tls(place: Files) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with RawUpstream(script) as server:
        client = Client(upstream_at(named(server), ca_file=str(place.ca)))
        error = (await post(client).over()).error
        assert isinstance(error, BackendUnavailable)
        assert "TLS" in error.message
        await client.aclose()


async def test_an_answer_up_to_the_end_of_the_connection(tls: ssl.SSLContext, place: Files) -> None:
    async with RawUpstream(saying_once(OK + b"\r\nhello"), tls=tls) as server:
        client = Client(upstream_at(named(server), ca_file=str(place.ca)))
        told = await post(client).over()
        assert (told.body, told.has_ended) == (b"hello", True)
        await client.aclose()


async def test_a_connection_that_is_cut_under_tls_is_no_end(tls: ssl.SSLContext, place: Files) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"\r\nhel")
        await soon(lambda: told.pieces)
        peer.reset()

    async with RawUpstream(script, tls=tls) as server:
        client = Client(upstream_at(named(server), ca_file=str(place.ca)))
        told = post(client)
        await told.over()
        assert isinstance(told.error, BackendFailed)
        await client.aclose()


async def test_an_abort_closes_at_once_under_tls(tls: ssl.SSLContext, place: Files) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 100\r\n\r\nsome")
        await peer.gone()

    async with RawUpstream(script, tls=tls) as server:
        client = Client(upstream_at(named(server), ca_file=str(place.ca)))
        told = post(client)
        await soon(lambda: told.pieces)
        await client.aclose()
        assert isinstance(told.error, BackendUnavailable)
        await soon(lambda: server.ended == 1)


async def test_an_address_that_does_not_go_on_does_not_hold_up_the_next(tls: ssl.SSLContext, place: Files) -> None:
    async def mute(peer: Peer) -> None:
        await peer.gone()

    first, second = RawUpstream(mute, host="127.0.0.2"), RawUpstream(saying(HELLO), tls=tls)
    await open_on_one_port(first, second)
    target = Target("localhost", first.port, True, "localhost", "")
    pool = Pool(upstream_at("https://localhost/v1", ca_file=str(place.ca)), target, 1, 1.0, 0.2, None)
    dialer = Dialer(target, str(place.ca), lambda: Connection(pool))
    connection = await dialer.reach(["127.0.0.2", "127.0.0.1"])
    assert connection.is_usable()
    await soon(lambda: first.ended == 1)
    await pool.aclose()
    await first.close()
    await second.close()


async def test_the_first_failure_is_told_when_no_address_answers() -> None:
    async with RawUpstream(saying(HELLO)) as server:
        port = server.port
    target = target_of(f"http://localhost:{port}/v1")
    pool = Pool(upstream_at("http://localhost/v1"), target, 1, 1.0, 0.2, None)
    with pytest.raises(ConnectionRefusedError):
        await Dialer(target, "", lambda: Connection(pool)).reach(["127.0.0.2", "127.0.0.1"])
    await pool.aclose()
