"""The scheme itself: what is signed, and with which key.

Unlike AWS Signature V4, the secret gets no prefix, the scope ends with ``request``, inner blanks of header values stay,
and query parameters are sorted by their decoded names.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import quote, unquote_to_bytes

import msgspec

from arkway.core.errors import BadRequest

ALGORITHM = "HMAC-SHA256"
TERMINATOR = "request"
EMPTY_DIGEST = hashlib.sha256(b"").digest()

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.~/-]*")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~-]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DEFAULT_PORTS = (b"80", b"443")


class Request(msgspec.Struct, frozen=True):
    """The signed parts in canonical form: path and query encoded, header names sorted, values trimmed."""

    method: bytes
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def canonical_path(raw_path: str) -> bytes:
    """Every octet percent-encoded but ``A-Za-z0-9-_.~`` and the slashes; an empty path is ``/``.

    Raises BadRequest for what two readers could read as two paths: encoded slashes, empty and dot segments, octets
    that are not UTF-8, broken escapes.
    """
    if _PLAIN_PATH.fullmatch(raw_path) and "//" not in raw_path and "/." not in raw_path:
        return raw_path.encode()
    if raw_path and raw_path[0] != "/":
        raise BadRequest("the request's path does not begin with a slash")
    segments = [_decoded(segment, "path") for segment in raw_path.split("/")]
    for segment in segments:
        if "/" in segment:
            raise BadRequest("the path has an encoded slash (%2F), which cannot be signed over")
        if segment in (".", ".."):
            raise BadRequest("the path has a dot segment (`.` or `..`), which cannot be signed over")
    if "" in segments[1:-1]:
        raise BadRequest("the path has an empty segment (`//`), which cannot be signed over")
    return "/".join(quote(segment, safe="") for segment in segments).encode() or b"/"


def canonical_query(query: str) -> bytes:
    """``name=value`` pairs, sorted by decoded name, encoded like the path, blanks as ``%20``.

    Raises BadRequest for a name given twice, for octets that are not UTF-8 and for broken escapes.
    """
    if not query:
        return b""
    if _PLAIN_QUERY.fullmatch(query):
        return query.encode()
    pairs = query_pairs(query)
    return "&".join(f"{quote(name, safe='')}={quote(pairs[name], safe='')}" for name in sorted(pairs)).encode()


def query_pairs(query: str) -> dict[str, str]:
    """The decoded parameters; raises BadRequest as ``canonical_query`` does."""
    pairs: dict[str, str] = {}
    for piece in query.split("&"):
        if not piece:
            continue
        name, _, value = piece.replace("+", " ").partition("=")
        name = _decoded(name, "query")
        if name in pairs:
            raise BadRequest(f"the query has the parameter `{shown(name)}` twice, which cannot be signed over")
        pairs[name] = _decoded(value, "query")
    return pairs


def canonical_host(host: bytes) -> bytes:
    """The host as signers write it: the ports 80 and 443 are left out, every other port stays."""
    name, colon, port = host.rpartition(b":")
    if colon and port in _DEFAULT_PORTS and (b":" not in name or name.endswith(b"]")):
        return name
    return host


def canonical_request(request: Request, body_digest: bytes) -> bytes:
    """The text whose SHA-256 is signed. ``body_digest`` is 32 octets."""
    lines = b"".join([b"%b:%b\n" % pair for pair in request.headers])
    names = b";".join([name for name, _ in request.headers])
    body_hash = body_digest.hex().encode()
    return b"\n".join((request.method, request.path, request.query, lines, names, body_hash))


def string_to_sign(canonical: bytes, x_date: str, region: str, service: str) -> bytes:
    """Algorithm, time, scope and the canonical request's hash. ``x_date`` is ``YYYYMMDDTHHMMSSZ``."""
    scope = f"{x_date[:8]}/{region}/{service}/{TERMINATOR}"
    return f"{ALGORITHM}\n{x_date}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}".encode()


def derived_key(secret: bytes, date: str, region: str, service: str) -> bytes:
    """The signing key of one day, region and service; 32 octets. ``secret`` is used as it is, never base64-decoded."""
    key = secret
    for part in (date, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(signing_key: bytes, text: bytes) -> bytes:
    """The 32 octets that travel as 64 hexadecimal digits."""
    return hmac.digest(signing_key, text, "sha256")


def shown(text: str, limit: int = 64) -> str:
    """What a message may repeat of the caller's own words: printable ASCII, at most ``limit`` characters."""
    return "".join(c if " " <= c <= "~" and c != "`" else "?" for c in text[:limit])


def _decoded(text: str, where: str) -> str:
    if "%" not in text and text.isascii():
        return text
    if _BROKEN_ESCAPE.search(text) or not text.isascii():
        raise BadRequest(f"the {where} is not correctly percent-encoded")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"the {where} has percent-encoded octets that are not UTF-8") from None
