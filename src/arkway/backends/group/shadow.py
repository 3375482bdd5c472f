"""Copies of calls for members on trial: their answers are read to the end and thrown away.

A copy is begun after the call itself and never touches it. It costs its caller nothing, neither tokens nor errors; it
is counted among its member's calls alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from arkway.backends.group.member import GroupMember
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, InternalError
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Running

log = logging.getLogger("arkway.group")

COPIES_MAX = 64
"""Copies under way at one member; calls beyond are not copied."""
COPY_MAX_S = 600.0
"""A copy that still brings events after this long is cancelled."""


def copy(
    member: GroupMember, deployment: Deployment, request: ChatRequest, call: Call, clock_s: Callable[[], float]
) -> None:
    """Sends a copy of the call to the member, if it may be asked and has few enough. Raises nothing."""
    if member.running < COPIES_MAX and member.ready(clock_s()):
        Copy(member, clock_s).begin(deployment, request, call)


class Copy:
    """Implements `arkway.ports.Sink`: a drain."""

    __slots__ = ("_clock_s", "_end_s", "_member", "_over", "_running", "_trying")

    def __init__(self, member: GroupMember, clock_s: Callable[[], float]) -> None:
        self._member = member
        self._clock_s = clock_s
        self._end_s = clock_s() + COPY_MAX_S
        self._trying = self._over = False
        self._running: Running | None = None

    def begin(self, deployment: Deployment, request: ChatRequest, call: Call) -> None:
        """The member's refusals and defects are counted there and stay here."""
        self._trying = self._member.enter(retry=False)
        try:
            self._running = self._member.pushing.start(deployment, request, call, self)
        except ArkwayError as error:
            self.failed(error)
        except Exception:
            log.exception("internal error in a shadow's backend", extra={"request_id": call.request_id})
            self.failed(InternalError())

    def events(self, batch: Sequence[Event]) -> None:
        if self._over:
            return
        now_s = self._clock_s()
        self._prove(now_s)
        if now_s >= self._end_s and self._running is not None:
            self._over = True
            self._member.succeeded(now_s)
            self._running.cancel()

    def ended(self) -> None:
        if not self._over:
            self._over = True
            now_s = self._clock_s()
            self._prove(now_s)
            self._member.succeeded(now_s)

    def failed(self, error: ArkwayError) -> None:
        if not self._over:
            self._over = True
            self._member.failed(error, self._trying, self._clock_s())

    def _prove(self, now_s: float) -> None:
        if self._trying:
            self._trying = False
            self._member.proved(now_s)
