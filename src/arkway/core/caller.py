"""Who calls, and one call's own facts."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """An identified caller. ``endpoints`` empty = every endpoint of the project."""

    account: str
    project: str
    key_id: str
    endpoints: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """What a backend may know of the call it serves: its id, and whom to be fair to."""

    request_id: str
    account: str = ""
    project: str = ""
    key_id: str = ""
