"""Clients that leave: at every moment the backend is stopped, the count is kept and nothing is left over."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterable

import psutil
import pytest

from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta, Progress
from arkway.ports import CallRecord
from arkway.testing import Gate, MemoryLedger, RunningServer, Step, running_server
from tests.tools.client import Connection
from tests.tools.waiting import PATIENCE_S, until
from tests.tools.wires import V3, WIRES, Wire


class Tale:
    """A script that halts after ``spoken`` deltas, says so, and never goes on."""

    def __init__(self, spoken: int) -> None:
        self.spoken = spoken
        self.halted = threading.Semaphore(0)
        self.loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, _: ChatRequest) -> Iterable[Step]:
        self.loop = asyncio.get_running_loop()
        if self.spoken:
            yield Progress(7, 7)
        for count in range(1, self.spoken + 1):
            yield Delta("字", completion_tokens=count, prompt_tokens=7)
        self.halted.release()
        yield Gate()


class Records:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended_calls: list[CallRecord] = []
        self.started_calls = 0

    def started(self, dialect: str, operation: str) -> None:
        self.started_calls += 1

    def ended(self, record: CallRecord) -> None:
        self.ended_calls.append(record)


def ask(server: RunningServer, stream: bool, wire: Wire = V3) -> Connection:
    client = Connection(server.url)
    client.send("POST", *wire.chat(stream=stream))
    return client


def leave(client: Connection, *, rudely: bool = False) -> None:
    if rudely:  # a reset instead of a goodbye
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("rudely", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("spoken", [0, 3, 20], ids=["before the first byte", "midway", "before the last frame"])
def test_leaving_stops_the_backend_and_settles_what_was_said(
    spoken: int, stream: bool, rudely: bool, wire: Wire
) -> None:
    tale, ledger, records = Tale(spoken), MemoryLedger(), Records()
    with running_server(tale, ledger=ledger, observers=[records]) as server:
        client = ask(server, stream, wire)
        assert tale.halted.acquire(timeout=PATIENCE_S)
        if stream and spoken:
            client.head()
            pieces = client.chunks()
            heard = b""
            while heard.count(b"data:") < spoken:
                heard += next(pieces)
        assert not ledger.settlements
        leave(client, rudely=rudely)
        until(lambda: server.backend.open_streams == 0)
        until(lambda: bool(records.ended_calls))
    settled = next(iter(ledger.settlements.values()))
    assert settled.outcome == records.ended_calls[0].outcome == "client_abort"
    expected = Usage(7, spoken, provenance="counted") if spoken else Usage(provenance="estimated")
    assert settled.usage == records.ended_calls[0].usage == expected
    assert settled.error == records.ended_calls[0].error == ""
    assert next(iter(ledger.attempts.values())).dialect == wire.route


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_leaving_while_the_body_is_still_coming_costs_nothing(wire: Wire) -> None:
    ledger, records = MemoryLedger(), Records()
    with running_server(Tale(0), ledger=ledger, observers=[records]) as server:
        client = Connection(server.url)
        fields = {"Host": client.host, "Authorization": f"Bearer {client.key}", "Content-Length": "100"}
        client.send_raw("POST", wire.chat().path, fields, b'{"model":')
        until(lambda: records.started_calls == 1)
        leave(client)
        until(lambda: bool(records.ended_calls))
        assert server.backend.requests == []
    assert records.ended_calls[0].outcome == "client_abort"
    assert ledger.attempts == {}


def test_nothing_is_left_over_from_200_that_left() -> None:
    tale, ledger = Tale(2), MemoryLedger()
    process = psutil.Process()
    with running_server(tale, ledger=ledger) as server:
        files_alone = process.num_fds()
        leave(ask(server, True))
        assert tale.halted.acquire(timeout=PATIENCE_S)
        until(lambda: server.backend.open_streams == 0)
        assert tale.loop is not None

        def tasks() -> int:
            async def count() -> int:
                return len(asyncio.all_tasks())

            assert tale.loop is not None
            return asyncio.run_coroutine_threadsafe(count(), tale.loop).result(PATIENCE_S)

        until(lambda: len(ledger.settlements) == 1)
        until(lambda: process.num_fds() == files_alone)
        files_before, tasks_before = process.num_fds(), tasks()
        for number in range(200):
            client = ask(server, number % 2 == 0, WIRES[number % len(WIRES)])
            assert tale.halted.acquire(timeout=PATIENCE_S)
            leave(client, rudely=number % 3 == 0)
        until(lambda: server.backend.open_streams == 0)
        until(lambda: len(ledger.settlements) == 201)
        until(lambda: tasks() <= tasks_before)
        until(lambda: process.num_fds() <= files_before)
    assert {settled.outcome for settled in ledger.settlements.values()} == {"client_abort"}
    assert {settled.usage.completion_tokens for settled in ledger.settlements.values()} == {2}
