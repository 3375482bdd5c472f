"""Who calls: headers → Caller. What can be checked before the body is read is checked before it is read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from arkway.core.caller import AccessKey, Caller
from arkway.core.errors import MalformedCredentials, NoCredentials, UnknownCredentials
from arkway.core.raw import RawRequest, Tap
from arkway.ports import Directory
from arkway.signing import Claim, Head, KeyCache, Policy, authenticate, claim

Auth = Literal["bearer", "any", "signature", "control"]

REPEATS_REMEMBERED = 65_536
CONTROL_SERVICES = frozenset(("ark",))
SIGNED = "sign the request with an access key pair (Authorization: HMAC-SHA256 Credential=...)"
SIGNED_OR_BEARER = (
    "sign the request (Authorization: HMAC-SHA256 Credential=...) or send `Authorization: Bearer <API key>`"
)


class Proof(Protocol):
    """Credentials that look right. ``tap`` wants to see the body's pieces as they arrive, or is None."""

    tap: Tap | None

    def caller(self) -> Caller:
        """Who it is, now that the tap has seen the whole body. Raises Unauthenticated."""
        ...


class Identity:
    """Proves callers by API key, or by signature where a route takes one.

    ``repeated`` counts signatures that were seen before: a client that sends the same signed bytes twice is served, but
    a replay would look like this. ``repeats`` is what remembers them, where it has to outlive this object.
    """

    def __init__(self, directory: Directory, policy: Policy, repeats: Repeats | None = None) -> None:
        self._directory = directory
        self._policy = policy
        self._control_policy = msgspec.structs.replace(policy, services=CONTROL_SERVICES)
        self._keys = KeyCache()
        self._repeats = Repeats() if repeats is None else repeats

    @property
    def repeated(self) -> int:
        return self._repeats.count

    def begin(self, raw: RawRequest, auth: Auth) -> Proof:
        """The cheap checks, before the body is read. Raises Unauthenticated, BadRequest."""
        scheme = raw.header("authorization").partition(" ")[0].lower()
        if auth == "bearer" or (auth in ("any", "control") and scheme == "bearer"):
            return _Known(bearer(self._directory, raw), raw.header("authorization"))
        if not scheme and "x-signature" not in raw.query.lower():
            raise NoCredentials(SIGNED if auth == "signature" else SIGNED_OR_BEARER)
        now_s = raw.now_ms // 1000
        policy = self._control_policy if auth in ("signature", "control") else self._policy
        claimed = claim(Head(raw.method, raw.raw_path, raw.query, raw.fields), policy, now_s)
        return _Signed(lambda digest: self._checked(claimed, digest, now_s))

    def again(self, before: Proof, raw: RawRequest, auth: Auth) -> Proof:
        """As `begin`, for a request with the same path.

        Who showed this very key then is who calls now, for as long as the directory stands by it.
        """
        if (
            isinstance(before, _Known)
            and before.authorization == raw.header("authorization")
            and self._directory.stands(before.caller(), raw.now_ms // 1000)
        ):
            return before
        return self.begin(raw, auth)

    def _checked(self, claimed: Claim, digest: bytes, now_s: int) -> Caller:
        # Looked up only now: a pair that was revoked while its body came in is revoked.
        key = self._directory.access_key(claimed.access_key_id, now_s)
        # An unknown access key is checked like a known one, against nobody's secret: the answer takes as long.
        authenticate(claimed, self._policy, self._keys, key.secret if key else None, digest)
        assert key is not None
        _check_token(key, claimed)
        self._repeats.note(claimed.signature)
        self._directory.used(key.id, now_s)
        return key.caller


class Repeats:
    """Remembers the newest signatures, at most twice ``REPEATS_REMEMBERED``, and counts those that come again."""

    def __init__(self, remembered: int = REPEATS_REMEMBERED) -> None:
        self._remembered = remembered
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self.count = 0

    def note(self, signature: bytes) -> None:
        """One more signature."""
        mark = signature[:16]
        if mark in self._now or mark in self._before:
            self.count += 1
        self._now.add(mark)
        if len(self._now) >= self._remembered:
            self._before, self._now = self._now, set()


def bearer(directory: Directory, raw: RawRequest) -> Caller:
    """The caller that the ``Authorization: Bearer`` header proves. Raises NoCredentials, UnknownCredentials.

    Unknown, revoked and expired keys get one and the same answer.
    """
    scheme, _, secret = raw.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise NoCredentials
    caller = directory.caller(secret.strip(), raw.now_ms // 1000)
    if caller is None:
        raise UnknownCredentials
    return caller


class _Known:
    tap: Tap | None = None

    def __init__(self, caller: Caller, authorization: str) -> None:
        self._caller = caller
        self.authorization = authorization

    def caller(self) -> Caller:
        return self._caller


class _Signed:
    """``check`` takes the SHA-256 of the body."""

    def __init__(self, check: Callable[[bytes], Caller]) -> None:
        self._check = check
        self._hash = hashlib.sha256()
        self.tap: Tap | None = self._hash.update

    def caller(self) -> Caller:
        return self._check(self._hash.digest())


def _check_token(key: AccessKey, claimed: Claim) -> None:
    if not key.session_token:
        return
    if not claimed.session_token:
        raise MalformedCredentials("this is a temporary access key: send its session token in X-Security-Token, signed")
    if not hmac.compare_digest(key.session_token.encode(), claimed.session_token.encode()):
        raise UnknownCredentials("access key")
