"""Who calls, and one call's own facts."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["inference", "viewer", "developer", "owner", "operator"]
"""What a key may do; `arkway.core.roles` is the table."""


class Caller(msgspec.Struct, frozen=True):
    """An identified caller. ``endpoints`` empty = every endpoint of the project."""

    account: str
    project: str
    key_id: str
    endpoints: tuple[str, ...] = ()
    role: Role = "inference"


class Call(msgspec.Struct, frozen=True):
    """What a backend may know of the call it serves: its id, and whom to be fair to."""

    request_id: str
    account: str = ""
    project: str = ""
    key_id: str = ""


class AccessKey(msgspec.Struct, frozen=True):
    """An access key pair as a signature is checked with it: whose it is, and the secret in clear.

    ``session_token`` empty = a permanent pair; else every request has to carry this very token, signed.
    """

    id: str
    secret: bytes
    caller: Caller
    session_token: str = ""

    def __repr__(self) -> str:
        return f"AccessKey({self.id!r})"
