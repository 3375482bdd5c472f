"""The objects that every call makes."""

from __future__ import annotations

import msgspec


class Transient(msgspec.Struct, eq=False):
    """An object of one call. Made in one step, without running any Python code, which on the road of a call adds up.

    Compared, and shown in a traceback or a log, by identity: what it holds may be a prompt or a key.
    """

    def __repr__(self) -> str:
        return object.__repr__(self)
