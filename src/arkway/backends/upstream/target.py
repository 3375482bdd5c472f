"""Where an upstream is: its base URL, taken apart once."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import SplitResult, urlsplit

import msgspec

from arkway.core.errors import Misconfigured

PORTS = {"http": 80, "https": 443}

_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)


class Target(msgspec.Struct, frozen=True):
    """A server and the path on it. ``authority`` is what the Host header says (RFC 9110 §7.2)."""

    host: str
    port: int
    tls: bool
    authority: str
    path: str


def target_of(base_url: str) -> Target:
    """Read ``http[s]://host[:port][/path]``; a trailing slash does not count.

    Raises Misconfigured: another scheme, user information, a query or fragment, or a host or port that is none.
    """
    if not _PRINTABLE.fullmatch(base_url) or "\\" in base_url:
        raise _unfit("it has characters that no URL has")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise _unfit("its host or port is malformed") from None
    _check(parts, base_url, port)
    host = _host(parts)
    tls = parts.scheme == "https"
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, PORTS[parts.scheme]) else f"{shown}:{port}"
    return Target(host, port or PORTS[parts.scheme], tls, authority, parts.path.rstrip("/"))


def _check(parts: SplitResult, base_url: str, port: int | None) -> None:
    if parts.scheme not in PORTS:
        raise _unfit("it must begin with http:// or https://")
    if "@" in parts.netloc:
        raise _unfit("it must not hold a user name or password; the upstream's credential is set apart from it")
    if "?" in base_url or "#" in base_url:
        raise _unfit("it must not have a query or a fragment")
    if port == 0:
        raise _unfit("port 0 is none")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        try:
            return str(IPv6Address(host)) if "%" not in host else _refuse_host()
        except ValueError:
            _refuse_host()
    if not _NAME.fullmatch(host):
        _refuse_host()
    return host


def _refuse_host() -> str:
    raise _unfit("its host is neither a name of letters, digits, dots and hyphens nor an address")


def _unfit(why: str) -> Misconfigured:
    return Misconfigured(
        f"the upstream's base_url cannot be used: {why}; write it like https://models.example.com/v1, without a query"
    )
