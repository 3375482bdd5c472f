"""Asking a service that the operator has configured, over plain HTTP: exempt from what holds for callers' URLs.

Nothing of the environment is used, no cookie kept, no redirect followed (a key would go with it). Whatever a service
answers, what comes out of here is its answer in the types asked for, or an error of the tree without its address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from arkway import __version__
from arkway.core.errors import BackendFailed, BackendTimeout, BackendUnavailable, BadRequest, Misconfigured
from arkway.wire.json import refuse_bombs

T = TypeVar("T")

TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 2_097_152
CONNECTIONS_MAX = 16


class Service:
    """Asks one service. Belongs to one event loop, on which its session is opened with the first question."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = ANSWER_MAX_BYTES,
    ) -> None:
        """``name`` is what errors call it; ``headers`` go with every question, a key among them."""
        self.name = name
        self.base_url = base_url.rstrip("/")
        self._headers = {"user-agent": f"arkway/{__version__}", "accept": "*/*", **(headers or {})}
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, params: Sequence[tuple[str, str]] = ()) -> bytes:
        """The body of a 200. Raises errors of the tree."""
        async with self._answer("GET", path, params) as answer:
            self._check(answer.status)
            return b"".join([piece async for piece in self._pieces(answer)])

    async def find(self, path: str, params: Sequence[tuple[str, str]] = ()) -> bytes | None:
        """As `get`, None for a 404."""
        async with self._answer("GET", path, params) as answer:
            if answer.status == 404:
                return None
            self._check(answer.status)
            return b"".join([piece async for piece in self._pieces(answer)])

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of a 200. Raises errors of the tree."""
        return b"".join([piece async for piece in self.stream(path, body)])

    async def stream(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """As `post`, in pieces as they come; whoever iterates closes it."""
        async with self._answer("POST", path, (), body) as answer:
            self._check(answer.status)
            async for piece in self._pieces(answer):
                yield piece

    async def aclose(self) -> None:
        """Hangs up; the next question opens a new session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, params: Sequence[tuple[str, str]], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises errors of the tree, for what happens within the block as well."""
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            async with self._opened().request(
                method, self.base_url + path, params=params, data=body, headers=headers, allow_redirects=False
            ) as answer:
                yield answer
        except TimeoutError:
            raise BackendTimeout(f"`{self.name}` did not answer within {self._timeout_s:g} seconds") from None
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, OSError):
            raise BackendUnavailable(f"`{self.name}` cannot be reached") from None
        except (aiohttp.ClientError, ValueError):
            raise BackendFailed(f"`{self.name}` does not answer in HTTP as it should") from None

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        room = self._max_bytes
        async for piece in answer.content.iter_any():
            room -= len(piece)
            if room < 0:
                raise BackendFailed(f"`{self.name}` answers with more than {self._max_bytes} bytes")
            yield piece

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                trust_env=False,
            )
        return self._session

    def _check(self, status: int) -> None:
        """Raises an error of the tree for every status but 200."""
        if status == 200:
            return
        if 300 <= status < 400:
            raise Misconfigured(
                f"`{self.name}` redirects (status {status}); configure the address that it redirects to"
            )
        if status in (401, 403):
            raise Misconfigured(f"`{self.name}` refuses the question (status {status}); check its key and its settings")
        if status == 429:
            raise BackendUnavailable(f"`{self.name}` takes no more questions for now (status 429)")
        raise BackendFailed(f"`{self.name}` answers with the status {status}")


def decoded(name: str, body: bytes, kind: type[T]) -> T:
    """JSON in the type asked for. Raises BackendFailed."""
    try:
        refuse_bombs(body)
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, BadRequest, RecursionError, UnicodeError):
        raise BackendFailed(f"`{name}` answers with something else than it should") from None


def each_decoded(name: str, entries: Sequence[msgspec.Raw], kind: type[T]) -> list[T]:
    """The entries that are of the type; odd ones are left out. Raises BackendFailed where all of them are odd."""
    sound: list[T] = []
    for entry in entries:
        try:
            sound.append(msgspec.json.decode(entry, type=kind))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            continue
    if entries and not sound:
        raise BackendFailed(f"`{name}` answers with results of another form than it should")
    return sound


@contextmanager
def ending(*tasks: asyncio.Future[Any]) -> Iterator[None]:
    """What is still under way when the block is left is called off."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
