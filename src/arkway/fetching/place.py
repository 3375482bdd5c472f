"""A URL read once, strictly: what is dialed and asked for comes from these parts, never from its text again.

Readers of URLs differ (``http://a\\@b/``, ``http://①②⑦.⓪.⓪.①/``, ``0x7f.1``): what two of them could read as different
hosts is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from arkway.core.errors import UnsupportedInput

URL_MAX_CHARS = 8192
PORTS = {"http": 80, "https": 443}

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_is_name = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*").fullmatch
_is_v4 = re.compile(
    r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)", re.ASCII
).fullmatch
_ends_in_number = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)").fullmatch
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")


class Place(msgspec.Struct, frozen=True):
    """Where a document is: ``host`` is a name in lower case or an address without brackets; ``target`` is ASCII."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{shown}{port}{self.target}"

    @property
    def is_address(self) -> bool:
        return ":" in self.host or _is_v4(self.host) is not None


def place_of(url: str, ports: Collection[int]) -> Place:
    """Reads an absolute URL; its fragment is left out. Raises UnsupportedInput with the reason."""
    if len(url) > URL_MAX_CHARS:
        raise UnsupportedInput(f"a URL of more than {URL_MAX_CHARS} characters is not fetched")
    if _FORBIDDEN.search(url):
        raise UnsupportedInput(
            "the URL has blanks, backslashes, control characters or halves of characters; write them percent-encoded"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnsupportedInput("the URL's host or port is malformed") from None
    if parts.scheme not in PORTS:
        raise UnsupportedInput("only http:// and https:// URLs are fetched")
    if "@" in parts.netloc:
        raise UnsupportedInput("a URL with a user name or password is not fetched")
    port = PORTS[parts.scheme] if port is None else port
    if port not in ports:
        raise UnsupportedInput(f"URLs with the port {port} are not fetched")
    return Place(parts.scheme, _host(parts.netloc, parts.hostname or ""), port, _target(parts.path, parts.query))


def joined(place: Place, location: str, ports: Collection[int]) -> Place:
    """Where a redirect leads. Raises UnsupportedInput, also for one that gives up TLS."""
    if _FORBIDDEN.search(location):
        raise UnsupportedInput("the URL redirects to what is no URL")
    try:
        url = urljoin(place.url, location)
    except ValueError:
        raise UnsupportedInput("the URL redirects to what is no URL") from None
    there = place_of(url, ports)
    if place.scheme == "https" and there.scheme != "https":
        raise UnsupportedInput("the URL redirects from https:// to http://")
    return there


def _host(netloc: str, host: str) -> str:
    """A name of letters, digits, hyphens and dots, or a whole address. Raises UnsupportedInput."""
    if netloc.startswith("["):
        try:
            if "%" not in host:
                return str(IPv6Address(host))
        except ValueError:
            pass
        raise _no_host()
    host = host.removesuffix(".")
    # What ends in a number is an address to everybody, in some way or other (127.1, 0x7f000001): only the plain way.
    if not _is_name(host) or (_ends_in_number(host) and not _is_v4(host)):
        raise _no_host()
    return host


def _no_host() -> UnsupportedInput:
    return UnsupportedInput(
        "the URL's host is neither a name of letters, digits, hyphens and dots (in Punycode where it has others) "
        "nor an address in its usual form"
    )


def _target(path: str, query: str) -> str:
    target = f"{path or '/'}?{query}" if query else path or "/"
    return quote(target, safe=_AS_IT_IS)
