"""Signing a request, as the official SDKs do."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from arkway.signing.canonical import (
    ALGORITHM,
    TERMINATOR,
    Request,
    canonical_host,
    canonical_path,
    canonical_query,
    canonical_request,
    derived_key,
    signature,
    string_to_sign,
)
from arkway.signing.credentials import Head

_SIGNED = {b"content-type", b"content-md5", b"host"}


def sign(
    head: Head,
    body: bytes,
    *,
    access_key_id: str,
    secret: bytes,
    region: str,
    service: str,
    x_date: str,
    session_token: str = "",
    signed: Collection[str] | None = None,
) -> dict[str, str]:
    """The headers to add: X-Date, X-Content-Sha256, X-Security-Token with a session token, and Authorization.

    ``head.fields`` has to hold Host; ``x_date`` is ``YYYYMMDDTHHMMSSZ`` in UTC. ``signed`` names the headers to sign
    (and leaves out X-Content-Sha256 if it is not among them); None is Content-Type, Content-Md5, Host and every X-
    header. Raises BadRequest for a path or query without one canonical form.
    """
    digest = hashlib.sha256(body).digest()
    added = _added(x_date, digest, session_token, signed)
    request = _request(head, added, signed)
    text = string_to_sign(canonical_request(request, digest), x_date, region, service)
    proof = signature(derived_key(secret, x_date[:8], region, service), text).hex()
    names = ";".join(name.decode() for name, _ in request.headers)
    credential = f"{access_key_id}/{x_date[:8]}/{region}/{service}/{TERMINATOR}"
    return {**added, "Authorization": f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={proof}"}


def _added(x_date: str, digest: bytes, session_token: str, signed: Collection[str] | None) -> dict[str, str]:
    added = {"X-Date": x_date}
    if signed is None or "x-content-sha256" in signed:
        added["X-Content-Sha256"] = digest.hex()
    if session_token:
        added["X-Security-Token"] = session_token
    return added


def _request(head: Head, added: dict[str, str], signed: Collection[str] | None) -> Request:
    fields = {name: value.strip(b" \t") for name, value in head.fields}
    fields |= {name.lower().encode(): value.encode() for name, value in added.items()}
    if b"host" in fields:
        fields[b"host"] = canonical_host(fields[b"host"])
    if signed is None:
        names = [name for name in fields if name in _SIGNED or name.startswith(b"x-")]
    else:
        names = [name.encode() for name in signed]
    headers = tuple((name, fields[name]) for name in sorted(names))
    return Request(head.method.encode(), canonical_path(head.raw_path), canonical_query(head.query), headers)
