"""One request to an upstream and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from arkway.core.errors import ArkwayError


class Answer(Protocol):
    """Who is told of an upstream's answer, as it comes. No method waits or raises.

    Order: ``on_head`` once, any number of ``on_body``, then ``on_end``; or ``on_failed`` at any point, as the last.
    After `Carried.abort` nothing comes, and nothing comes before `Client.send` has returned.
    """

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status (200 to 999, redirects among them) and the headers, names in lower case, repeated ones joined
        by ``", "``."""

    def on_body(self, data: bytes) -> None:
        """All of the body that one read from the socket brought, unchunked, never empty."""

    def on_end(self) -> None:
        """The answer was all of it."""

    def on_failed(self, error: ArkwayError) -> None:
        """There is no (more) answer.

        BackendUnavailable: not connected, or the connection was lost before a byte of the answer; Overloaded: every
        connection is in use and the line is full, or the wait in it took too long; BackendTimeout: no head, or no next
        piece, in time; BackendFailed: the answer broke off or is not HTTP/1.1 as we asked for it. `Carried.received`
        tells whether any byte had come. The messages name no host.
        """


class Place(Protocol):
    """Where an exchange is: in the line of those that wait for a connection, or on one."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abandon(self, exchange: Carried) -> None: ...


class Carried:
    """A request that is under way, and hears of its answer as an `Answer` does.

    Every method may be called at any time, more than once, and none waits. ``received``: any byte of the answer has
    come. ``paused``: `pause` was the last word. Where ``at_once`` is true, an ordinary answer that has come whole is
    told by `on_whole` alone, and the connection is free by then.
    """

    __slots__ = ("due", "paused", "place", "received", "repeated", "request")

    at_once = False

    def __init__(self, request: tuple[bytes, ...] = ()) -> None:
        self.request = request
        self.place: Place | None = None
        self.received = self.paused = self.repeated = False

    def pause(self) -> None:
        """Stop reading from the upstream. At most what has been read already is still delivered."""
        self.paused = True
        if self.place is not None:
            self.place.pause()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if self.place is not None:
            self.place.resume()

    def abort(self) -> None:
        """End it: no callback from here on, and the connection is closed at once unless the answer was complete."""
        place = self.place
        if place is not None:
            self.place = None
            place.abandon(self)

    def fail(self, error: ArkwayError) -> None:
        """The answer's last word, unless it has had that. The client's own; callers use `abort`."""
        if self.place is not None:
            self.place = None
            self.on_failed(error)

    due: float
    """When it has waited in the line for long enough; the pool's own."""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        raise NotImplementedError

    def on_body(self, data: bytes) -> None:
        raise NotImplementedError

    def on_end(self) -> None:
        raise NotImplementedError

    def on_failed(self, error: ArkwayError) -> None:
        raise NotImplementedError

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        """The status is 200, and ``body`` all of the body, perhaps empty."""
        raise NotImplementedError


class Exchange(Carried):
    """A request whose answer is told to somebody else."""

    __slots__ = ("answer",)

    def __init__(self, request: tuple[bytes, ...], answer: Answer) -> None:
        super().__init__(request)
        self.answer = answer

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.answer.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        self.answer.on_body(data)

    def on_end(self) -> None:
        self.answer.on_end()

    def on_failed(self, error: ArkwayError) -> None:
        self.answer.on_failed(error)
