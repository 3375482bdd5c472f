"""Chat calls by callbacks and chat calls by coroutines: the same answers, octet for octet, and the same record."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import pytest

from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, FinishReason, Usage
from arkway.core.errors import ArkwayError, BackendFailed, UnsupportedInput
from arkway.core.events import Delta, Event, Finished, Quoted, UsageReport
from arkway.core.limit import Rule
from arkway.core.model import Deployment
from arkway.flow.passage import Passage
from arkway.http.answering import Answering
from arkway.ports import CallRecord, Running, Sink
from arkway.testing import MemoryLedger, RunningServer, running_server
from tests.tools.client import Connection, Reply
from tests.tools.waiting import until
from tests.tools.wires import CLIENTS, V3, Wire

ENDED = Usage(7, 3)
VARYING = re.compile(rb'02\d{13}[0-9a-f]{38}|"created": ?\d+')
OWN_HEADERS = {"date", "x-request-id", "x-tt-logid", "x-arkway-overhead-us", "content-length"}

STORIES: dict[str, Sequence[Sequence[Event] | ArkwayError]] = {
    "plain": [[Quoted('"你好"'.encode())], [Quoted(b'", \\"you\\""')], [Finished("stop"), UsageReport(ENDED)]],
    "mixed": [[Delta("你", completion_tokens=1), Quoted(b'"a\\n"')], [Finished("length"), UsageReport(ENDED)]],
    "whole": [[Delta("all of it"), Finished("stop"), UsageReport(ENDED)]],
    "silent": [],
    "unfinished": [[Delta("half")]],
    "fails at once": [BackendFailed("broken")],
    "blames the caller": [UnsupportedInput("no", "messages")],
    "fails later": [[Quoted(b'"half"')], BackendFailed("broken")],
}


class Telling:
    """A pushing backend: one story, a batch in each turn of the loop."""

    def __init__(self, story: Sequence[Sequence[Event] | ArkwayError]) -> None:
        self.story = story

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        return Told(self.story, sink)


class Told:
    def __init__(self, story: Sequence[Sequence[Event] | ArkwayError], sink: Sink) -> None:
        self._left, self._sink, self._over = list(story), sink, False
        asyncio.get_running_loop().call_soon(self._go_on)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None:
        self._over = True

    def _go_on(self) -> None:
        if self._over:
            return
        if not self._left:
            self._sink.ended()
            return
        step = self._left.pop(0)
        if isinstance(step, ArkwayError):
            self._sink.failed(step)
            return
        self._sink.events(step)
        asyncio.get_running_loop().call_soon(self._go_on)


class Pair(NamedTuple):
    """Two servers of one story, alike but for the road."""

    hot: RunningServer
    cold: RunningServer


@pytest.fixture(scope="module", params=list(STORIES))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    backends = {"scripted": Telling(STORIES[request.param])}
    cold = {"server": {"hot_path": False}}
    with (
        running_server(backends=backends, ledger=MemoryLedger()) as one,
        running_server(backends=backends, ledger=MemoryLedger(), settings=cold) as other,
    ):
        yield Pair(one, other)


def seen(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in reply.headers.items() if name not in OWN_HEADERS}
    return reply.status, headers, VARYING.sub(b"", reply.body)


def settled(server: RunningServer, reply: Reply) -> tuple[object, ...]:
    ledger = server.ledger
    assert isinstance(ledger, MemoryLedger)
    found = ledger.settlements.get(reply.headers["x-request-id"])
    return (found.outcome, found.usage, found.error) if found else ()


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_both_roads_give_one_answer_and_one_record(pair: Pair, wire: Wire, stream: bool) -> None:
    replies = []
    for server in pair:
        with Connection(server.url) as client:
            replies.append(client.post(*wire.chat(stream=stream, usage=stream)))
    assert seen(replies[0]) == seen(replies[1])
    records = [settled(server, reply) for server, reply in zip(pair, replies, strict=True)]
    assert records[0] == records[1] != ()


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("wrong", ["endpoint", "body", "parameter", "key", "encoding", "length"])
def test_both_roads_refuse_alike(pair: Pair, wire: Wire, wrong: str) -> None:
    replies = []
    for server in pair:
        with Connection(server.url) as client:
            replies.append(refused(client, wire, wrong))
    assert seen(replies[0]) == seen(replies[1])
    assert replies[0].status >= 400 or wire.deaf


def refused(client: Connection, wire: Wire, wrong: str) -> Reply:
    call = wire.chat(asked="ep-20240701000000-nobod") if wrong == "endpoint" else wire.chat()
    headers, body = dict(call.headers), call.body
    match wrong:
        case "parameter":
            body = {**body, "messages": "none"}
        case "key":
            headers["Authorization"] = "Bearer ark-wrong"
        case "encoding":
            headers["Content-Encoding"] = "gzip"
        case "length":
            body = {**body, "pad": "x" * (17 << 20)}
    if wrong == "body":
        return client.post(call.path, b"{", headers)
    return client.post(call.path, body, headers)


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "cold"])
def test_a_limit_refuses_on_either_road(hot: bool) -> None:
    rule = Rule("default", "default", "project", "", "rpm", "", 1)
    backends = {"scripted": Telling(STORIES["whole"])}
    settings = {"server": {"hot_path": hot}, "limits": {"burst_s": 60}}
    with running_server(backends=backends, rules=[rule], settings=settings) as server:
        for wire in CLIENTS[:1]:
            with Connection(server.url) as client:
                assert client.post(*wire.chat()).status == 200
                assert client.post(*wire.chat()).status == 429


def test_what_it_cost_here_is_told_and_can_be_kept(pair: Pair) -> None:
    for server in pair:
        with Connection(server.url) as client:
            reply = client.post(*CLIENTS[0].chat())
        if reply.status == 200:
            assert int(reply.headers["x-arkway-overhead-us"]) >= 0
    silent = {"server": {"overhead_header": False}}
    with running_server(settings=silent) as server, Connection(server.url) as client:
        assert "x-arkway-overhead-us" not in client.post(*CLIENTS[0].chat()).headers


# What no encoder can word: the end of a stream; and an error, so that nothing at all can be said any more.
UNENDING = Finished(cast(FinishReason, object()))
UNSPEAKABLE = BackendFailed(cast(str, object()))


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.started_calls = 0
        self.records: list[CallRecord] = []

    def started(self, dialect: str, operation: str) -> None:
        self.started_calls += 1

    def ended(self, record: CallRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize("mute", [True, False], ids=["mute", "told"])
def test_a_stream_that_cannot_be_ended_breaks(hot: bool, mute: bool) -> None:
    """By a frame where that can still be written, else by the connection; it is never left open, and counted once."""
    seen = Seen()
    end: Sequence[Event] | ArkwayError = UNSPEAKABLE if mute else [UNENDING, UsageReport(ENDED)]
    backends = {"scripted": Telling([[Delta("half")], end])}
    with running_server(backends=backends, observers=[seen], settings={"server": {"hot_path": hot}}) as server:
        client = Connection(server.url)
        client.send("POST", *V3.chat(stream=True))
        body = b""
        try:
            body = client.reply().body
        except (OSError, AssertionError, ValueError, EOFError):
            assert mute
        client.close()
        until(lambda: len(seen.records) == 1)
    assert b"finish_reason" not in body
    assert mute or b"InternalServiceError" in body
    assert seen.started_calls == 1
    assert seen.records[0].error in {"InternalError", *(["BackendFailed"] if mute else [])}


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_call_leaves_nothing_to_the_collector(hot: bool, stream: bool) -> None:
    """Prompts and answers are freed when a call ends, not when somebody looks for cycles."""
    backends = {"scripted": Telling(STORIES["plain"])}
    with (
        running_server(backends=backends, settings={"server": {"hot_path": hot}}) as server,
        Connection(server.url) as client,
    ):
        calls = [client.post(*wire.chat(stream=stream)).status for wire in CLIENTS]
        gc.collect()
        gc.disable()
        try:
            before = living()
            calls += [client.post(*wire.chat(stream=stream)).status for _ in range(5) for wire in CLIENTS]
            until(lambda: living() <= before)
        finally:
            gc.enable()
    assert set(calls) == {200}


def living() -> int:
    return sum(isinstance(each, ChatRequest | Answering | Passage) for each in gc.get_objects())
