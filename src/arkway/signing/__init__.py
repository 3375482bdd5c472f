"""Volc Signature V4 (HMAC-SHA256): reading, checking and making signatures. Pure; the clock is passed in.

``docs/signing.md`` describes the scheme and every check; ``docs/signing/`` publishes test vectors for it. A server
calls, in this order::

    found = claim(head, policy, now_s)                          # before the body is read; cheap checks only
    ...                                                         # look up the secret, hash the body as it arrives
    authenticate(found, policy, keys, secret, body_digest)      # secret None = unknown access key
"""

from __future__ import annotations

from arkway.signing.canonical import Request, canonical_request, derived_key, signature, string_to_sign
from arkway.signing.credentials import Claim, Head, Policy, claim
from arkway.signing.outgoing import KeyPair, signed_headers
from arkway.signing.signer import sign
from arkway.signing.verification import KeyCache, authenticate, verify

__all__ = [
    "Claim",
    "Head",
    "KeyCache",
    "KeyPair",
    "Policy",
    "Request",
    "authenticate",
    "canonical_request",
    "claim",
    "derived_key",
    "sign",
    "signature",
    "signed_headers",
    "string_to_sign",
    "verify",
]
