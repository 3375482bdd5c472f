"""The listener of the takeover: a proxy on loopback that knows the vendor's hosts alone, and one server behind it.

It takes CONNECT to a known host's port 443 (and the same by SOCKS 5), ends TLS with a certificate of the takeover's own
authority, and passes the bytes to Arkway as they come; requests with an absolute URL of a known host likewise. Whatever
else is asked for is refused. The only address it ever connects to is the Arkway server's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from arkway.core.errors import Misconfigured
from arkway.takeover import socks
from arkway.takeover.head import Head, Refused, Wanted, parse, passed_on, wanted
from arkway.takeover.hosts import VENDOR_HOSTS

log = logging.getLogger("arkway")

HTTPS_PORT = 443
HEAD_MAX_BYTES = 65536
PIECE_BYTES = 65536
HEAD_S = 10.0
"""How long a client may take to say where it wants to go."""
CONNECT_S = 5.0
HANDSHAKE_S = 10.0
LINGER_S = 2.0
"""How long a client may go on sending after the server has closed, so that it sees the answer."""
FLUSH_S = 60.0
"""How long a slow client may take to fetch the last of an answer."""
SEEN_MAX = 256

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
PHRASES = {400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large", 502: "Bad Gateway"}

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ArkwayServer(msgspec.Struct, frozen=True):
    """The Arkway server that everything is passed to; ``context`` where it is reached by TLS."""

    url: str
    host: str
    port: int
    context: ssl.SSLContext | None = None


def arkway_server(url: str, ca: Path | None = None) -> ArkwayServer:
    """The server at ``http://host:port`` or ``https://…``; ``ca``: trusted beside the machine's authorities.

    Raises Misconfigured, also for a host of the vendor's, however it is written: nothing may ever be passed on to
    those; and for a URL with a password, which would be shown and never sent.
    """
    if "@" in url:
        raise Misconfigured("the server's URL takes no user and no password; give it as http://127.0.0.1:8080")
    try:
        place = urlsplit(url)
        host, port = _as_resolved(place.hostname or ""), place.port
    except ValueError:
        host, port = "", None
    rest = (place.path.strip("/"), place.query, place.fragment) if host else ()
    if not host or place.scheme not in ("http", "https") or any(rest):
        raise Misconfigured(f"`{url[:128]}` is no server's URL; give it as http://127.0.0.1:8080")
    if host in VENDOR_HOSTS:
        raise Misconfigured(f"`{host}` is the vendor's: name the Arkway server that stands in for it")
    secure = place.scheme == "https"
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    shown = f"{place.scheme}://{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"
    return ArkwayServer(shown, reached, port or (443 if secure else 80), _trusting(ca) if secure else None)


def _as_resolved(host: str) -> str:
    """The name that the resolver will look up: one spelling for each host. Raises ValueError for what is no name.

    Full-width letters and other full stops become plain ones (RFC 3490 §3.1), and a dot at the end says nothing more.
    """
    return host.encode("idna").decode("ascii").lower().removesuffix(".")


def loopback_socket(address: str, port: int) -> socket.socket:
    """A socket that takes connections, from this machine alone. Raises Misconfigured."""
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise Misconfigured(
            f"the takeover listens on a loopback address alone, and `{address[:64]}` is none; use 127.0.0.1 or ::1"
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=512)
    except OSError as error:
        raise Misconfigured(
            f"cannot listen on {address}:{port}: {error.strerror}; choose another with --port, or 0 for any free one"
        ) from None


class Listener:
    """Connections of clients, each tied to one of its own to the server."""

    def __init__(self, hosts: Collection[str], context: ssl.SSLContext, server: ArkwayServer) -> None:
        self._hosts = frozenset(hosts)
        self._context = context
        self._context.sni_callback = self._check_name
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: set[str] = set()

    async def serve(self, listening: socket.socket, stopped: asyncio.Event) -> None:
        """Takes connections until ``stopped`` is set; then cuts those there are."""
        server = await asyncio.start_server(self._accept, sock=listening, limit=HEAD_MAX_BYTES)
        try:
            await stopped.wait()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._served(reader, writer)
            await _closed(writer, FLUSH_S)
        except Refused as refused:
            self._tell(refused.sentence)
            await _answer(writer, refused)
        except socks.NotAllowed as refused:
            self._tell(f"refused: {refused}")
            await _closed(writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # a client that left, or that never said what it wants
        except asyncio.CancelledError:
            _cut(writer)
            raise
        finally:
            writer.transport.abort()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_S):
            first = await reader.readexactly(1)
            if first == socks.VERSION:
                await socks.asked(reader, writer, self._hosts, HTTPS_PORT)
            else:
                head = parse(await _head(first, reader))
                where = self._allowed(head)
        if first == socks.VERSION:
            await self._socks_tunnel(reader, writer)
        elif where.is_tunnel:
            await self._tunnel(reader, writer)
        else:
            await self._request(reader, writer, passed_on(head, where.path))

    def _allowed(self, head: Head) -> Wanted:
        where = wanted(head)
        port = HTTPS_PORT if where.is_tunnel else where.port
        if where.host not in self._hosts or where.port != port or port not in (80, HTTPS_PORT):
            raise Refused(
                403,
                f"{where.host[:253]}:{where.port} is not a host that this takeover stands in for, and nothing is "
                "passed on to any other; put it into NO_PROXY to reach it directly, or name it with "
                "`arkway takeover start --host`",
            )
        return where

    def _check_name(self, _: ssl.SSLObject | ssl.SSLSocket, name: str | None, __: ssl.SSLContext) -> int | None:
        """No certificate is shown to clients that ask for another host, or for none."""
        known = name is not None and name.rstrip(".").lower() in self._hosts
        if not known:
            self._tell(f"refused: TLS for {name or 'no host'}")
        return None if known else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    async def _socks_tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await self._reach()
        except Refused as refused:
            socks.reply(writer, socks.UNREACHABLE)
            raise socks.NotAllowed(refused.sentence) from None
        socks.reply(writer, socks.GRANTED)
        await self._secured(reader, writer, behind)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await self._reach()
        writer.write(ESTABLISHED)
        await self._secured(reader, writer, behind)

    async def _secured(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: Stream) -> None:
        try:
            await writer.start_tls(self._context, ssl_handshake_timeout=HANDSHAKE_S)
            await _tied((reader, writer), behind)
        finally:
            behind[1].transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        behind = await self._reach()
        try:
            behind[1].write(head)
            await _tied((reader, writer), behind)
        finally:
            behind[1].transport.abort()

    async def _reach(self) -> Stream:
        """A new connection to the Arkway server. Raises Refused (502)."""
        server = self._server
        name = server.host if server.context else None
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(
                    server.host, server.port, ssl=server.context, server_hostname=name, limit=PIECE_BYTES
                )
        except (OSError, TimeoutError) as error:
            why = f" ({error.reason})" if isinstance(error, ssl.SSLError) else ""
            raise Refused(502, f"no Arkway answers at {server.url}{why}; start it with `arkway serve`") from None

    def _tell(self, sentence: str) -> None:
        """Each refusal once: a client that tries again and again is no news."""
        if sentence not in self._refused and len(self._refused) < SEEN_MAX:
            self._refused.add(sentence)
            log.warning("%s", sentence)


async def _head(first: bytes, reader: asyncio.StreamReader) -> bytes:
    try:
        return first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused(431, f"the head of a request may have {HEAD_MAX_BYTES} bytes") from None


async def _tied(client: Stream, behind: Stream) -> None:
    """Passes bytes both ways until the server has closed, or the client has left.

    A client that only stops sending still gets what comes, where its connection can be half closed: TLS cannot here.
    """
    up = asyncio.create_task(_passed(client[0], behind[1]))
    down = asyncio.create_task(_passed(behind[0], client[1]))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if not down.done() and up.exception() is None and client[1].can_write_eof():
            await asyncio.wait((down,))
        elif down.done() and down.exception() is None and client[1].can_write_eof():
            await asyncio.wait((up,), timeout=LINGER_S)
    finally:
        left = down.done() and not down.cancelled() and down.exception() is not None
        await _ended(up, down)
        if left:
            _cut(client[1])


def _cut(writer: asyncio.StreamWriter) -> None:
    """Resets the connection: broken off, not ended, so that nothing takes what came for the whole."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _passed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Passes on each piece as it comes, then the end. Raises OSError where either side is gone."""
    while piece := await source.read(PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(writer: asyncio.StreamWriter, refused: Refused) -> None:
    body = f"{refused.sentence}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status} {PHRASES[refused.status]}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await _closed(writer)


async def _closed(writer: asyncio.StreamWriter, patience_s: float = LINGER_S) -> None:
    """Closes, and waits until what was written has left."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience_s):
            await writer.wait_closed()


def _trusting(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca is not None and ca.exists():
        try:
            context.load_verify_locations(cafile=ca)
        except ssl.SSLError as error:
            raise Misconfigured(f"{ca} cannot be used as a certificate authority: {error.reason}") from None
    return context
