"""What the audit log is told of a change: who, what, to what, from which request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Actor(msgspec.Struct, frozen=True):
    """Who acts: a key's id, ``cli:<user of the operating system>``, or ``arkway``, the server itself.

    ``request_id`` is that of the request by which it acts, empty where there is none.
    """

    name: str
    request_id: str = ""


SERVER = Actor("arkway")


class Entry(msgspec.Struct, frozen=True):
    """One entry before it is written. ``target`` is an id, ``detail`` never holds a secret.

    ``project`` is empty where the change is the whole account's. The store adds an id and the time.
    """

    account: str
    project: str
    actor: Actor
    action: str
    target: str
    detail: Mapping[str, Any] = {}
