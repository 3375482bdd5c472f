"""What a request's head may be: stricter than the parser where servers and proxies read differently.

The parser (llhttp, strict) already refuses bare line feeds, folded lines, two or malformed lengths, a length beside a
coding, spaces before a colon and control characters. What it lets through and must not pass is refused here (RFC 9112
§3.2, §6.1; RFC 9110 §7.2).
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress

from arkway.core.errors import BadRequest, HeadTooLarge
from arkway.http.edge import EdgeLimits, Fields, Refusal

EXPECTS, BODIED, CHUNKED = 1, 2, 4
HOST_MAX_BYTES = 255 + 6
HOSTS_KEPT = 1024

_WATCHED = frozenset((b"host", b"transfer-encoding", b"content-length", b"expect"))
_HOST = re.compile(
    rb"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{1,5}))?"
)
_SCHEMES = (b"http://", b"https://")
_hosts_known: set[bytes] = set()

_COMMON = (
    b"Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Encoding Content-Length "
    b"Content-Type Cookie Date Expect Host Keep-Alive Origin Pragma Referer TE Traceparent Tracestate "
    b"Transfer-Encoding User-Agent X-Api-Key X-Client-Request-Id X-Content-Sha256 X-Date X-Forwarded-For "
    b"X-Forwarded-Host X-Forwarded-Proto X-Real-IP X-Request-Id X-Security-Token X-Stainless-Arch "
    b"X-Stainless-Async X-Stainless-Lang X-Stainless-OS X-Stainless-Package-Version X-Stainless-Raw-Response "
    b"X-Stainless-Read-Timeout X-Stainless-Retry-Count X-Stainless-Runtime X-Stainless-Runtime-Version "
    b"X-Tt-Logid"
)
LOWER: dict[bytes, bytes] = {form: name.lower() for name in _COMMON.split() for form in (name, name.lower())}
"""Usual spellings to one shared object in lower case; none of them holds an underscore."""


def examined(raw: Fields, version: str) -> tuple[Fields, int]:
    """The fields with their names in lower case, and how the request is to be read: EXPECTS | BODIED | CHUNKED.

    Names with an underscore are left out: some servers take them for the same names with a hyphen. Raises Refusal.
    """
    if version != "1.1" and version != "1.0":
        raise Refusal(400 if version == "0.9" else 505, BadRequest(f"HTTP/{version} is not spoken here; use HTTP/1.1"))
    fields: Fields = []
    hosts = flags = 0
    for name, value in raw:
        lower = LOWER.get(name)
        if lower is None:
            if b"_" in name:
                continue
            lower = name.lower()
        fields.append((lower, value))
        if lower in _WATCHED:
            if lower == b"host":
                hosts += 1
                if value not in _hosts_known:
                    _check_host(value)
            elif lower == b"content-length":
                if value != b"0":
                    flags |= BODIED
            else:
                flags |= _coding(value, version) if lower == b"transfer-encoding" else _expectation(value, version)
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refusal(400, BadRequest(f"a request has exactly one `Host` header, got {hosts}"))
    return fields, flags


def lowered(raw: Fields) -> Fields:
    """The fields of a request that is refused, as far as they came."""
    return [(name.lower(), value) for name, value in raw]


def measured(fields: Fields, limits: EdgeLimits) -> None:
    """Raises Refusal for fields that are too large together."""
    if sum(len(name) + len(value) for name, value in fields) > limits.header_bytes:
        raise Refusal(431, HeadTooLarge(f"the headers are larger than {limits.header_bytes} bytes"))


def located(target: bytes, method: bytes, fields: Fields) -> bytes:
    """The target in origin form (RFC 9112 §3.2). Raises Refusal.

    The absolute form is taken where it names the same host as the header does: nothing may depend on which is read.
    """
    if b"#" in target:
        raise Refusal(400, BadRequest("a request's target holds no fragment (`#`)"))
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return target
    scheme = next((each for each in _SCHEMES if target[: len(each)].lower() == each), b"")
    if scheme:
        authority, slash, path = target[len(scheme) :].partition(b"/")
        authority, mark, query = authority.partition(b"?")
        host = next((value for name, value in fields if name == b"host"), b"")
        if authority and authority.lower() == host.lower() and not (mark and slash):
            return b"/" + path + mark + query
    raise Refusal(400, BadRequest("the request's target has to be a path, such as `/api/v3/models`"))


def _check_host(value: bytes) -> None:
    found = _HOST.fullmatch(value) if len(value) <= HOST_MAX_BYTES else None
    if found is None or int(found["port"] or 0) > 65535 or (found["six"] and not _is_ipv6(found["six"])):
        raise Refusal(400, BadRequest("the `Host` header has to be a name or an address, with a port where needed"))
    if len(_hosts_known) < HOSTS_KEPT:
        _hosts_known.add(value)


def _is_ipv6(text: bytes) -> bool:
    with suppress(ValueError):
        ipaddress.IPv6Address(text.decode("ascii"))
        return True
    return False


def _coding(value: bytes, version: str) -> int:
    if version != "1.1":
        raise Refusal(400, BadRequest("`Transfer-Encoding` belongs to HTTP/1.1"))
    if value != b"chunked":
        raise Refusal(501, BadRequest("`Transfer-Encoding` can be `chunked` and nothing else"))
    return CHUNKED | BODIED


def _expectation(value: bytes, version: str) -> int:
    if value.lower() != b"100-continue":
        raise Refusal(417, BadRequest("`Expect` can be `100-continue` and nothing else"))
    return EXPECTS if version == "1.1" else 0
