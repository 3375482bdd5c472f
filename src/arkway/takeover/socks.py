"""SOCKS 5 (RFC 1928), for clients that heed no HTTP proxy: connections without a password, to TLS alone.

A client may have looked up the name itself and send an address; then the name comes with its TLS, and is checked there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

VERSION = b"\x05"
_NO_PASSWORD = 0x00
_CONNECT = 0x01
_IPV4, _NAME, _IPV6 = 0x01, 0x03, 0x04
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}

GRANTED, NOT_ALLOWED, UNREACHABLE, COMMAND_UNKNOWN, ADDRESS_UNKNOWN = 0x00, 0x02, 0x04, 0x07, 0x08


class NotAllowed(Exception):
    """The request was answered with a refusal; the message says what was wanted."""


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hosts: Collection[str], port: int) -> None:
    """Reads greeting and request after their first byte. Raises NotAllowed, after the answer that says so."""
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    if _NO_PASSWORD not in methods:
        writer.write(VERSION + b"\xff")
        raise NotAllowed("a SOCKS client that insists on a password")
    writer.write(VERSION + bytes((_NO_PASSWORD,)))
    _, command, _, kind = await reader.readexactly(4)
    host = await _host(reader, writer, kind)
    wanted_port = int.from_bytes(await reader.readexactly(2), "big")
    if command != _CONNECT:
        reply(writer, COMMAND_UNKNOWN)
        raise NotAllowed("a SOCKS command other than CONNECT")
    if wanted_port != port or (host is not None and host not in hosts):
        reply(writer, NOT_ALLOWED)
        raise NotAllowed(f"{host or 'an address'}:{wanted_port}")


def reply(writer: asyncio.StreamWriter, code: int) -> None:
    """Answers a request; the address in the answer has no meaning here."""
    writer.write(VERSION + bytes((code, 0, _IPV4)) + bytes(6))


async def _host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: int) -> str | None:
    """The name asked for; None where it was an address."""
    if kind == _NAME:
        name = await reader.readexactly((await reader.readexactly(1))[0])
        return name.decode("latin-1").rstrip(".").lower()
    if kind not in _ADDRESS_BYTES:
        reply(writer, ADDRESS_UNKNOWN)
        raise NotAllowed("a SOCKS address of an unknown kind")
    await reader.readexactly(_ADDRESS_BYTES[kind])
    return None
