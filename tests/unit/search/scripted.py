"""Scripted services for the tests of searching."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from arkway.core.bot import Asker as AskerValue
from arkway.core.bot import BotAction, Quest
from arkway.search.asking import Service
from tests.tools.raw_upstream import OK, Peer, RawUpstream
from tests.tools.waiting import PATIENCE_S

LIMIT = 4096


def quest(query: str = "今天的新闻", *, city: str = "", lexicon: tuple[str, ...] = (), **action: Any) -> Quest:
    """A question to a web search whose deadline only what never happens meets."""
    given = {"kind": "web_search", "deadline_s": PATIENCE_S, **action}
    return Quest(
        account="1000",
        project="default",
        query=query,
        lexicon=lexicon,
        asker=AskerValue(city),
        action=BotAction(**given),
    )


def ok(body: bytes, content_type: str = "application/json") -> bytes:
    return OK + f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def ok_json(value: Any) -> bytes:
    return ok(msgspec.json.encode(value))


def status(code: int, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 {code} X\r\ncontent-length: 0\r\n{lines}\r\n".encode()


class Request:
    """What was asked."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        self.method, target, _ = first.split(" ", 2)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        self.path = urlsplit(target).path
        self.params = parse_qs(urlsplit(target).query)


async def whole_request(peer: Peer) -> bytes:
    """The next request, whichever way its headers are written; empty when the client has hung up."""
    try:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        return head + await peer.reader.readexactly(int(length[1]) if length else 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


class Scripted(RawUpstream):
    """Answers by path, "" standing for every other one, and keeps what it was asked."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__(self._by_path)
        self.answers = answers
        self.asked: list[Request] = []

    async def __aenter__(self) -> Scripted:
        await self.open()
        return self

    async def _by_path(self, peer: Peer) -> None:
        while raw := await whole_request(peer):
            request = Request(raw)
            self.asked.append(request)
            await peer.say(self.answers.get(request.path, self.answers.get("", status(404))))


@asynccontextmanager
async def service(server: RawUpstream, name: str = "scripted", path: str = "", **more: Any) -> AsyncIterator[Service]:
    """Asks the server, in the names of the tests' patience."""
    made = Service(name, server.url(path), **{"timeout_s": PATIENCE_S, **more})
    try:
        yield made
    finally:
        await made.aclose()
