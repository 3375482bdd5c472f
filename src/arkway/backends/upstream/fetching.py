"""A whole answer at once, for what is asked rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from arkway.backends.upstream.exchange import Exchange
from arkway.core.errors import ArkwayError, BackendFailed


class Fetched(msgspec.Struct, frozen=True):
    """A whole answer; ``headers`` as in `Answer.on_head`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetching:
    """An answer that is collected, up to a size. Set ``exchange`` before the loop goes on."""

    exchange: Exchange

    def __init__(self, max_bytes: int) -> None:
        self.result: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._max_bytes = max_bytes
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._body = bytearray()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._max_bytes:
            self.exchange.abort()
            self.on_failed(BackendFailed(f"the model's server sent an answer of over {self._max_bytes} bytes"))

    def on_end(self) -> None:
        if not self.result.done():
            self.result.set_result(Fetched(self._status, self._headers, bytes(self._body)))

    def on_failed(self, error: ArkwayError) -> None:
        if not self.result.done():
            self.result.set_exception(error)
