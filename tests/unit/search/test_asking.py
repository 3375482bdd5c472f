"""Whatever a configured service does: an error of the tree that names it, without its address or its key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    Misconfigured,
)
from arkway.search.asking import Service, decoded
from arkway.search.found import Provider
from arkway.search.providers.ark import ArkBot
from arkway.search.providers.bocha import Bocha
from arkway.search.providers.kiwix import Kiwix
from arkway.search.providers.searxng import SearXNG
from tests.tools.raw_upstream import OK, Peer, RawUpstream, Script, saying, saying_once, silent
from tests.unit.search.scripted import LIMIT, ok, ok_json, quest, service, status

NAMES = ("searxng", "bocha", "ark", "kiwix")


def provider(name: str, asked: Service) -> Provider:
    match name:
        case "searxng":
            return SearXNG(asked)
        case "bocha":
            return Bocha(asked)
        case "ark":
            return ArkBot(asked, "bot-20250101000000-abcde")
        case _:
            return Kiwix(asked, ("wiki",))


async def failure(name: str, script: Script, **more: Any) -> ArkwayError:
    async with (
        RawUpstream(script) as server,
        service(server, name, headers={"authorization": "Bearer sk-secret"}, **more) as asked,
    ):
        with pytest.raises(ArkwayError) as why:
            await provider(name, asked).search(quest(), "x", 5)
        assert name in why.value.message
        assert not any(word in why.value.message for word in ("127.0.0.1", str(server.port), "secret"))
        return why.value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}x", b"\xff\xfe\x00", b"<html>captive portal</html>", b"[" * 100_000,
    b'{"results":' * 50_000,
     b'{"results": 5, "data": 5, "references": 5}', b'{"results": [{"url": 1}], "data": {"webPages": {"value": [[]]}}}',
     b"data: {\n\n", b'data: {"references": [[]]}\n\n', b'data: {"error": {"message": "x"}}\n\n',
     b"{\"results\": [\"\\ud800\"]}"],
)  # fmt: skip
async def test_answers_of_another_form(name: str, body: bytes) -> None:
    assert isinstance(await failure(name, saying(ok(body))), BackendFailed)


@pytest.mark.parametrize("name", NAMES)
async def test_statuses(name: str) -> None:
    kinds = {400: BackendFailed, 401: Misconfigured, 403: Misconfigured, 429: BackendUnavailable, 500: BackendFailed,
             503: BackendFailed, 204: BackendFailed, 206: BackendFailed}  # fmt: skip
    for code, kind in kinds.items():
        assert isinstance(await failure(name, saying_once(status(code))), kind), code


@pytest.mark.parametrize("name", NAMES)
async def test_redirects_are_not_followed(name: str) -> None:
    async with RawUpstream(saying(ok(b"{}"))) as there:
        error = await failure(name, saying_once(status(302, f"location: {there.url('/x')}")))
        assert isinstance(error, Misconfigured)
        assert there.peers == []


@pytest.mark.parametrize("name", NAMES)
async def test_answers_without_an_end(name: str) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"transfer-encoding: chunked\r\n\r\n")
        while not peer.writer.is_closing():
            await peer.say(b"1000\r\n" + b" \n" * 2048 + b"\r\n")

    assert isinstance(await failure(name, endless, max_bytes=LIMIT), BackendFailed)


@pytest.mark.parametrize("name", NAMES)
async def test_services_that_say_nothing(name: str) -> None:
    assert isinstance(await failure(name, silent, timeout_s=0.3), BackendTimeout)


@pytest.mark.parametrize("name", NAMES)
async def test_services_that_drip(name: str) -> None:
    """Each byte comes soon enough, the answer does not."""

    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 100000\r\n\r\n")
        while not peer.writer.is_closing():
            await peer.say(b" ")
            await asyncio.sleep(0.01)

    assert isinstance(await failure(name, drip, timeout_s=0.5), BackendTimeout)


@pytest.mark.parametrize("name", NAMES)
async def test_connections_that_break(name: str) -> None:
    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 1000\r\n\r\n{")
        peer.reset()

    async def gone(peer: Peer) -> None:
        peer.reset()

    for script in (
        cut,
        gone,
        saying_once(b"nonsense\r\n\r\n"),
        saying_once(OK + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"),
    ):
        assert isinstance(await failure(name, script), BackendFailed | BackendUnavailable)


async def test_nobody_there() -> None:
    server = RawUpstream(silent)
    async with server:
        pass
    async with service(server, "searxng") as asked:
        with pytest.raises(BackendUnavailable):
            await SearXNG(asked).search(quest(), "x", 5)


async def test_a_session_can_be_closed_and_opened_again() -> None:
    async with RawUpstream(saying(ok_json({"results": []}))) as server, service(server) as asked:
        searching = SearXNG(asked)
        assert await searching.search(quest(), "x", 5) == []
        await searching.aclose()
        await searching.aclose()
        assert await searching.search(quest(), "x", 5) == []


def test_types_are_what_is_asked_for() -> None:
    assert decoded("x", b'{"a": 1}', dict[str, int]) == {"a": 1}
    with pytest.raises(BackendFailed, match="`x`"):
        decoded("x", b'{"a": "1"}', dict[str, int])
