"""One HTTP request as the edge hands it on, and the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

Tap = Callable[[bytes], object]


class RawRequest(msgspec.Struct, frozen=True):
    """Method, path and headers (names lower-case), before any meaning.

    ``headers`` joins what was sent twice; ``fields`` are the header fields as they came, in order, for signatures, as
    is ``raw_path``, still percent-encoded. The clock is read once: ``now_ms`` is epoch milliseconds at arrival.
    ``receive(limit_bytes, tap)`` reads the whole body, raising TooLarge past the limit and RequestTimeout when it comes
    too slowly; every piece is shown to ``tap`` as it arrives.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    request_id: str
    now_ms: int
    receive: Callable[[int, Tap | None], Awaitable[bytes]]
    peer: str = ""
    raw_path: str = ""
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def header(self, name: str) -> str:
        """The header's value, or the empty string."""
        return self.headers.get(name, "")


class Writer(Protocol):
    """The way back to one client. Every method raises ClientGone once the client has left."""

    async def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """A whole answer at once."""

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        """The head of a streamed answer."""

    async def write(self, data: bytes) -> None:
        """More of a streamed answer; waits while the client reads too slowly."""

    async def finish(self) -> None:
        """The end of a streamed answer."""


class ErrorReply(msgspec.Struct, frozen=True):
    """An error in a dialect's own form."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class ClientGone(Exception):
    """The client closed the connection: an outcome, not an error."""
