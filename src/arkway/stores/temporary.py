"""Temporary API keys: each carries its own grant and a proof of it, so that none is ever written anywhere.

``ark-t<grant>.<proof>``: the grant is MessagePack, the proof its HMAC-SHA256 under a key that is derived from the
pepper, both in base64url without padding. Whoever has the pepper can check one: every process of the server, at once.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from arkway.core.caller import Caller
from arkway.ports import Grant
from arkway.stores.home import Pepper

PREFIX = "ark-t"
MAX_CHARACTERS = 16_384
# No header can hold the NUL, so that nobody ever sends this text as a key.
_PURPOSE = "\0arkway temporary API keys 1"

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Grant)


class TemporaryKeys:
    """Makes and checks temporary keys."""

    def __init__(self, pepper: Pepper) -> None:
        self._key = pepper.digest(_PURPOSE)

    def issue(self, grant: Grant) -> str:
        """The secret for a grant."""
        content = _ENCODER.encode(grant)
        return f"{PREFIX}{_text(content)}.{_text(self._proof(content))}"

    def claimed(self, secret: str) -> bool:
        """Whether it has the form of a temporary key: no other key has a dot in it."""
        return secret.startswith(PREFIX) and "." in secret

    def grant(self, secret: str, now_s: int) -> Grant | None:
        """What the secret is good for; None where it is no temporary key of ours, or one that has expired."""
        if not self.claimed(secret) or len(secret) > MAX_CHARACTERS:
            return None
        shown, _, proof = secret.removeprefix(PREFIX).partition(".")
        try:
            content = _bytes(shown)
            if not hmac.compare_digest(_bytes(proof), self._proof(content)):
                return None
            found = _DECODER.decode(content)
        except (ValueError, binascii.Error, msgspec.DecodeError):
            return None
        return found if found.resources and now_s < found.expires_s else None

    def _proof(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")


def caller_of(grant: Grant) -> Caller:
    """Who calls with a temporary key: its access key, limited to these resources, and to calling."""
    return Caller(grant.account, grant.project, grant.access_key_id, grant.resources)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
