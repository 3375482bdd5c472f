"""The head of a request to the proxy: what it asks for, and how it is passed on."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

# About one hop only (RFC 9110 §7.6.1), or about the proxy itself.
_NOT_PASSED_ON = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"upgrade"))
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """Nothing is passed on. ``status`` and ``sentence`` are the answer, which is safe to show."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Head(NamedTuple):
    """Request line and fields, as sent."""

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]


class Wanted(NamedTuple):
    """Where a request wants to go. ``path`` is empty for a tunnel."""

    host: str
    port: int
    path: str

    @property
    def is_tunnel(self) -> bool:
        return not self.path


class _Reading:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def parse(raw: bytes) -> Head:
    """A head up to and with its empty line. Raises Refused (400)."""
    reading = _Reading()
    parser = httptools.HttpRequestParser(reading)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise Refused(400, "this is not a request of HTTP/1.1") from None
    return Head(parser.get_method().decode(), reading.target.decode("latin-1"), tuple(reading.fields))


def wanted(head: Head) -> Wanted:
    """Where the request wants to go, the host in lower case. Raises Refused: 400, or 403 where it names no host."""
    if head.method == "CONNECT":
        return _authority(head.target)
    try:
        place = urlsplit(head.target)
        host, port = place.hostname, place.port
    except ValueError:
        raise Refused(400, "the request's URL cannot be read") from None
    if place.scheme not in _DEFAULT_PORTS or not host:
        raise Refused(403, "this is a proxy and serves nothing itself: set HTTPS_PROXY to its address")
    _, _, rest = head.target.partition("://")
    path = rest[len(place.netloc) :] or "/"
    return Wanted(host, port or _DEFAULT_PORTS[place.scheme], path if path.startswith("/") else f"/{path}")


def passed_on(head: Head, path: str) -> bytes:
    """The head as the server behind a proxy gets it: the path alone, and the last request of its connection.

    The client's own Host stays: signatures cover it. Raises Refused (400) where there is not exactly one.
    """
    if sum(name.lower() == b"host" for name, _ in head.fields) != 1:
        raise Refused(400, "a request has to have one field `Host`")
    kept = [name + b": " + value for name, value in head.fields if name.lower() not in _NOT_PASSED_ON]
    line = f"{head.method} {path} HTTP/1.1".encode("latin-1")
    return b"\r\n".join([line, *kept, b"Connection: close", b"", b""])


def _authority(target: str) -> Wanted:
    host, _, port = target.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise Refused(400, "CONNECT names a host and a port, such as ark.cn-beijing.volces.com:443")
    return Wanted(host.strip("[]").rstrip(".").lower(), int(port), "")
