"""One call of a group: it goes to one member, and before the first event of an answer, if that fails, to another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from arkway.backends.group.member import GroupMember, capped
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    CallerError,
    InternalError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Running, Sink

log = logging.getLogger("arkway.group")


class Road(Protocol):
    """What a call needs of its group."""

    clock_s: Callable[[], float]

    def way(self, key: bytes, asked: Sequence[GroupMember], now_s: float) -> GroupMember | None:
        """Where it goes next that these have been asked already; None when it may go nowhere."""

    def stuck(self, now_s: float) -> ArkwayError:
        """What it is told when nobody may be asked."""
        ...


class Failover:
    """Implements `arkway.ports.Sink` for the member that is at the call, and `arkway.ports.Running` for its caller.

    From the first event on it is in nobody's way: ``events`` is then the caller's own. ``served`` is the upstream's
    name of the member that is, or was last, at it: for the log, not for callers.
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_call",
        "_deployment",
        "_key",
        "_member",
        "_over",
        "_paused",
        "_refusal",
        "_request",
        "_road",
        "_running",
        "_sink",
        "_trying",
        "events",
    )

    events: Callable[[Sequence[Event]], None]
    _member: GroupMember
    _trying: bool

    def __init__(
        self, road: Road, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink, key: bytes
    ) -> None:
        self._road, self._sink, self._key = road, sink, key
        self._deployment, self._request, self._call = deployment, request, call
        self._asked: tuple[GroupMember, ...] = ()
        self._running: Running | None = None
        self._refusal: RateLimited | Overloaded | None = None
        self._begun = self._over = self._paused = False
        self.events = self._first

    @property
    def served(self) -> str:
        return self._member.name

    def begin(self, member: GroupMember) -> None:
        """Goes to this member first. Raises what the caller is to be told when neither it nor another one takes it."""
        error = self._ask(member, retry=False)
        if error is not None and (error := self._go_on(error)) is not None:
            self._close()
            raise error

    # The member's side

    def _first(self, batch: Sequence[Event]) -> None:
        if self._over:
            return
        if not self._begun:
            self._begun = True
            self.events = self._sink.events
            if self._trying:
                self._trying = False
                self._member.proved(self._road.clock_s())
        self._sink.events(batch)

    def ended(self) -> None:
        if self._over:
            return
        if not self._begun:
            self.failed(BackendFailed("the model gave no answer"))
            return
        self._over = True
        self._running = None
        self._member.succeeded(self._road.clock_s())
        self._sink.ended()

    def failed(self, error: ArkwayError) -> None:
        if self._over:
            return
        self._leave(error)
        if self._begun or isinstance(error, CallerError):
            told: ArkwayError | None = error
        else:
            self._running = None
            told = self._go_on(error)
        if told is not None:
            self._close()
            self._running = None
            self._sink.failed(told)

    # The caller's side

    def pause(self) -> None:
        self._paused = True
        if self._running is not None and not self._over:
            self._running.pause()

    def resume(self) -> None:
        self._paused = False
        if self._running is not None and not self._over:
            self._running.resume()

    def cancel(self) -> None:
        if self._over:
            return
        self._close()
        member = self._member
        if self._begun:
            member.succeeded(self._road.clock_s())
        else:
            member.abandoned(self._trying)
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long: the member at it has failed."""
        if self._over:
            return
        self._close()
        self._leave(BackendTimeout("the model did not answer in time"))
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    # Between members

    def _ask(self, member: GroupMember, *, retry: bool) -> ArkwayError | None:
        """None where it takes the call, else why not."""
        self._member = member
        self._trying = member.enter(retry=retry)
        try:
            self._running = member.pushing.start(self._deployment, self._request, self._call, self)
        except ArkwayError as refused:
            error = refused
        except Exception:
            log.exception("internal error in a backend", extra={"request_id": self._call.request_id})
            error = InternalError()
        else:
            if self._paused:
                self._running.pause()
            return None
        self._leave(error)
        return error

    def _go_on(self, error: ArkwayError) -> ArkwayError | None:
        """To the next member that takes the call; when none does, what the caller is told."""
        road = self._road
        while not isinstance(error, CallerError):
            self._asked = (*self._asked, self._member)
            now_s = road.clock_s()
            member = road.way(self._key, self._asked, now_s)
            if member is None:
                return self._told(error, now_s)
            refused = self._ask(member, retry=True)
            if refused is None:
                return None
            error = refused
        return error

    def _leave(self, error: ArkwayError) -> None:
        """The member at it has failed."""
        self._member.failed(error, self._trying, self._road.clock_s())
        self._trying = False
        if isinstance(error, RateLimited | Overloaded):
            self._refusal = capped(error)

    def _told(self, error: ArkwayError, now_s: float) -> ArkwayError:
        """A refusal that says when to come back is worth more than a failure that was met beside it."""
        if isinstance(error, QuotaExhausted):
            # The upstream's account is out of quota, not the caller.
            error = self._road.stuck(now_s)
        return self._refusal or error

    def _close(self) -> None:
        self._over = True
        self.events = self._sink.events
