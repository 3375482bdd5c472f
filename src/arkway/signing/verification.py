"""Proving a claim: the signature compared with the one that this key gives for this request."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256

import msgspec

from arkway.core.errors import SignatureMismatch, UnknownCredentials
from arkway.signing.canonical import (
    EMPTY_DIGEST,
    Request,
    canonical_host,
    canonical_request,
    derived_key,
    shown,
    signature,
    string_to_sign,
)
from arkway.signing.credentials import Claim, Policy

KEYS_MAX = 4096

_EMPTY_OBJECT_DIGEST = sha256(b"{}").digest()
_NOBODY = b"the key of an access key id that does not exist"


class KeyCache:
    """Derived signing keys, the least recently used forgotten first. Holds secrets: never log or pickle one.

    A key is good for one day, so a cache of ``capacity`` entries serves that many access keys with one region and
    service each. For use by one thread.
    """

    def __init__(self, capacity: int = KEYS_MAX) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[tuple[bytes, str, str, str], bytes] = OrderedDict()

    def key(self, secret: bytes, claim: Claim) -> bytes:
        """The signing key of this secret for the claim's day, region and service."""
        name = (secret, claim.date, claim.region, claim.service)
        found = self._keys.get(name)
        if found is not None:
            self._keys.move_to_end(name)
            return found
        found = self._keys[name] = derived_key(*name)
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
        return found

    def __len__(self) -> int:
        return len(self._keys)


def authenticate(claim: Claim, policy: Policy, keys: KeyCache, secret: bytes | None, body_digest: bytes) -> None:
    """``verify`` with the secret that was found for the claim's access key id, or None where there is none.

    An unknown id costs the same work as a wrong secret, and is refused whatever its signature. Raises
    UnknownCredentials and SignatureMismatch.
    """
    signing_key = keys.key(_NOBODY if secret is None else secret, claim)
    try:
        verify(claim, policy, signing_key, body_digest)
    except SignatureMismatch:
        if secret is not None:
            raise
    if secret is None:
        raise UnknownCredentials("access key")


def verify(claim: Claim, policy: Policy, signing_key: bytes, body_digest: bytes) -> None:
    """Compares in constant time, for the received Host and for each public host.

    ``body_digest`` is the SHA-256 of the body as it came off the wire, chunks joined; 32 octets. Raises
    SignatureMismatch, whose message never tells what the signature should have been.
    """
    digests = _digests(body_digest)
    if claim.declared_digest is not None:
        if claim.declared_digest not in digests:
            raise SignatureMismatch(
                "the body's SHA-256 is not the one in X-Content-Sha256: the body was changed on the way, "
                "or the client hashed another text than it sent"
            )
        digests = (claim.declared_digest,)
    for request in _requests(claim.request, policy.public_hosts):
        for digest in digests:
            text = string_to_sign(canonical_request(request, digest), claim.x_date, claim.region, claim.service)
            if hmac.compare_digest(signature(signing_key, text), claim.signature):
                return
    raise SignatureMismatch(_why_mismatch(claim, policy))


def _digests(body_digest: bytes) -> tuple[bytes, ...]:
    """What a signer may have hashed: Python's core SDK hashes nothing and sends ``{}`` for a call without a body."""
    return (body_digest, EMPTY_DIGEST) if body_digest == _EMPTY_OBJECT_DIGEST else (body_digest,)


def _requests(request: Request, public_hosts: tuple[str, ...]) -> Iterator[Request]:
    """The request as received, then as it would be under each public host."""
    yield request
    if not any(name == b"host" for name, _ in request.headers):
        return
    for public in public_hosts:
        host = canonical_host(public.encode())
        headers = tuple((name, host if name == b"host" else value) for name, value in request.headers)
        yield msgspec.structs.replace(request, headers=headers)


def _why_mismatch(claim: Claim, policy: Policy) -> str:
    names = ";".join(name.decode() for name, _ in claim.request.headers)
    why = (
        "the signature does not match this request: either the secret access key is not the one of this access key id, "
        f"or the method, path, query, body or a signed header ({shown(names, 256)}) was changed after signing"
    )
    host = dict(claim.request.headers).get(b"host")
    if host is None:
        return why
    tried = "".join(f", `{public}`" for public in policy.public_hosts)
    return (
        f"{why}. Tried with the Host as received, `{shown(host.decode('latin-1'), 256)}`{tried}; if the client was "
        "given another name, a proxy rewrote Host: let it pass Host on, or list the client's name in `public_hosts`"
    )
