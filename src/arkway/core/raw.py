"""One HTTP request as the edge hands it on, and the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec


class RawRequest(msgspec.Struct, frozen=True):
    """Method, path and headers (names lower-case), before any meaning.

    The clock is read once: ``now_ms`` is epoch milliseconds at arrival. ``receive(limit_bytes)`` reads the whole
    body, raising TooLarge past the limit and RequestTimeout when it comes too slowly.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    request_id: str
    now_ms: int
    receive: Callable[[int], Awaitable[bytes]]
    peer: str = ""

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
