"""The takeover's proxy, before a scripted server: what it takes, what it refuses, and that bytes pass as they are."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.takeover.authority import Files, files, initialise, initialise_takeover, takeover_files
from arkway.takeover.connect import LINGER_S, ArkwayServer, Listener, arkway_server, loopback_socket
from arkway.takeover.hosts import VENDOR_HOSTS, taken_over
from arkway.takeover.listening import server_context
from tests.tools.tls import trusting

ARK = "ark.cn-beijing.volces.com"
PATIENCE_S = 60.0
SMALL_BYTES = 4096
ASK = f"POST /api/v3/chat/completions HTTP/1.1\r\nHost: {ARK}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


class Behind:
    """A server that does as it is told, and counts its connections."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.received = b""

    async def accept(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        try:
            await self.handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: Reader, writer: Writer) -> None:
        """One answer to one request."""
        self.received += await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home = tmp_path_factory.mktemp("home")
    initialise_takeover(home, taken_over(), int(time.time()))
    return takeover_files(home)


@asynccontextmanager
async def proxied(place: Files, behind: Behind, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a proxy before that server."""
    server = await asyncio.start_server(behind.accept, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    ca = place.ca.parents[1] / "tls" / "ca.pem"
    async with server, listening(place, arkway_server(url, ca)) as own:
        yield own


@asynccontextmanager
async def listening(place: Files, server: ArkwayServer) -> AsyncIterator[int]:
    bound = loopback_socket("127.0.0.1", 0)
    # What the kernel does not hold for the client, the proxy has to.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BYTES)
    stopped = asyncio.Event()
    listener = Listener(taken_over(), server_context(place.server, place.server_key), server)
    task = asyncio.create_task(listener.serve(bound, stopped))
    try:
        yield bound.getsockname()[1]
    finally:
        stopped.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


async def connect(port: int, target: str) -> tuple[bytes, Reader, Writer]:
    """The answer's head to CONNECT."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return await reader.readuntil(b"\r\n\r\n"), reader, writer


async def tunnel(port: int, place: Files, host: str = ARK, name: str = "") -> tuple[Reader, Writer]:
    head, reader, writer = await connect(port, f"{host}:443")
    assert head.startswith(b"HTTP/1.1 200 ")
    context = trusting(place.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    await writer.start_tls(context, server_hostname=name or host)
    return reader, writer


async def said(port: int, request: bytes) -> bytes:
    """All that is answered to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("host", VENDOR_HOSTS)
async def test_a_known_host_is_vouched_for_and_the_bytes_pass_as_they_are(place: Files, host: str) -> None:
    behind = Behind(nothing)
    behind.handler = behind.answer
    async with proxied(place, behind) as port:
        reader, writer = await tunnel(port, place, host)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Signed: as  it is\r\n\r\n".encode())
        assert await reader.read() == ANSWER
    assert behind.received == f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Signed: as  it is\r\n\r\n".encode()


async def nothing(reader: Reader, writer: Writer) -> None:
    """Answers nothing until the client is gone."""
    await reader.read()


@pytest.mark.parametrize(
    "target",
    [
        "example.com:443",
        f"{ARK}:8443",
        f"{ARK}:80",
        f"other.{ARK}:443",
        "volces.com:443",
        f"{ARK}.example.com:443",
        "127.0.0.1:443",
        "169.254.169.254:443",
        "[::1]:443",
    ],
)
async def test_every_other_place_is_refused_and_nobody_is_connected_to(place: Files, target: str) -> None:
    behind = Behind(nothing)
    async with proxied(place, behind) as port:
        answer = await said(port, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"NO_PROXY" in answer
    assert behind.connections == 0


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 403),
        (f"GET http://{ARK}:8080/ HTTP/1.1\r\nHost: {ARK}\r\n\r\n".encode(), 403),
        (f"GET ftp://{ARK}/ HTTP/1.1\r\nHost: {ARK}\r\n\r\n".encode(), 403),
        (f"GET http://{ARK}@example.com/ HTTP/1.1\r\nHost: {ARK}\r\n\r\n".encode(), 403),
        (f"GET http://{ARK}/ HTTP/1.1\r\n\r\n".encode(), 400),
        (f"GET http://{ARK}/ HTTP/1.1\r\nHost: {ARK}\r\nHost: x\r\n\r\n".encode(), 400),
        (f"CONNECT {ARK} HTTP/1.1\r\n\r\n".encode(), 400),
        (f"CONNECT {ARK}:https HTTP/1.1\r\n\r\n".encode(), 400),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + 70_000 * b"x", 431),
    ],
)
async def test_what_is_no_request_for_a_known_host_is_refused(place: Files, request_: bytes, status: int) -> None:
    behind = Behind(nothing)
    async with proxied(place, behind) as port:
        answer = await said(port, request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert behind.connections == 0


@pytest.mark.parametrize("name", ["example.com", f"x.{ARK}", "192.0.2.1"])
async def test_tls_for_another_host_than_the_known_ones_gets_no_certificate(place: Files, name: str) -> None:
    async def collect(reader: Reader, writer: Writer) -> None:
        behind.received += await reader.read()

    behind = Behind(collect)
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    async with proxied(place, behind) as port:
        _, _, writer = await connect(port, f"{ARK}:443")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await writer.start_tls(careless, server_hostname=name)
    assert behind.received == b""


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_request_with_an_absolute_url_is_passed_on_by_its_path(place: Files, scheme: str) -> None:
    behind = Behind(nothing)
    behind.handler = behind.answer
    request = (
        f"POST {scheme}://{ARK}/api/v3/x?Action=a&b HTTP/1.1\r\nHost: {ARK}\r\nX-Date: 2\r\n"
        "Proxy-Authorization: Basic eA==\r\nproxy-connection: keep-alive\r\nConnection: keep-alive\r\n\r\n"
    )
    async with proxied(place, behind) as port:
        assert await said(port, request.encode()) == ANSWER
    passed = f"POST /api/v3/x?Action=a&b HTTP/1.1\r\nHost: {ARK}\r\nX-Date: 2\r\nConnection: close\r\n\r\n"
    assert behind.received == passed.encode()


def socks(kind: int, address: bytes, port: int = 443, command: int = 1) -> bytes:
    return b"\x05\x01\x00" + bytes((5, command, 0, kind)) + address + port.to_bytes(2, "big")


def name(host: str) -> bytes:
    return bytes((len(host),)) + host.encode()


@pytest.mark.parametrize("request_", [socks(3, name(ARK)), socks(1, bytes((192, 0, 2, 1))), socks(4, 16 * b"\x01")])
async def test_socks_leads_to_the_same_place(place: Files, request_: bytes) -> None:
    behind = Behind(nothing)
    behind.handler = behind.answer
    async with proxied(place, behind) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        assert await reader.readexactly(12) == b"\x05\x00\x05\x00\x00\x01" + bytes(6)
        await writer.start_tls(trusting(place.ca), server_hostname=ARK)
        writer.write(ASK)
        assert await reader.read() == ANSWER


@pytest.mark.parametrize(
    "request_, code",
    [
        (socks(3, name("example.com")), 2),
        (socks(3, name(ARK), port=80), 2),
        (socks(1, bytes((192, 0, 2, 1)), port=22), 2),
        (socks(3, name(ARK), command=2), 7),
        (socks(9, b""), 8),
    ],
)
async def test_socks_to_anywhere_else_is_refused(place: Files, request_: bytes, code: int) -> None:
    behind = Behind(nothing)
    async with proxied(place, behind) as port:
        answer = await said(port, request_)
    assert answer[:4] == bytes((5, 0, 5, code))
    assert behind.connections == 0


async def test_a_socks_client_that_insists_on_a_password_is_refused(place: Files) -> None:
    async with proxied(place, Behind(nothing)) as port:
        assert await said(port, b"\x05\x01\x02") == b"\x05\xff"


async def test_each_piece_of_a_stream_passes_before_the_next_is_made(place: Files) -> None:
    seen = asyncio.Event()

    async def stream(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            writer.write(b"data: x\n\n")
            await seen.wait()
            seen.clear()

    async with proxied(place, Behind(stream)) as port:
        reader, writer = await tunnel(port, place)
        writer.write(ASK)
        for _ in range(3):
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.readexactly(9) == b"data: x\n\n"
            seen.set()
        assert await reader.read() == b""


@pytest.mark.parametrize("rudely", [True, False])
async def test_a_client_that_leaves_takes_its_connection_behind_with_it(place: Files, rudely: bool) -> None:
    left = asyncio.Event()

    async def endless(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"data: x\n\n")
        try:
            await reader.read()
        finally:
            left.set()

    async with proxied(place, Behind(endless)) as port:
        reader, writer = await tunnel(port, place)
        writer.write(ASK)
        await reader.readexactly(9)
        if rudely:
            writer.transport.abort()
        else:
            writer.close()
        async with asyncio.timeout(PATIENCE_S):
            await left.wait()
    assert left.is_set()


async def test_a_client_that_only_stops_sending_gets_its_answer(place: Files) -> None:
    async def late(reader: Reader, writer: Writer) -> None:
        everything = await reader.read()
        writer.write(b"%d" % everything.count(b"body"))

    async with proxied(place, Behind(late)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST http://{ARK}/ HTTP/1.1\r\nHost: {ARK}\r\n\r\nbody".encode())
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"1"


async def test_a_connection_that_breaks_behind_does_not_look_like_an_end(place: Files) -> None:
    async def breaking(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"data: x\n\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with proxied(place, Behind(breaking)) as port:
        reader, writer = await tunnel(port, place)
        writer.write(ASK)
        assert await reader.readexactly(9) == b"data: x\n\n"
        with pytest.raises(ConnectionResetError):
            await reader.read()


@pytest.mark.parametrize("size", [60_000, 8 << 20])
async def test_an_answer_reaches_a_slow_client_whole(place: Files, size: int) -> None:
    async def large(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(size * b"y")
        await writer.drain()

    async with proxied(place, Behind(large)) as port:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
            slow.connect(("127.0.0.1", port))
            slow.sendall(f"GET http://{ARK}/ HTTP/1.1\r\nHost: {ARK}\r\n\r\n".encode())
            slow.shutdown(socket.SHUT_WR)
            await asyncio.sleep(LINGER_S + 0.5)
            reader, _ = await asyncio.open_connection(sock=slow.dup())
            async with asyncio.timeout(PATIENCE_S):
                assert len(await reader.read()) == size


async def test_a_server_with_tls_is_reached_by_tls(place: Files) -> None:
    home = place.ca.parents[1]
    initialise(home, [], int(time.time()))
    behind = Behind(nothing)
    behind.handler = behind.answer
    async with proxied(place, behind, server_context(files(home).server, files(home).server_key)) as port:
        reader, writer = await tunnel(port, place)
        writer.write(ASK)
        assert await reader.readexactly(len(ANSWER)) == ANSWER


async def test_without_a_server_the_client_is_told(place: Files) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = arkway_server(f"http://127.0.0.1:{unused.getsockname()[1]}")
        async with listening(place, dead) as port:
            answer = await said(port, f"CONNECT {ARK}:443 HTTP/1.1\r\n\r\n".encode())
            by_socks = await said(port, socks(3, name(ARK)))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"arkway serve" in answer
    assert by_socks[:4] == b"\x05\x00\x05\x04"


async def test_a_stop_cuts_what_is_under_way(place: Files) -> None:
    async with proxied(place, Behind(nothing)) as port:
        reader, writer = await tunnel(port, place)
        writer.write(ASK)
    with pytest.raises(ConnectionResetError):
        await reader.read()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "localhost", ""])
def test_it_listens_on_loopback_alone(address: str) -> None:
    with pytest.raises(Misconfigured, match="loopback address alone"):
        loopback_socket(address, 0)


def test_a_port_that_is_taken_is_said() -> None:
    with loopback_socket("127.0.0.1", 0) as taken, pytest.raises(Misconfigured, match="choose another with --port"):
        loopback_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://x",
        "http://x/path",
        "http://x:port",
        "http://x?a=b",
        "http://x#y",
        "http://x..",
        "http://.",
        "http://[::1",
    ],
)
def test_a_server_is_named_by_a_url(url: str) -> None:
    with pytest.raises(Misconfigured, match="no server's URL"):
        arkway_server(url)


def test_the_vendor_is_no_server_to_pass_to() -> None:
    with pytest.raises(Misconfigured, match="is the vendor's"):
        arkway_server(f"https://{ARK}")


@pytest.mark.parametrize(
    "host",
    [
        f"{ARK}.",
        f"{ARK}:8443",
        f"{ARK}.:443",
        ARK.upper(),
        ARK.replace(".", "\u3002"),
        ARK.replace(".", "\uff0e"),
        f"{ARK}\uff61",
        ARK.replace("ark", "\uff41\uff52\uff4b"),
        ARK.replace("ark", "ar\u00adk"),
    ],
)
def test_the_vendor_is_known_however_it_is_written(host: str) -> None:
    with pytest.raises(Misconfigured, match=f"`{ARK}` is the vendor's"):
        arkway_server(f"https://{host}")


def test_a_server_is_shown_and_reached_by_one_spelling() -> None:
    assert arkway_server("http://Arkway.Internal.:8080/") == ArkwayServer(
        "http://arkway.internal:8080", "arkway.internal", 8080
    )
    assert arkway_server("http://[::1]:8080") == ArkwayServer("http://[::1]:8080", "::1", 8080)


@pytest.mark.parametrize("url", ["http://me:hidden@127.0.0.1:8080", f"https://hidden@{ARK}", "http://a:hidden@[::1"])
def test_a_password_in_the_servers_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(Misconfigured, match="no user and no password") as caught:
        arkway_server(url)
    assert "hidden" not in caught.value.message


def test_a_server_that_listens_everywhere_is_reached_here(tmp_path: Path) -> None:
    assert arkway_server("http://0.0.0.0:8080") == ArkwayServer("http://0.0.0.0:8080", "127.0.0.1", 8080)
