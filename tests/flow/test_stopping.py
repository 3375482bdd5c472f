"""A server that stops while it serves: what it cuts never looks complete, says so where it can, and is on record."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest

from arkway.app import asgi_app, server_config
from arkway.cli.serve import _server
from arkway.config import load
from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import BackendUnavailable
from arkway.core.events import Delta, Finished, Progress
from arkway.flow import leaving
from arkway.ports import CallRecord
from arkway.testing import (
    Gate,
    MemoryLedger,
    ScriptedBackend,
    Step,
    running_server,
    scripted_parts,
)
from tests.tools.client import Connection
from tests.tools.waiting import PATIENCE_S, soon, until
from tests.tools.wires import CLIENTS, V3, Wire

LARGE = "字" * 20_000


class Halting:
    """A script that says some, halts for good, and tells when it has come there."""

    def __init__(self, spoken: int, *, finish: bool = False) -> None:
        self.spoken, self.finish = spoken, finish
        self.halted = threading.Semaphore(0)

    def __call__(self, _: ChatRequest) -> Iterable[Step]:
        yield Progress(7, 7)
        for count in range(1, self.spoken + 1):
            yield Delta("字", completion_tokens=count, prompt_tokens=7)
        if self.finish:
            yield Finished("stop")
        self.halted.release()
        yield Gate()


class Flood:
    """A script without an end, more than a client that does not read can take."""

    def __init__(self) -> None:
        self.said = 0

    def __call__(self, _: ChatRequest) -> Iterable[Step]:
        while True:
            self.said += 1
            yield Delta(LARGE, completion_tokens=self.said, prompt_tokens=7)


class Records:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended_calls: list[CallRecord] = []
        self.started_calls = 0

    def started(self, dialect: str, operation: str) -> None:
        self.started_calls += 1

    def ended(self, record: CallRecord) -> None:
        self.ended_calls.append(record)


def ask(url: str, wire: Wire, stream: bool) -> Connection:
    client = Connection(url)
    client.send("POST", *wire.chat(stream=stream))
    return client


def wait_until_stuck(script: Flood) -> None:
    """Until the server cannot send any more."""
    said = -1
    while not said == script.said > 0:
        said = script.said
        threading.Event().wait(0.3)


def opened(url: str, script: Halting, wires: Iterable[Wire], *, stream: bool) -> dict[Wire, Connection]:
    """One call by each, all of them halted."""
    found = {wire: ask(url, wire, stream) for wire in wires}
    for _ in found:
        assert script.halted.acquire(timeout=PATIENCE_S)
    return found


@pytest.mark.parametrize("finish", [False, True], ids=["midway", "after the finish"])
def test_a_stream_that_is_cut_ends_with_an_error_and_no_finish_reason(finish: bool) -> None:
    script, ledger, records = Halting(3, finish=finish), MemoryLedger(), Records()
    with running_server(script, ledger=ledger, observers=[records]) as server:
        clients = opened(server.url, script, CLIENTS, stream=True)
    for wire, client in clients.items():
        with client:
            reply = client.reply()
        assert wire.text(reply.body) == "字字字"
        assert wire.finish_reasons(reply.body) == []
        *_, failure, end = wire.frames(reply.body)
        assert "shutting down" in wire.failure(failure)["message"]
        assert end == "[DONE]"
        settled = ledger.settlements[reply.headers["x-request-id"]]
        assert (settled.outcome, settled.error) == ("interrupted", "BackendUnavailable")
        assert settled.usage == Usage(7, 3, provenance="counted")
    assert len(records.ended_calls) == len(clients)
    assert {(record.outcome, record.usage.total_tokens) for record in records.ended_calls} == {("interrupted", 10)}
    assert server.backend.open_streams == 0


@pytest.mark.parametrize("spoken, tokens", [(3, 10), (0, 0)], ids=["midway", "before the first token"])
def test_a_whole_answer_that_is_cut_is_an_error_and_costs_what_was_said(spoken: int, tokens: int) -> None:
    script, ledger = Halting(spoken), MemoryLedger()
    with running_server(script, ledger=ledger) as server:
        clients = opened(server.url, script, CLIENTS, stream=False)
    for wire, client in clients.items():
        with client:
            reply = client.reply()
        assert reply.status == wire.told[BackendUnavailable].status
        assert "shutting down" in wire.error(reply)["message"]
        assert "x-should-retry" not in reply.headers
        settled = ledger.settlements[reply.headers["x-request-id"]]
        assert (settled.outcome, settled.usage.total_tokens) == ("interrupted", tokens)


def test_a_client_that_reads_too_slowly_sees_no_end() -> None:
    script, ledger = Flood(), MemoryLedger()
    with running_server(script, ledger=ledger) as server:
        client = ask(server.url, V3, True)
        assert client.head()[0] == 200
        wait_until_stuck(script)
    settled = next(iter(ledger.settlements.values()))
    assert settled.outcome == "interrupted"
    assert settled.usage.completion_tokens == script.said
    with client, pytest.raises(ConnectionError):
        assert b"[DONE]" not in b"".join(client.chunks())


def test_a_body_that_is_still_coming_is_answered_in_the_callers_dialect() -> None:
    ledger, records = MemoryLedger(), Records()
    clients: dict[Wire, Connection] = {}
    with running_server(ledger=ledger, observers=[records]) as server:
        for wire in CLIENTS:
            clients[wire] = client = Connection(server.url)
            fields = {"Host": client.host, "Authorization": f"Bearer {client.key}", "Content-Length": "100"}
            client.send_raw("POST", wire.chat().path, {**fields, **wire.headers}, b'{"model":')
        until(lambda: records.started_calls == len(clients))
    for wire, client in clients.items():
        with client:
            reply = client.reply()
        told = wire.told[BackendUnavailable]
        # Whether a stream was wanted stands in the part that did not come: a frame is an error either way.
        assert (reply.status, wire.error(reply, stream=True)["code"]) == (told.status, told.code)
    assert ledger.attempts == {}


def test_a_call_that_ends_while_the_server_waits_is_whole() -> None:
    gate, ledger = Gate(), MemoryLedger()

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("一", completion_tokens=1, prompt_tokens=7)
        yield gate
        yield Delta("二", completion_tokens=2, prompt_tokens=7)
        yield Finished("stop")

    with running_server(script, ledger=ledger, settings={"server": {"drain_s": PATIENCE_S}}) as server:
        client = ask(server.url, V3, True)
        assert client.head()[0] == 200
        threading.Timer(0.3, gate.open).start()
    with client:
        body = b"".join(client.chunks())
    assert (V3.text(body), V3.finish_reasons(body)) == ("一二", ["stop"])
    assert next(iter(ledger.settlements.values())).outcome == "done"


def test_a_second_interrupt_does_not_wait_for_a_client_that_does_not_read() -> None:
    script, ledger, ended = Flood(), MemoryLedger(), threading.Event()

    async def shutdown() -> None:
        ended.set()

    settings = load(environ={}, overrides={"home": "/nonexistent", "server": {"port": 0, "drain_s": 600}})
    parts = scripted_parts(ScriptedBackend(script), ledger)
    parts.shutdown = shutdown
    started = threading.Event()
    server = _server(server_config(settings, asgi_app(settings, parts)), started.set)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(PATIENCE_S)
    client = ask(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", V3, True)
    wait_until_stuck(script)
    server.handle_exit(signal.SIGINT, None)
    thread.join(1)
    assert thread.is_alive()
    server.handle_exit(signal.SIGINT, None)
    thread.join(PATIENCE_S)
    client.close()
    assert not thread.is_alive()
    assert ended.is_set()
    assert next(iter(ledger.settlements.values())).outcome == "interrupted"


async def test_what_was_started_is_ended_when_the_server_is_cancelled_without_a_word() -> None:
    ended: list[str] = []

    async def startup() -> None:
        ended.clear()

    async def shutdown() -> None:
        await asyncio.sleep(0)
        ended.append("ended")

    settings = load(environ={}, overrides={"home": "/nonexistent"})
    parts = scripted_parts(ScriptedBackend(), MemoryLedger())
    parts.startup, parts.shutdown = startup, shutdown
    words: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    said: list[str] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message["type"])

    words.put_nowait({"type": "lifespan.startup"})
    served = asyncio.ensure_future(asgi_app(settings, parts)({"type": "lifespan"}, words.get, send))
    await soon(lambda: said)
    assert (said, ended) == (["lifespan.startup.complete"], [])
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert ended == ["ended"]


async def test_only_a_cancellation_that_is_not_a_leaving_is_a_cut() -> None:
    async def told() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return leaving.cut()
        return False

    left, stopped = asyncio.create_task(told()), asyncio.create_task(told())
    await asyncio.sleep(0)
    leaving.leave(left)
    stopped.cancel()
    assert (await left, await stopped) == (False, True)
    assert not leaving.cut()
