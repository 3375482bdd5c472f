"""End-to-end encryption of MaaS v1 and v2: the SDK encrypts, the server reads, nobody in between does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.testing import MemoryLedger, RunningServer, running_server, says
from arkway.wire import json
from tests.sdk.cells import cell
from tests.sdk.conftest import QUESTION, MaasClient, on_maas
from tests.sdk.scenes import play

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

TURNS = [*QUESTION, {"role": "assistant", "content": "在"}, {"role": "user", "content": "云雀🐦"}]


@pytest.fixture(scope="module")
def shared_sealed_server() -> Iterator[RunningServer]:
    with running_server(settings={"surface": {"message_encryption": True}}, ledger=MemoryLedger()) as running:
        yield running


@pytest.fixture
def sealed_server(shared_sealed_server: RunningServer) -> RunningServer:
    """A server with message encryption switched on."""
    shared_sealed_server.backend.requests.clear()
    shared_sealed_server.backend.calls.clear()
    play(shared_sealed_server, says("你好", "，", "🐦"))
    return shared_sealed_server


def request(server: RunningServer, client: MaasClient) -> dict[str, Any]:
    # The SDK of v1 puts the certificate's endpoint beside the name it was asked for.
    model = {"model": {"name": "skylark-chat"}} if client.surface == "v1" else {}
    return {**model, "messages": TURNS}


@on_maas
@cell("end-to-end encryption")
def test_secret_chat(client: MaasClient, sealed_server: RunningServer) -> None:
    answer = client.ask(sealed_server, "secret_chat", request(sealed_server, client))

    assert client.text(answer["result"]) == "你好，🐦"
    assert answer["result"]["usage"]["total_tokens"] == 10
    asked = sealed_server.backend.requests[0].messages
    assert [message.text() for message in asked] == [turn["content"] for turn in TURNS]
    certificate, chat = answer["exchanges"]
    assert certificate["target"].endswith("/cert")
    sent = json.load_object(chat["body"].encode())
    assert sent["crypto_token"]
    assert not {turn["content"] for turn in TURNS} & {message["content"] for message in sent["messages"]}


@on_maas
@cell("end-to-end encryption")
def test_secret_stream(client: MaasClient, sealed_server: RunningServer) -> None:
    frames = client.result(sealed_server, "secret_stream", request(sealed_server, client))

    assert [text for text in client.texts(frames) if text] == ["你好", "，", "🐦"]
    assert frames[-1]["usage"]["total_tokens"] == 10
    assert sealed_server.backend.requests[0].messages[2].text() == "云雀🐦"


@on_maas
def test_plain_calls_stay_plain(client: MaasClient, sealed_server: RunningServer) -> None:
    assert client.text(client.result(sealed_server, "chat", {"messages": TURNS})) == "你好，🐦"


@on_maas
@cell("end-to-end encryption")
@pytest.mark.parametrize("operation", ["secret_chat", "secret_stream"])
def test_switched_off_it_is_refused(client: MaasClient, server: RunningServer, operation: str) -> None:
    answer = client.ask(server, operation, request(server, client))

    assert answer["error"]["class"] == "MaasException"
    assert "1709828" in f"{answer['error']['code_n']} {answer['error']['message']}"
    assert answer["exchanges"][-1]["target"].endswith("/cert")
    assert server.backend.requests == []
