"""Why a call's task was cancelled: because its client left, or because the server stops.

Both look the same from inside, and end differently: the one is nobody's fault and nobody is there to be told, the other
is ours, and the client is still listening.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

from arkway.core.errors import BackendUnavailable

_left: WeakSet[asyncio.Task[Any]] = WeakSet()


def leave(served: asyncio.Task[Any]) -> None:
    """Cancels the task of a call whose client has left."""
    _left.add(served)
    served.cancel()


def cut() -> bool:
    """Is the current task being cancelled by anything but its client's leaving: by the server's stop?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0 and task not in _left


def stopping() -> BackendUnavailable:
    """What a client is told whose call the server's stop has cut."""
    return BackendUnavailable("the server is shutting down and could not finish this call; send it again in a moment")
