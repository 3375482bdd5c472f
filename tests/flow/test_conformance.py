"""The examiner: it finds nothing wrong with this server, and something wrong with every other one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from arkway.conformance import examination
from arkway.conformance.bots import ArkBots, BotApiV2, OfBots
from arkway.conformance.cases import SURFACES, Case, graded
from arkway.conformance.target import Failed, Target
from arkway.core.bot import BotAction, Findings
from arkway.testing import EMBEDDING_CARD, RunningServer, bot, running_server, says
from tests.tools.bots import ScriptedPlugin, chunk, page
from tests.tools.signed import PAIR, SESSION_PAIR
from tests.tools.waiting import PATIENCE_S


def target(url: str, server: RunningServer) -> Target:
    return Target(
        url,
        endpoint=server.endpoint_id,
        model="skylark-chat",
        embedding_endpoint=server.embedding_endpoint_id,
        embedding_model=EMBEDDING_CARD.name,
        bot=server.bot_id,
        api_key=server.api_key,
        pair=PAIR,
        session_pair=SESSION_PAIR,
        timeout_s=10,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted=says("天空", "是", "蓝的")) as running:
        yield running


@pytest.fixture(scope="module")
def finder() -> Iterator[RunningServer]:
    """A server whose bot finds two pages and a document, and cites one of them."""
    plugin = ScriptedPlugin(Findings((page(1, publish_time="2025年04月08日"), chunk(2), page(3))))
    action = BotAction(kind="web_search", deadline_s=PATIENCE_S)
    found = msgspec.structs.replace(bot(), actions=(action,), intent="always", citation="cited")
    with running_server(says("蓝", "[1]", "色"), bots=[found], plugins={"web_search": plugin}) as running:
        yield running


def case_id(case: Case) -> str:
    return f"{case.surface} {case.name}"


def test_every_surface_has_cases() -> None:
    assert {case.surface for case in examination.CASES} == set(SURFACES)
    assert len({(case.surface, case.name) for case in examination.CASES}) == len(examination.CASES)
    assert len(examination.CASES) >= 90


@pytest.mark.parametrize("case", examination.CASES, ids=case_id)
async def test_this_server_passes(case: Case, server: RunningServer) -> None:
    result = await graded(case, target(server.url, server))
    assert (result.verdict, result.detail) == ("pass", "")


@pytest.mark.parametrize("case", [case for case in examination.CASES if "bots" in case.surface], ids=case_id)
async def test_so_does_one_whose_bot_finds_something(case: Case, finder: RunningServer) -> None:
    result = await graded(case, target(finder.url, finder))
    assert (result.verdict, result.detail) == ("pass", "")


@pytest.mark.parametrize("api", [BotApiV2(), ArkBots()], ids=lambda api: api.surface)
@pytest.mark.parametrize("source", [{"url": "https://a"}, {"doc_id": "d"}, {"url": 1, "title": "t"}, {}])
def test_a_source_without_a_place_is_found_out(api: OfBots, source: dict[str, Any]) -> None:
    message: dict[str, Any] = {"choices": [{"message": {"references": [source]}}], "references": [source]}
    with pytest.raises(Failed, match="neither a page nor a document"):
        api.check_sources(message)


@pytest.mark.parametrize("case", examination.CASES, ids=case_id)
async def test_what_is_not_given_is_skipped_or_needs_nothing(case: Case, server: RunningServer) -> None:
    result = await graded(case, Target(server.url))
    assert result.verdict in ("skip", "pass")
    assert result.verdict == "pass" or "needs" in result.detail


@pytest.fixture(scope="module", params=[b'{"error": "no"}', b"{}", b"data: [DONE]\n\n", b"<html>", b""], ids=repr)
def liar(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers 200 and the same body to everything."""
    body: bytes = request.param
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=_lie, args=(listener, answer), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _lie(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            while len(body) < length:
                body += connection.recv(65536)
            connection.sendall(answer)


@pytest.mark.parametrize("case", examination.CASES, ids=case_id)
async def test_a_server_that_says_anything_passes_nothing(case: Case, liar: str, server: RunningServer) -> None:
    assert (await graded(case, target(liar, server))).verdict == "fail"


async def test_a_server_that_is_not_there_is_told(server: RunningServer) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    results = await asyncio.gather(
        *(graded(case, target(f"http://127.0.0.1:{port}", server)) for case in examination.CASES[:3])
    )
    assert {result.detail for result in results} == {f"no server answers at http://127.0.0.1:{port}"}


@pytest.mark.parametrize("case", [case for case in examination.CASES if case.name == "chat"], ids=case_id)
async def test_what_cannot_be_asked_ends_no_examination(case: Case, server: RunningServer) -> None:
    odd = msgspec.structs.replace(target(server.url, server), endpoint="ep-%zz", model="\ud800", bot="bot-%zz")
    assert (await graded(case, odd)).verdict == "fail"
