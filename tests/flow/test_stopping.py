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
from arkway.core.events import Delta, Finished, Progress
from arkway.flow import leaving
from arkway.ports import CallRecord
from arkway.testing import (
    ENDPOINT_ID,
    Gate,
    MemoryLedger,
    ScriptedBackend,
    Step,
    running_server,
    scripted_parts,
)
from tests.tools.client import Connection, finish_reasons, frames, text

CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")
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

    def started(self, dialect: str, operation: str) -> None:
        """Nothing to keep."""

    def ended(self, record: CallRecord) -> None:
        self.ended_calls.append(record)


def ask(url: str, path: str, stream: bool) -> Connection:
    client = Connection(url)
    body: dict[str, Any] = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "问"}], "stream": stream}
    client.send("POST", path, body)
    return client


def wait_until_stuck(script: Flood) -> None:
    """Until the server cannot send any more."""
    said = -1
    while not said == script.said > 0:
        said = script.said
        threading.Event().wait(0.3)


@pytest.mark.parametrize("finish", [False, True], ids=["midway", "after the finish"])
@pytest.mark.parametrize("path", CHATS)
def test_a_stream_that_is_cut_ends_with_an_error_and_no_finish_reason(path: str, finish: bool) -> None:
    script, ledger, records = Halting(3, finish=finish), MemoryLedger(), Records()
    with running_server(script, ledger=ledger, observers=[records]) as server:
        client = ask(server.url, path, True)
        assert script.halted.acquire(timeout=10)
    with client:
        body = client.reply().body
    assert text(body) == "字字字"
    assert finish_reasons(body) == []
    *_, failure, end = frames(body)
    assert "shutting down" in failure["error"]["message"]
    assert end == "[DONE]"
    settled = next(iter(ledger.settlements.values()))
    assert (settled.outcome, settled.error) == ("interrupted", "BackendUnavailable")
    assert settled.usage == records.ended_calls[0].usage == Usage(7, 3, provenance="counted")
    assert records.ended_calls[0].outcome == "interrupted"
    assert server.backend.open_streams == 0


@pytest.mark.parametrize("path, status", list(zip(CHATS, (500, 503), strict=True)))
def test_a_whole_answer_that_is_cut_is_an_error(path: str, status: int) -> None:
    script, ledger = Halting(3), MemoryLedger()
    with running_server(script, ledger=ledger) as server:
        client = ask(server.url, path, False)
        assert script.halted.acquire(timeout=10)
    with client:
        reply = client.reply()
    assert reply.status == status
    assert "shutting down" in reply.error()["message"]
    assert "x-should-retry" not in reply.headers
    settled = next(iter(ledger.settlements.values()))
    assert (settled.outcome, settled.usage) == ("interrupted", Usage(7, 3, provenance="counted"))


def test_a_call_that_is_cut_before_its_first_token_is_an_http_error_and_costs_nothing() -> None:
    script, ledger = Halting(0), MemoryLedger()
    with running_server(script, ledger=ledger) as server:
        client = ask(server.url, CHATS[1], False)
        assert script.halted.acquire(timeout=10)
    with client:
        assert client.reply().status == 503
    settled = next(iter(ledger.settlements.values()))
    assert (settled.outcome, settled.usage.total_tokens) == ("interrupted", 0)


def test_a_client_that_reads_too_slowly_sees_no_end() -> None:
    script, ledger = Flood(), MemoryLedger()
    with running_server(script, ledger=ledger) as server:
        client = ask(server.url, CHATS[0], True)
        assert client.head()[0] == 200
        wait_until_stuck(script)
    settled = next(iter(ledger.settlements.values()))
    assert settled.outcome == "interrupted"
    assert settled.usage.completion_tokens == script.said
    with client, pytest.raises(ConnectionError):
        assert b"[DONE]" not in b"".join(client.chunks())


def test_a_body_that_is_still_coming_is_answered_in_the_callers_dialect() -> None:
    ledger = MemoryLedger()
    with running_server(ledger=ledger) as server:
        client = Connection(server.url)
        fields = {"Host": client.host, "Authorization": f"Bearer {client.key}", "Content-Length": "100"}
        client.send_raw("POST", CHATS[1], fields, b'{"model":')
        threading.Event().wait(0.2)
    with client:
        reply = client.reply()
    assert (reply.status, reply.error()["code"]) == (503, "model_unavailable")
    assert ledger.attempts == {}


def test_a_call_that_ends_while_the_server_waits_is_whole() -> None:
    gate, ledger = Gate(), MemoryLedger()

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("一", completion_tokens=1, prompt_tokens=7)
        yield gate
        yield Delta("二", completion_tokens=2, prompt_tokens=7)
        yield Finished("stop")

    with running_server(script, ledger=ledger) as server:
        client = ask(server.url, CHATS[0], True)
        assert client.head()[0] == 200
        threading.Timer(0.3, gate.open).start()
    with client:
        body = b"".join(client.chunks())
    assert (text(body), finish_reasons(body)) == ("一二", ["stop"])
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
    assert started.wait(10)
    client = ask(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", CHATS[0], True)
    wait_until_stuck(script)
    server.handle_exit(signal.SIGINT, None)
    thread.join(1)
    assert thread.is_alive()
    server.handle_exit(signal.SIGINT, None)
    thread.join(10)
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
    await asyncio.sleep(0.05)
    assert (said, ended) == (["lifespan.startup.complete"], [])
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert ended == ["ended"]


async def test_only_a_cancellation_that_is_not_a_leaving_is_a_cut() -> None:
    async def told() -> bool:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return leaving.cut()
        return False

    left, stopped = asyncio.create_task(told()), asyncio.create_task(told())
    await asyncio.sleep(0)
    leaving.leave(left)
    stopped.cancel()
    assert (await left, await stopped) == (False, True)
    assert not leaving.cut()
