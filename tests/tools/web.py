"""A scripted web: servers on loopback addresses that stand for other hosts, and names that mean them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arkway.fetching.addresses import Address, Allowed
from arkway.fetching.web import WebFetcher
from tests.tools.raw_upstream import OK, Peer, RawUpstream, Script

OUTSIDE = "127.0.0.2"
"""Stands for the public internet; 127.0.0.1 is what must not be reached."""


class Names:
    """A resolver: for each name its answers in turn, the last one for ever. ``asked`` are the names, in order."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def fetcher(
    port: int, names: Names | None = None, networks: Sequence[str] = (f"{OUTSIDE}/32",), **more: Any
) -> WebFetcher:
    """Fetches from this port of the outside."""
    return WebFetcher(Allowed(networks, own=_nobodys), ports=(port,), resolve=names or Names({}), **more)


def page(body: bytes, content_type: str = "image/png", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"content-type: {content_type}", *headers))
    return OK + f"content-length: {len(body)}\r\n{lines}\r\n".encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


def paths(answers: Mapping[str, bytes], got: list[bytes] | None = None) -> Script:
    """Answers each request by its path; ``got`` keeps the requests."""

    async def script(peer: Peer) -> None:
        while asked := await peer.request():
            if got is not None:
                got.append(asked)
            path = asked.split(b" ", 2)[1].decode()
            await peer.say(answers.get(path, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))

    return script


async def beside(server: RawUpstream, script: Script, host: str) -> RawUpstream:
    """Another server on the same port of another address; to be closed."""
    other = RawUpstream(script, host)
    other.port = server.port
    await other.open()
    return other


def _nobodys(_: Address) -> bool:
    return False
