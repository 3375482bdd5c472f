"""Copies of calls for members on trial: their answers are read to the end and thrown away.

A copy is begun after the call itself and never touches it. It costs its caller nothing, neither tokens nor errors; it
is counted among its member's calls alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from arkway.backends.group.member import GroupMember
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendTimeout, InternalError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Running

log = logging.getLogger("arkway.group")

COPIES_MAX = 64
"""Copies under way at one member; calls beyond are not copied."""
COPY_MAX_S = 1800.0
"""How long a copy may take unless something else is said; a call may take as long, unless something else is said."""


class Timer(Protocol):
    """Something that will be done, until it is called off."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Has something done so many seconds later."""


def in_loop(seconds: float, done: Callable[[], None]) -> Timer:
    """By the running event loop."""
    return asyncio.get_running_loop().call_later(seconds, done)


class Copying:
    """How a group's copies are made: each ends after ``copy_max_s``, whether anything comes or not."""

    def __init__(self, clock_s: Callable[[], float], later: Later = in_loop, copy_max_s: float = COPY_MAX_S) -> None:
        self._clock_s, self._later, self._copy_max_s = clock_s, later, copy_max_s

    def copy(self, member: GroupMember, deployment: Deployment, request: ChatRequest, call: Call) -> None:
        """Sends a copy of the call to the member, if it may be asked and has few enough. Raises nothing."""
        if member.running < COPIES_MAX and member.ready(self._clock_s()):
            copy = Copy(member, self._clock_s)
            if copy.begin(deployment, request, call):
                copy.ends_by(self._later(self._copy_max_s, copy.expire))


class Copy:
    """Implements `arkway.ports.Sink`: a drain."""

    __slots__ = ("_begun", "_clock_s", "_member", "_over", "_running", "_timer", "_trying")

    def __init__(self, member: GroupMember, clock_s: Callable[[], float]) -> None:
        self._member = member
        self._clock_s = clock_s
        self._trying = self._begun = self._over = False
        self._running: Running | None = None
        self._timer: Timer | None = None

    def begin(self, deployment: Deployment, request: ChatRequest, call: Call) -> bool:
        """Whether it goes on: the member's refusals and defects are counted there and stay here."""
        self._trying = self._member.enter(retry=False)
        try:
            self._running = self._member.pushing.start(deployment, request, call, self)
        except ArkwayError as error:
            self.failed(error)
        except Exception:
            log.exception("internal error in a shadow's backend", extra={"request_id": call.request_id})
            self.failed(InternalError())
        return not self._over

    def ends_by(self, timer: Timer) -> None:
        """The timer that calls `expire`."""
        self._timer = timer

    def events(self, batch: Sequence[Event]) -> None:
        if not self._over:
            self._prove()

    def ended(self) -> None:
        if not self._over:
            self._prove()
            self._close()
            self._member.succeeded(self._clock_s())

    def failed(self, error: ArkwayError) -> None:
        if not self._over:
            self._close()
            self._member.failed(error, self._trying, self._clock_s())

    def expire(self) -> None:
        """It has taken too long: nobody waits for the rest."""
        if self._over:
            return
        running = self._running
        if self._begun:
            self.ended()
        else:
            self.failed(BackendTimeout("the model did not answer in time"))
        if running is not None:
            running.cancel()

    def _prove(self) -> None:
        self._begun = True
        if self._trying:
            self._trying = False
            self._member.proved(self._clock_s())

    def _close(self) -> None:
        self._over = True
        self._running = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
