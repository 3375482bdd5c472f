"""New connections to an upstream: names resolved, addresses raced, TLS verified."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from itertools import chain, zip_longest

from arkway.backends.upstream.connection import Connection
from arkway.backends.upstream.target import Target
from arkway.core.errors import Misconfigured

HEAD_START_S = 0.25
"""How long one address is tried before the next one joins in (RFC 8305 §5)."""

_FULL = (errno.EMFILE, errno.ENFILE)


class Dialer:
    """Connects to one target; ``make`` gives each connection its protocol."""

    def __init__(self, target: Target, ca_file: str, make: Callable[[], Connection]) -> None:
        """Raises Misconfigured: ``ca_file`` is not a file of PEM certificates."""
        self._target = target
        self._make = make
        self._tls = tls_context(ca_file) if target.tls else None
        self._is_address = _is_address(target.host)

    async def dial(self) -> Connection:
        """A connection, its TLS handshake done. Raises OSError (of which TLS errors are) and UnicodeError; has no
        deadline of its own."""
        addresses = [self._target.host] if self._is_address else await self._resolve()
        if len(addresses) == 1:
            return await self._connect(addresses[0])
        return await self.reach(addresses)

    async def _resolve(self) -> list[str]:
        """The host's addresses, each once, families in turns (RFC 8305 §4)."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        first = [str(entry[4][0]) for entry in found if entry[0] == found[0][0]]
        other = [str(entry[4][0]) for entry in found if entry[0] != found[0][0]]
        turns = chain.from_iterable(zip_longest(first, other))
        return list(dict.fromkeys(address for address in turns if address is not None))

    async def _connect(self, address: str) -> Connection:
        name = self._target.host if self._tls else None
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            self._make, address, self._target.port, ssl=self._tls, server_hostname=name
        )
        return protocol

    async def reach(self, addresses: list[str]) -> Connection:
        """The first address that answers; the others are let go."""
        attempts: set[asyncio.Task[Connection]] = set()
        failures: list[BaseException] = []
        try:
            while addresses or attempts:
                if addresses:
                    attempts.add(asyncio.ensure_future(self._connect(addresses.pop(0))))
                wait_s = HEAD_START_S if addresses else None
                done, attempts = await asyncio.wait(attempts, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    failure = attempt.exception()
                    if failure is None:
                        attempts |= done - {attempt}
                        return attempt.result()
                    failures.append(failure)
        finally:
            await _let_go(attempts)
        raise failures[0]


async def _let_go(attempts: set[asyncio.Task[Connection]]) -> None:
    """Cancel attempts; one that has connected already is hung up."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, Connection):
            result.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def tls_context(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, verified against ``ca_file`` or the system's authorities. Raises Misconfigured."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        reason = (
            error.strerror or "it holds no certificate" if isinstance(error, OSError) else "it holds no certificate"
        )
        raise Misconfigured(
            f"the upstream's ca_file cannot be used: {reason}; name a file of PEM certificates"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def why_not(error: BaseException) -> str:
    """What hindered a connection, in words without a host name."""
    match error:
        case socket.gaierror() | UnicodeError():
            return "its name cannot be resolved"
        case ssl.SSLCertVerificationError():
            return "its certificate is not trusted"
        case ssl.SSLError():
            return "the TLS handshake failed"
        case ConnectionRefusedError():
            return "it refuses connections"
        case TimeoutError():
            return "it does not answer"
        case OSError() if error.errno in _FULL:
            return "this server has too many files open"
        case _:
            return "the connection could not be made"
