"""What ``arkway.signing`` says of a request, in the words of the second opinion."""

from __future__ import annotations

import hashlib

from arkway.core import errors
from arkway.signing import Head, KeyCache, Policy, authenticate, claim
from tests.unit.signing.second_opinion import Rules, Wire

KINDS: dict[type[errors.ArkwayError], str] = {
    errors.NoCredentials: "none",
    errors.MalformedCredentials: "malformed",
    errors.SignatureExpired: "expired",
    errors.BadRequest: "bad_request",
    errors.SignatureMismatch: "mismatch",
    errors.UnknownCredentials: "unknown",
}
KEYS = KeyCache(64)


def head_of(wire: Wire) -> Head:
    fields = tuple((name.encode(), value.encode("latin-1")) for name, value in wire.headers)
    return Head(wire.method, wire.path, wire.query, fields)


def policy_of(rules: Rules) -> Policy:
    return Policy(
        frozenset(rules.regions), frozenset(rules.services), rules.skew_s, tuple(rules.public_hosts), rules.host_needed
    )


def check(wire: Wire, secret: str | None, rules: Rules, now_s: int) -> None:
    """Passes, or raises what a server would answer with."""
    policy = policy_of(rules)
    found = claim(head_of(wire), policy, now_s)
    key = None if secret is None else secret.encode()
    authenticate(found, policy, KEYS, key, hashlib.sha256(wire.body).digest())


def judged(wire: Wire, secret: str | None, rules: Rules, now_s: int) -> str:
    """``accepted``, or the kind of refusal; what is not in the tree of errors goes through."""
    try:
        check(wire, secret, rules, now_s)
    except errors.CallerError as error:
        return KINDS[type(error)]
    return "accepted"
