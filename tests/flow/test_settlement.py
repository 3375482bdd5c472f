"""The ledger is true before the caller can see the end of an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise, product

import pytest

from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import BackendFailed, StoreUnavailable
from arkway.core.events import Delta, Finished, UsageReport
from arkway.ports import Attempt, Settlement
from arkway.testing import MemoryLedger, Pause, Script, Step, running_server, says
from tests.tools.client import Connection
from tests.tools.waiting import PATIENCE_S
from tests.tools.wires import CLIENTS, OPERATIONS, WIRES, Wire


class HeldLedger(MemoryLedger):
    """Holds every settlement until it is let go: whatever reached the client meanwhile left before it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        self.reached.set()
        assert self.released.wait(PATIENCE_S)
        super().settle(attempt_id, settlement)


def breaks(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一", completion_tokens=1, prompt_tokens=7)
    yield Pause(0.01)  # what is said in one turn of the loop leaves at its end
    yield BackendFailed("broken")


def ends(_: ChatRequest) -> Iterable[Step]:
    yield Delta("一", completion_tokens=1, prompt_tokens=7)
    yield Pause(0.01)
    yield Finished("stop")
    yield UsageReport(Usage(7, 1))


def arrived(connection: Connection, first: bytes = b"") -> bytes:
    """All that has come by now: ``first`` at any rate, and what follows it without a pause."""
    said = b""
    while True:
        connection.socket.settimeout(0.15 if first in said else PATIENCE_S)
        try:
            piece = connection.socket.recv(65536)
        except TimeoutError:
            break
        assert piece
        said += piece
    return said


def rest(connection: Connection, end: bytes) -> bytes:
    """All there is up to the end."""
    said = b""
    connection.socket.settimeout(PATIENCE_S)
    while not said.endswith(end):
        piece = connection.socket.recv(65536)
        assert piece
        said += piece
    return said


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [ends, breaks], ids=["done", "broken"])
def test_nothing_that_looks_like_an_end_leaves_before_the_settlement(wire: Wire, stream: bool, script: Script) -> None:
    ledger = HeldLedger()
    with running_server(script, ledger=ledger) as server, Connection(server.url) as client:
        client.send("POST", *wire.chat(stream=stream))
        assert ledger.reached.wait(PATIENCE_S)
        before = arrived(client, "一".encode() if stream else b"")
        ledger.released.set()
        after = rest(client, wire.end + b"\r\n0\r\n\r\n" if stream else b"}")
    assert len(ledger.settlements) == 1
    if stream:
        assert b'"finish_reason":"' not in before
        assert b'"error"' not in before
        assert b"[DONE]" not in before
        assert wire.end in after
    else:
        assert before == b""
        assert after.startswith(b"HTTP/1.1 500" if script is breaks else b"HTTP/1.1 200")


@pytest.mark.parametrize("wire, operation", [pair for pair in OPERATIONS if pair[1] not in ("chat", "cert")], ids=str)
def test_other_answers_wait_for_their_settlement_too(wire: Wire, operation: str) -> None:
    ledger = HeldLedger()
    with running_server(ledger=ledger) as server, Connection(server.url) as client:
        client.send("POST", *wire.call(operation))
        assert ledger.reached.wait(PATIENCE_S)
        assert arrived(client) == b""
        ledger.released.set()
        client.socket.settimeout(PATIENCE_S)
        assert client.reply().status == 200
    settled, attempt = next(iter(ledger.settlements.values())), next(iter(ledger.attempts.values()))
    # Two labels of one character each are what the model was asked to find likely.
    completion = 2 if operation == "classification" else 0
    assert (settled.outcome, settled.usage.completion_tokens) == ("done", completion)
    assert (attempt.dialect, attempt.operation) == (wire.route, operation)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_checkpoints_are_never_more_than_16_tokens_apart(wire: Wire) -> None:
    ledger = MemoryLedger()
    words = [f"{i} " for i in range(100)]
    with running_server(says(*words), ledger=ledger) as server, Connection(server.url) as client:
        assert wire.text(client.post(*wire.chat(stream=True)).body) == "".join(words)
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


PROMPT_GUESS = 5
"""One token for every three octets, and four for the message (docs/limits-and-quotas.md)."""


@pytest.mark.parametrize(
    "script, usage",
    [
        (uncounted, Usage(PROMPT_GUESS, 2, provenance="estimated")),
        (counted, Usage(7, 3, provenance="counted")),
        (reported, Usage(8, 4, 5, provenance="reported")),
    ],
    ids=["estimated", "counted", "reported"],
)
def test_the_ledger_and_the_caller_get_the_same_counts(script: Script, usage: Usage) -> None:
    ledger = MemoryLedger()
    with running_server(script, ledger=ledger) as server, Connection(server.url) as client:
        for wire, stream in product(CLIENTS, (True, False)):
            reply = client.post(*wire.chat(stream=stream, usage=True))
            assert ledger.settlements[reply.headers["x-request-id"]].usage == usage
            told = wire.usage(reply.body) if stream else reply.json()["usage"]
            assert wire.counts(told) == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def test_a_refused_reservation_is_said_and_no_backend_is_troubled() -> None:
    class FullLedger(MemoryLedger):
        def reserve(self, attempt: Attempt) -> None:
            raise StoreUnavailable("the ledger does not take writes: the disk is full")

    with running_server(ledger=FullLedger()) as server, Connection(server.url) as client:
        for wire, stream in product(CLIENTS, (True, False)):
            reply = client.post(*wire.chat(stream=stream))
            assert reply.status == wire.told[StoreUnavailable].status
            assert "disk is full" in wire.error(reply, stream=stream)["message"]
        assert server.backend.requests == []
