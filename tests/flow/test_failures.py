"""A failure before the first event is an HTTP error, after it a frame; a broken stream never looks whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core import errors as e
from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.dialects.openai import OpenAI
from arkway.dialects.v3 import ArkV3
from arkway.ports import CallRecord, Dialect
from arkway.testing import ENDPOINT_ID, Gate, MemoryLedger, Pause, RunningServer, Step, endpoint, running_server
from arkway.wire import json
from tests.tools.client import Connection, Reply, finish_reasons, frames, text
from tests.wire.scripts import ERRORS

PATHS: dict[str, tuple[str, Dialect]] = {
    "v3": ("/api/v3/chat/completions", ArkV3()),
    "openai": ("/v1/chat/completions", OpenAI()),
}
# Far enough apart to tell which of them was heard.
FIRST_S, NEXT_S, TOTAL_S = 0.8, 0.2, 1.3
GONE = "ep-20240701000000-gone1"
BY_NAME = {type(error).__name__: error for error in ERRORS}


class Records:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[CallRecord] = []

    def started(self, dialect: str, operation: str) -> None:
        """Nothing to keep."""

    def ended(self, record: CallRecord) -> None:
        self.all.append(record)


def acts(request: ChatRequest) -> Iterator[Step]:
    """Does what the message says: ``before X``, ``after X``, ``ends``, or a way of being slow."""
    what, _, name = request.messages[-1].text().partition(" ")
    match what:
        case "before":
            yield BY_NAME.get(name) or ValueError("SECRET PROMPT")
        case "after":
            yield Delta("一", completion_tokens=1, prompt_tokens=7)
            yield BY_NAME.get(name) or ValueError("SECRET PROMPT")
        case "finished":
            yield Delta("一", completion_tokens=1, prompt_tokens=7)
            yield Finished("stop")
            yield BY_NAME[name]
        case "ends":
            yield from list[Step]([Progress(7, 7), Delta("一", completion_tokens=1)])[: int(name)]
        case "half":
            yield Delta("一", completion_tokens=1)
            yield Delta("二", index=1, completion_tokens=2)
            yield Finished("stop")
        case "silent":
            yield Gate()
        case "stalls":
            yield Progress(1, 7)
            yield Gate()
        case "trickles":
            for count in range(1, 1000):
                yield Pause(0.05)
                yield Delta("字", completion_tokens=count, prompt_tokens=7)


@pytest.fixture(scope="module")
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture(scope="module")
def records() -> Records:
    return Records()


@pytest.fixture(scope="module")
def server(ledger: MemoryLedger, records: Records) -> Iterator[RunningServer]:
    stream = {"first_event_s": FIRST_S, "next_event_s": NEXT_S, "total_s": TOTAL_S}
    gone = endpoint(GONE, "not-installed")
    with running_server(
        acts, ledger=ledger, observers=[records], settings={"stream": stream}, endpoints=[gone]
    ) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def ask(client: Connection, dialect: str, what: str, *, stream: bool) -> Reply:
    body = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": what}], "stream": stream}
    if dialect == "openai":
        body["n"] = 2
    return client.post(PATHS[dialect][0], body)


def told(dialect: str, error: e.ArkwayError, reply: Reply) -> dict[str, Any]:
    """The error object that this dialect makes of this error."""
    said: dict[str, Any] = json.loads(PATHS[dialect][1].encode_error(error, reply.headers["x-request-id"]).body)[
        "error"
    ]
    return said


def outcome_of(error: e.ArkwayError) -> str:
    return "refused" if isinstance(error, e.CallerError | e.Refused) else "upstream_error"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("name", BY_NAME)
def test_before_the_first_event_it_is_an_http_error(
    client: Connection, ledger: MemoryLedger, records: Records, name: str, dialect: str, stream: bool
) -> None:
    error = BY_NAME[name]
    reply = ask(client, dialect, f"before {name}", stream=stream)
    expected = PATHS[dialect][1].encode_error(error, reply.headers["x-request-id"])
    assert reply.status == expected.status
    assert reply.error() == told(dialect, error, reply)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    for header, value in expected.headers:
        assert reply.headers[header] == value
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error, settled.usage.total_tokens) == (outcome_of(error), name, 0)
    last = records.all[-1]
    assert (last.outcome, last.error, last.status) == (outcome_of(error), name, reply.status)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("what", ["after", "finished"])
@pytest.mark.parametrize("name", BY_NAME)
def test_after_the_first_event_it_is_a_frame(
    client: Connection, ledger: MemoryLedger, records: Records, what: str, name: str, dialect: str
) -> None:
    error = BY_NAME[name]
    reply = ask(client, dialect, f"{what} {name}", stream=True)
    assert reply.status == 200
    said = frames(reply.body)
    assert text(reply.body) == "一"
    assert finish_reasons(reply.body) == []
    assert list(said[-2]) == ["error"]
    assert said[-2]["error"] == told(dialect, error, reply)
    assert said[-1] == "[DONE]"
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == (outcome_of(error), name)
    assert settled.usage.completion_tokens == 1
    last = records.all[-1]
    assert (last.outcome, last.error, last.status) == (outcome_of(error), name, 200)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("what", ["before", "after"])
def test_a_defect_tells_nothing_but_its_request_id(
    client: Connection, ledger: MemoryLedger, records: Records, what: str, dialect: str, stream: bool
) -> None:
    reply = ask(client, dialect, f"{what} defect", stream=stream)
    assert b"SECRET" not in reply.body
    if stream and what == "after":
        assert frames(reply.body)[-2]["error"] == told(dialect, e.InternalError(), reply)
        assert finish_reasons(reply.body) == []
    else:
        assert reply.status == 500
        assert reply.error() == told(dialect, e.InternalError(), reply)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, records.all[-1].outcome) == ("upstream_error", "upstream_error")
    assert (records.all[-1].error, records.all[-1].status) == ("InternalError", reply.status)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("what", ["ends 0", "ends 1", "ends 2", "half"])
def test_an_answer_without_its_end_is_an_error(
    client: Connection, ledger: MemoryLedger, what: str, dialect: str
) -> None:
    whole = ask(client, dialect, what, stream=False)
    assert whole.status == 500
    assert "broke off" in whole.error()["message"]
    stream = ask(client, dialect, what, stream=True)
    if what == "ends 0":
        assert stream.status == 500
    else:
        assert list(frames(stream.body)[-2]) == ["error"]
        assert finish_reasons(stream.body) == []
    settled = ledger.settlements[stream.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendFailed")


@pytest.mark.parametrize("dialect", PATHS)
def test_silence_before_the_first_event_is_504(client: Connection, server: RunningServer, dialect: str) -> None:
    for stream in (True, False):
        reply = ask(client, dialect, "silent", stream=stream)
        assert reply.status == 504
        assert reply.error() == told(dialect, e.BackendTimeout("the model did not answer in time"), reply)
    assert server.backend.open_streams == 0


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("what", ["stalls", "trickles"])
def test_a_deadline_in_the_stream_is_a_frame(
    client: Connection, server: RunningServer, ledger: MemoryLedger, what: str, dialect: str
) -> None:
    reply = ask(client, dialect, what, stream=True)
    assert reply.status == 200
    assert frames(reply.body)[-2]["error"] == told(dialect, e.BackendTimeout("the model did not answer in time"), reply)
    assert finish_reasons(reply.body) == []
    assert server.backend.open_streams == 0
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendTimeout")
    assert settled.usage.completion_tokens == text(reply.body).count("字")
    assert ask(client, dialect, what, stream=False).status == 504


@pytest.mark.parametrize(
    "what, low_s, high_s", [("silent", FIRST_S, TOTAL_S), ("stalls", NEXT_S, FIRST_S), ("trickles", TOTAL_S, 5)]
)
def test_each_deadline_is_its_own(
    client: Connection, ledger: MemoryLedger, what: str, low_s: float, high_s: float
) -> None:
    reply = ask(client, "v3", what, stream=True)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert low_s * 1000 - 50 <= settled.duration_ms < high_s * 1000


@pytest.mark.parametrize("dialect", PATHS)
def test_calls_that_never_came_to_a_backend_are_told_apart(client: Connection, records: Records, dialect: str) -> None:
    path, body = PATHS[dialect][0], {"messages": [{"role": "user", "content": "ends 1"}]}
    for change, outcome, error in (
        ({"model": GONE}, "upstream_error", "BackendUnavailable"),
        ({"model": "ep-nowhere"}, "refused", "EndpointNotFound"),
        ({}, "refused", "MissingField"),
    ):
        reply = client.post(path, {**body, **change})
        last = records.all[-1]
        assert (last.outcome, last.error, last.status) == (outcome, error, reply.status)
    client.post(path, body, key="ark-nobody")
    assert (records.all[-1].outcome, records.all[-1].error) == ("refused", "UnknownCredentials")


def test_every_attempt_of_this_file_was_settled(ledger: MemoryLedger) -> None:
    assert ledger.attempts.keys() == ledger.settlements.keys()
