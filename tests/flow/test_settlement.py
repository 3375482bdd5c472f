"""The ledger is true before the caller can see the end of an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import BackendFailed, StoreUnavailable
from arkway.core.events import Delta, Finished, UsageReport
from arkway.ports import Attempt, Settlement
from arkway.testing import EMBEDDING_ENDPOINT_ID, ENDPOINT_ID, MemoryLedger, Script, Step, running_server, says
from tests.tools.client import Connection, text

ASK: dict[str, Any] = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "问"}]}
CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")


class HeldLedger(MemoryLedger):
    """Holds every settlement until it is let go: whatever reached the client meanwhile left before it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        self.reached.set()
        assert self.released.wait(10)
        super().settle(attempt_id, settlement)


def breaks(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一", completion_tokens=1, prompt_tokens=7)
    yield BackendFailed("broken")


def arrived(connection: Connection, end: bytes = b"") -> bytes:
    """What has come so far; with ``end``, all there is up to it."""
    said = b""
    connection.socket.settimeout(10 if end else 0.15)
    while not (end and said.endswith(end)):
        try:
            piece = connection.socket.recv(65536)
        except TimeoutError:
            break
        assert piece
        said += piece
    return said


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [says("一", "二"), breaks], ids=["done", "broken"])
def test_nothing_that_looks_like_an_end_leaves_before_the_settlement(path: str, stream: bool, script: Script) -> None:
    ledger = HeldLedger()
    with running_server(script, ledger=ledger) as server, Connection(server.url) as client:
        client.send("POST", path, {**ASK, "stream": stream})
        assert ledger.reached.wait(10)
        before = arrived(client)
        ledger.released.set()
        after = arrived(client, b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}")
    assert len(ledger.settlements) == 1
    if stream:
        assert "一".encode() in before
        assert b'"finish_reason":"' not in before
        assert b'"error"' not in before
        assert b"[DONE]" not in before
        assert b"data: [DONE]" in after
    else:
        assert before == b""
        assert after.startswith(b"HTTP/1.1 500" if script is breaks else b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "path, body",
    [
        ("/api/v3/embeddings", {"model": EMBEDDING_ENDPOINT_ID, "input": "问"}),
        ("/api/v3/tokenization", {"model": ENDPOINT_ID, "text": "问"}),
    ],
)
def test_other_answers_wait_for_their_settlement_too(path: str, body: dict[str, str]) -> None:
    ledger = HeldLedger()
    with running_server(ledger=ledger) as server, Connection(server.url) as client:
        client.send("POST", path, body)
        assert ledger.reached.wait(10)
        assert arrived(client) == b""
        ledger.released.set()
        client.socket.settimeout(10)
        assert client.reply().status == 200
    settled = next(iter(ledger.settlements.values()))
    assert (settled.outcome, settled.usage.completion_tokens) == ("done", 0)


@pytest.mark.parametrize("path", CHATS)
def test_checkpoints_are_never_more_than_16_tokens_apart(path: str) -> None:
    ledger = MemoryLedger()
    words = [f"{i} " for i in range(100)]
    with running_server(says(*words), ledger=ledger) as server, Connection(server.url) as client:
        body = {**ASK, "stream": True}
        assert text(client.post(path, body).body) == "".join(words)
    counts = [0, *(completion for _, _, completion in ledger.checkpoints), 100]
    assert all(later - earlier <= 16 for earlier, later in pairwise(counts))
    assert len(ledger.checkpoints) >= 6


def uncounted(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一")
    yield Delta("二")
    yield Finished("stop")


def counted(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一", completion_tokens=3, prompt_tokens=7)
    yield Finished("stop")


def reported(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一", completion_tokens=3, prompt_tokens=7)
    yield Finished("stop")
    yield UsageReport(Usage(8, 4, 5))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script, usage",
    [
        (uncounted, Usage(0, 2, provenance="estimated")),
        (counted, Usage(7, 3, provenance="counted")),
        (reported, Usage(8, 4, 5, provenance="reported")),
    ],
    ids=["estimated", "counted", "reported"],
)
def test_the_ledger_and_the_caller_get_the_same_counts(script: Script, usage: Usage, stream: bool) -> None:
    ledger = MemoryLedger()
    body = {**ASK, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    with running_server(script, ledger=ledger) as server, Connection(server.url) as client:
        reply = client.post(CHATS[0], body)
    assert next(iter(ledger.settlements.values())).usage == usage
    said = f'"completion_tokens":{usage.completion_tokens},'.encode()
    assert said in reply.body
    assert f'"prompt_tokens":{usage.prompt_tokens},'.encode() in reply.body


def test_a_refused_reservation_is_503_and_no_backend_is_troubled() -> None:
    class FullLedger(MemoryLedger):
        def reserve(self, attempt: Attempt) -> None:
            raise StoreUnavailable("the ledger does not take writes: the disk is full")

    with running_server(ledger=FullLedger()) as server, Connection(server.url) as client:
        for path in CHATS:
            body = {**ASK, "stream": True}
            reply = client.post(path, body)
            assert reply.status == 503
            assert "disk is full" in reply.error()["message"]
        assert server.backend.requests == []
