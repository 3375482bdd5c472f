"""Reading a request's signature and refusing, before its body is read and a key looked up, what cannot be right.

The order of the checks is part of the contract (``docs/signing.md``): Authorization header, its form, scope, form of
the signed header names, X-Date and X-Expires, the signed headers themselves, body hash header, path and query.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NoReturn

import msgspec

from arkway.core.errors import BadRequest, MalformedCredentials, NoCredentials, SignatureExpired
from arkway.signing.canonical import (
    ALGORITHM,
    TERMINATOR,
    Request,
    canonical_host,
    canonical_path,
    canonical_query,
    shown,
)

AUTHORIZATION_BYTES_MAX = 4096
SIGNED_HEADERS_MAX = 64
FORM = (
    "HMAC-SHA256 Credential=<access key id>/<YYYYMMDD>/<region>/<service>/request, "
    "SignedHeaders=<name;name>, Signature=<64 hexadecimal digits>"
)

_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 +Credential=([^/, ]*)/([^/, ]*)/([^/, ]*)/([^/, ]*)/([^/, ]*), *"
    r"SignedHeaders=([^, ]*), *Signature=([^, ]*)"
)
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_.=+-]{1,128}")
_SCOPE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DATE = re.compile(r"[0-9]{8}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_HEADER_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
_X_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_BODY_HASH = re.compile(rb"[0-9a-f]{64}")
_SECONDS = re.compile(rb"[1-9][0-9]{0,9}")
_OWS = b" \t"
_READ = frozenset({b"x-content-sha256", b"x-expires"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_PRESIGNED = {"x-algorithm", "x-credential", "x-signature", "x-signedqueries", "x-amz-signature"}


class Head(msgspec.Struct, frozen=True):
    """What of a request is signed, as received: the path percent-encoded, the query raw and without ``?``.

    ``fields`` are the header fields in order, names lower case, duplicates kept.
    """

    method: str
    raw_path: str
    query: str
    fields: tuple[tuple[bytes, bytes], ...]


class Policy(msgspec.Struct, frozen=True):
    """What a surface accepts. Empty ``regions`` or ``services`` accept any.

    ``public_hosts`` are the names, with a port where it is neither 80 nor 443, by which callers know a server behind a
    proxy that rewrites Host.
    """

    regions: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    max_skew_s: int = 900
    public_hosts: tuple[str, ...] = ()
    require_host: bool = True


class Claim(msgspec.Struct, frozen=True):
    """Who signs what, as the request says it; nothing of it is proven before ``verify``.

    ``signature`` and ``declared_digest`` (of X-Content-Sha256) are octets. ``session_token`` is empty unless it is
    signed. Until ``expires_s`` (Unix time) the same request would be accepted again.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    x_date: str
    signature: bytes
    request: Request
    declared_digest: bytes | None
    session_token: str
    expires_s: int


class _Scope(msgspec.Struct, frozen=True):
    access_key_id: str
    date: str
    region: str
    service: str
    names: tuple[str, ...]
    signature: bytes


def claim(head: Head, policy: Policy, now_s: int) -> Claim:
    """Every check that needs neither body nor key. ``now_s`` is Unix time.

    Raises NoCredentials, MalformedCredentials and SignatureExpired; BadRequest for a signed header that was sent twice
    and for a path or query without one canonical form.
    """
    scope = _scope(_authorization(head), policy)
    values = _fields(head.fields, scope.names)
    x_date = _x_date(values, scope)
    signed_at_s = _seconds(x_date)
    lifetime_s = _lifetime_s(values, policy.max_skew_s)
    if not -policy.max_skew_s <= now_s - signed_at_s <= lifetime_s:
        _refuse_date(x_date, now_s, signed_at_s, lifetime_s, policy.max_skew_s)
    declared_digest = _declared_digest(values)
    return Claim(
        access_key_id=scope.access_key_id,
        date=scope.date,
        region=scope.region,
        service=scope.service,
        x_date=x_date,
        signature=scope.signature,
        request=_request(head, scope.names, values),
        declared_digest=declared_digest,
        session_token=values[b"x-security-token"].decode("latin-1") if "x-security-token" in scope.names else "",
        expires_s=signed_at_s + lifetime_s,
    )


def _authorization(head: Head) -> str:
    """The one Authorization value; refuses signatures in the query."""
    sent = [value for name, value in head.fields if name == b"authorization"]
    if head.query and "x-" in head.query.lower() and _is_presigned(head.query):
        raise MalformedCredentials(
            "signatures in the query string (X-Signature, X-Credential) are not accepted here; "
            "sign with the Authorization header"
        )
    if not sent:
        raise NoCredentials(f"send the header `Authorization: {FORM}`")
    if len(sent) > 1:
        raise MalformedCredentials("the header Authorization was sent twice")
    if len(sent[0]) > AUTHORIZATION_BYTES_MAX:
        raise MalformedCredentials(f"the header Authorization is longer than {AUTHORIZATION_BYTES_MAX} bytes")
    if not sent[0].isascii():
        raise MalformedCredentials("the header Authorization has characters that are not ASCII")
    return sent[0].strip(_OWS).decode("ascii")


def _is_presigned(query: str) -> bool:
    return any(piece.partition("=")[0].lower() in _OF_PRESIGNED for piece in query.split("&"))


def _scope(authorization: str, policy: Policy) -> _Scope:
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise MalformedCredentials(_why_not_authorization(authorization))
    access_key_id, date, region, service, terminator, names, signature = found.groups()
    if not _ACCESS_KEY_ID.fullmatch(access_key_id):
        raise MalformedCredentials("the access key id in Credential has characters that no access key id has")
    if not _DATE.fullmatch(date):
        raise MalformedCredentials(f"the date in Credential is `{shown(date)}`; it has to be YYYYMMDD")
    if terminator != TERMINATOR:
        raise MalformedCredentials(f"the scope in Credential ends with `{shown(terminator)}`; it has to be `request`")
    _require_allowed("region", region, policy.regions)
    _require_allowed("service", service, policy.services)
    if not _SIGNATURE.fullmatch(signature):
        raise MalformedCredentials("Signature has to be 64 lower-case hexadecimal digits")
    return _Scope(access_key_id, date, region, service, _names(names, policy), bytes.fromhex(signature))


def _require_allowed(what: str, value: str, allowed: frozenset[str]) -> None:
    if not _SCOPE_NAME.fullmatch(value):
        raise MalformedCredentials(f"the {what} in Credential is empty or not a name")
    if allowed and value not in allowed:
        names = " or ".join(f"`{name}`" for name in sorted(allowed))
        raise MalformedCredentials(
            f"the request is signed for the {what} `{shown(value)}`; this server takes {names}: "
            f"set the {what} in your client"
        )


def _why_not_authorization(authorization: str) -> str:
    algorithm = authorization.partition(" ")[0]
    if algorithm.startswith("AWS4"):
        return (
            "this is an AWS signature (`AWS4-HMAC-SHA256`); Volcengine's has the algorithm `HMAC-SHA256`, "
            "no `AWS4` before the secret and a scope that ends with `request`"
        )
    if algorithm.lower() == "bearer":
        return "the header Authorization carries a Bearer token where a signature was expected"
    if algorithm.startswith("HMAC-") and algorithm != ALGORITHM:
        return f"the signature's algorithm is `{shown(algorithm)}`; only `{ALGORITHM}` is accepted"
    if algorithm != ALGORITHM:
        # What stands there instead may be a secret: an API key without its scheme.
        return f"the header Authorization begins with neither `{ALGORITHM}` nor `Bearer`"
    for part in ("Credential=", "SignedHeaders=", "Signature="):
        if part not in authorization:
            return f"the header Authorization has no `{part}`; its form is `{FORM}`"
    return f"the header Authorization does not have the form `{FORM}`"


def _names(joined: str, policy: Policy) -> tuple[str, ...]:
    if not _HEADER_NAMES.fullmatch(joined):
        raise MalformedCredentials("SignedHeaders has to be header names in lower case, joined by semicolons")
    names = tuple(joined.split(";"))
    if len(names) > SIGNED_HEADERS_MAX:
        raise MalformedCredentials(f"SignedHeaders names more than {SIGNED_HEADERS_MAX} headers")
    if any(one >= other for one, other in pairwise(names)):
        raise MalformedCredentials("SignedHeaders has to be sorted, each name once")
    for name in ("x-date", "host") if policy.require_host else ("x-date",):
        if name not in names:
            raise MalformedCredentials(f"SignedHeaders has to name `{name}`")
    return names


def _fields(fields: tuple[tuple[bytes, bytes], ...], names: tuple[str, ...]) -> dict[bytes, bytes]:
    """The trimmed values that count, by name: those of the signed headers, and of the unsigned ones in ``_READ``."""
    signed = {name.encode() for name in names}
    wanted = signed | _READ
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in wanted:
            if name in values:
                raise BadRequest(f"the header `{shown(name.decode('ascii'))}` was sent twice; the signature covers one")
            values[name] = value.strip(_OWS)
    for name in sorted(signed.difference(values)):
        raise MalformedCredentials(
            f"SignedHeaders names `{shown(name.decode())}`, but the request has no such header; "
            "a proxy may have removed it"
        )
    return values


def _x_date(values: dict[bytes, bytes], scope: _Scope) -> str:
    if not _X_DATE.fullmatch(values[b"x-date"]):
        raise MalformedCredentials("X-Date has to be a UTC time of the form YYYYMMDDTHHMMSSZ")
    x_date = values[b"x-date"].decode("ascii")
    if x_date[:8] != scope.date:
        raise MalformedCredentials(f"the date in Credential, {scope.date}, is not the day of X-Date, {x_date[:8]}")
    return x_date


def _seconds(x_date: str) -> int:
    day, time = x_date[:8], x_date[9:15]
    try:
        moment = datetime(
            int(day[:4]), int(day[4:6]), int(day[6:]), int(time[:2]), int(time[2:4]), int(time[4:]), tzinfo=UTC
        )
    except ValueError:
        raise MalformedCredentials("X-Date is not a time of the calendar") from None
    return (moment - _EPOCH) // timedelta(seconds=1)


def _lifetime_s(values: dict[bytes, bytes], max_skew_s: int) -> int:
    """How long after X-Date the request is taken; X-Expires may only shorten it."""
    expires = values.get(b"x-expires")
    if expires is None:
        return max_skew_s
    if not _SECONDS.fullmatch(expires):
        raise MalformedCredentials("X-Expires has to be a positive number of seconds")
    return min(int(expires), max_skew_s)


def _refuse_date(x_date: str, now_s: int, signed_at_s: int, lifetime_s: int, max_skew_s: int) -> NoReturn:
    late_s = now_s - signed_at_s
    now = (_EPOCH + timedelta(seconds=now_s)).strftime("%Y%m%dT%H%M%SZ")
    if late_s > 0:
        why = f"{late_s} s ago, more than {lifetime_s} s: the client's clock is slow, or the request was held up"
    else:
        why = f"{-late_s} s in the future, more than {max_skew_s} s: the client's clock is fast"
    raise SignatureExpired(f"X-Date is {x_date}, the server's clock says {now}; that is {why}")


def _declared_digest(values: dict[bytes, bytes]) -> bytes | None:
    declared = values.get(b"x-content-sha256")
    if declared is None:
        return None
    if not _BODY_HASH.fullmatch(declared):
        raise MalformedCredentials(
            "X-Content-Sha256 has to be the SHA-256 of the body in 64 lower-case hexadecimal digits; "
            "unsigned and chunk-signed payloads are not accepted"
        )
    return bytes.fromhex(declared.decode("ascii"))


def _request(head: Head, names: tuple[str, ...], values: dict[bytes, bytes]) -> Request:
    headers = []
    for text in names:
        name = text.encode()
        headers.append((name, canonical_host(values[name]) if name == b"host" else values[name]))
    return Request(head.method.encode(), canonical_path(head.raw_path), canonical_query(head.query), tuple(headers))
