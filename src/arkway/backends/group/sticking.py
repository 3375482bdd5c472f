"""Calls that belong together go to one member: rendezvous hashing, by weight.

Each member has a score for each key, and the best one serves. When a member is lost, only its own keys move, each to
its second best; the same key goes to the same member in every process. (D. G. Thaler and C. V. Ravishankar, "Using
name-based mappings to increase hit rates", 1998; the weights are by the logarithm of a uniform score.)
"""

from __future__ import annotations

from hashlib import blake2b
from math import log

from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.upstream import Policy

PREFIX_CHARACTERS = 4096
"""So much of a conversation's beginning tells its prompt prefix apart: system prompt and first turns."""

_BITS = 52
_STEP = 0.5**_BITS


def key_of(policy: Policy, request: ChatRequest, call: Call) -> bytes:
    """What the call belongs to; empty where calls belong to nothing."""
    match policy.stick_to:
        case "session":
            return f"{call.account}\0{request.user or call.key_id}".encode(errors="surrogatepass")
        case "prefix":
            return _prefix(request)
    return b""


def point(key: bytes, name: bytes) -> float:
    """Where the key falls for this name, in (0, 1): even over keys, and independent between names."""
    digest = blake2b(name + b"\0" + key, digest_size=8).digest()
    # One bit fewer than a float holds: half a step from either end, it is neither 0 nor 1.
    return (float(int.from_bytes(digest, "big") >> (64 - _BITS)) + 0.5) * _STEP


def score(key: bytes, name: bytes, weight: int) -> float:
    """The highest of several members' scores is any member's as often as its weight says."""
    return -weight / log(point(key, name))


def _prefix(request: ChatRequest) -> bytes:
    pieces: list[str] = []
    left = PREFIX_CHARACTERS
    for message in request.messages:
        text = message.text()[:left]
        pieces += (message.role, text)
        left -= len(text)
        if left <= 0:
            break
    # Strings of the wire may hold what UTF-8 cannot: this is only hashed.
    return "\0".join(pieces).encode(errors="surrogatepass")
