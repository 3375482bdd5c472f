"""The seam between a connection and what answers its requests: plain callbacks, no task and no coroutine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from arkway.core.errors import ArkwayError
from arkway.http.edge import Fields

if TYPE_CHECKING:
    from arkway.http.protocol import EdgeProtocol


class HotExchange(Protocol):
    """One request that is being answered. Callbacks are synchronous and never raise.

    Order: `on_body` any number of times, then `on_complete`, or `on_refused` where the body breaks off; the others at
    any time. After ``protocol.finished(...)`` there are no more.
    """

    def on_body(self, data: bytes) -> None:
        """The next piece of the body, its chunked framing taken off."""

    def on_complete(self) -> None:
        """The body is whole."""

    def on_refused(self, error: ArkwayError) -> None:
        """The rest of the body will not come (too slow, broken framing); the connection ends with this answer.

        Unless the answer has begun, the error is the answer.
        """

    def on_disconnect(self) -> None:
        """The client has left, or was dropped: nothing can be sent any more. The last callback."""

    def on_stop(self) -> None:
        """The server stops and waits no longer: end now, with an error where that can still be said."""

    def on_pause(self) -> None:
        """The client reads too slowly: send no more until `on_writable`."""

    def on_writable(self) -> None:
        """What was written has left, or most of it."""


class Hot(Protocol):
    """The hot path's way in; never raises. None leaves the request to the ASGI application.

    ``method`` is in upper case, ``target`` in origin form with its query, still percent-encoded; ``headers`` have names
    in lower case and are in order, duplicates kept. All of it is checked: sizes, Host, framing. The handler may answer
    at once, by ``protocol.send`` and ``protocol.finished``: then any exchange may be given back, it hears nothing.
    """

    def __call__(
        self, protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields, /
    ) -> HotExchange | None: ...


class Queued:
    """A pipelined request that waits for its turn, and takes in the beginning of its body."""

    __slots__ = ("_protocol", "body", "complete", "flags", "headers", "keep_alive", "method", "target", "version")

    def __init__(
        self,
        protocol: EdgeProtocol,
        method: bytes,
        target: bytes,
        headers: Fields,
        flags: int,
        keep_alive: bool,
        version: str,
    ) -> None:
        self._protocol = protocol
        self.method = method
        self.target = target
        self.headers = headers
        self.flags = flags
        self.version = version
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body.append(data)
        self._protocol.pause_reading()

    def on_complete(self) -> None:
        self.complete = True


class Starting:
    """In the place of an exchange while the hot handler is being asked."""

    def on_body(self, data: bytes) -> None: ...
    def on_complete(self) -> None: ...
    def on_refused(self, error: ArkwayError) -> None: ...
    def on_disconnect(self) -> None: ...
    def on_stop(self) -> None: ...
    def on_pause(self) -> None: ...
    def on_writable(self) -> None: ...


STARTING = Starting()
