"""A document of the web for a caller who names its URL, fetched without reaching what callers cannot reach.

A name is resolved once; every address that it has must be one that may be dialed, and the connection goes to one of
these, whatever the name means a moment later. Each redirect is a new URL to which all of this applies.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from arkway import __version__
from arkway.core.errors import UnsupportedInput
from arkway.fetching.addresses import Allowed
from arkway.fetching.body import ENCODINGS, Body, too_large
from arkway.fetching.place import Place, joined, place_of
from arkway.ports import Fetched

REDIRECTS_MAX = 3
AT_ONCE = 16
"""Documents under way in one process; what comes beyond waits, within its own time."""
CHUNK_BYTES = 65_536
_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebFetcher:
    """Implements `arkway.ports.Fetcher`. Belongs to one event loop; keeps no connection and no cookie."""

    def __init__(
        self,
        allowed: Allowed | None = None,
        *,
        hosts: Iterable[str] = (),
        ports: Collection[int] = (80, 443),
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``hosts``: if there are any, only these names are fetched from; one that begins with a dot means all names
        below. ``resolve`` gives a name's addresses or raises OSError; the system's unless given. ``tls``: the system's
        authorities unless given.
        """
        self._allowed = allowed or Allowed()
        self._hosts = tuple(host.lower() for host in hosts)
        self._ports = frozenset(ports)
        self._resolve = resolve or _System()
        self._tls = tls
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
        """See `arkway.ports.Fetcher`. ``timeout_s`` is for all of it: name, redirects, body."""
        place = place_of(url, self._ports)
        try:
            async with asyncio.timeout(timeout_s), self._turns:
                for _ in range(REDIRECTS_MAX + 1):
                    got = await self._one(place, max_bytes, accept)
                    if isinstance(got, Fetched):
                        return got
                    place = joined(place, got, self._ports)
        except TimeoutError:
            raise UnsupportedInput(f"the document at the URL did not come within {timeout_s:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnsupportedInput(_why_not(error)) from None
        raise UnsupportedInput(f"the URL redirects more than {REDIRECTS_MAX} times")

    async def _one(self, place: Place, max_bytes: int, accept: Sequence[str]) -> Fetched | str:
        """The document, or where it is instead."""
        addresses = await self._addresses(place)
        async with (
            self._session(place, addresses) as session,
            session.get(place.url, headers=_headers(accept), allow_redirects=False) as answer,
        ):
            if answer.status in _REDIRECTS and (location := answer.headers.get("location")):
                return location
            if answer.status != 200:
                raise UnsupportedInput(f"the server of the URL answers with the status {answer.status}")
            return await _document(place, answer, max_bytes, accept)

    async def _addresses(self, place: Place) -> list[str]:
        """What may be dialed: all addresses of the host, or none. Raises UnsupportedInput.

        A name that does not exist is answered as one that lies inside: callers learn nothing of names in here.
        """
        if self._hosts and not any(_fits(place.host, host) for host in self._hosts):
            raise UnsupportedInput("nothing is fetched from the URL's host here")
        try:
            found = [place.host] if place.is_address else await self._resolve(place.host, place.port)
        except (OSError, UnicodeError):
            found = []
        checked = [self._allowed.address(each) for each in dict.fromkeys(found)]
        dialed = [address for address in checked if address is not None]
        if not dialed or len(dialed) < len(checked):
            raise UnsupportedInput("the URL's host has no address in public that it could be fetched from")
        return dialed

    def _session(self, place: Place, addresses: list[str]) -> aiohttp.ClientSession:
        """For one exchange: nothing of the environment, nothing kept."""
        if self._tls is None and place.scheme == "https":
            self._tls = _tls()
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            socket_factory=_only(frozenset(addresses)),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=CHUNK_BYTES,
            timeout=aiohttp.ClientTimeout(total=None),
        )


class _Pinned(AbstractResolver):
    """Whatever name is asked for: the addresses that were checked."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def _only(addresses: frozenset[str]) -> Callable[[Any], socket.socket]:
    """Makes sockets for these addresses: the one gate through which every connection goes, however it came about."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if address[0] not in addresses:
            raise OSError("an address that was not checked")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


async def _document(place: Place, answer: aiohttp.ClientResponse, max_bytes: int, accept: Sequence[str]) -> Fetched:
    content_type = answer.headers.get("content-type", "").strip()
    media_type = content_type.partition(";")[0].strip().lower()
    if accept and not any(_is_of(media_type, wanted) for wanted in accept):
        raise UnsupportedInput(f"the document at the URL is not of the type {' or '.join(accept)}")
    if (answer.content_length or 0) > max_bytes:
        raise too_large(max_bytes)
    body = Body(max_bytes, answer.headers.get("content-encoding", ""))
    async for piece in answer.content.iter_any():
        body.add(piece)
    return Fetched(content_type, body.whole(), place.url)


def _headers(accept: Sequence[str]) -> dict[str, str]:
    return {
        "accept": ", ".join(accept) or "*/*",
        "accept-encoding": ENCODINGS,
        "user-agent": f"arkway/{__version__}",
    }


def _is_of(media_type: str, wanted: str) -> bool:
    return media_type.startswith(wanted[:-1]) if wanted.endswith("/*") else media_type == wanted


def _fits(host: str, wanted: str) -> bool:
    return host.endswith(wanted) if wanted.startswith(".") else host == wanted


class _System:
    """The system's resolver, on threads of its own: names that take long hold up nothing else of the server."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "arkway-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(entry[4][0]) for entry in found]


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _why_not(error: Exception) -> str:
    """Without an address: callers are not told where a name leads."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "the certificate of the URL's server is not trusted"
        case aiohttp.ClientConnectorError() | OSError():
            return "the server of the URL cannot be reached"
        case aiohttp.ClientPayloadError():
            return "the document at the URL broke off before its end"
        case _:
            return "the server of the URL does not answer in HTTP as it should"
