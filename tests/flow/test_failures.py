"""A failure before the first event is an HTTP error, after it a frame; a broken stream never looks whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from arkway.core import errors as e
from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.ports import CallRecord
from arkway.testing import Gate, MemoryLedger, Pause, RunningServer, Step, bot, endpoint, running_server
from tests.tools.client import Connection, Reply
from tests.tools.told import Told
from tests.tools.waiting import until
from tests.tools.wires import CLIENTS, DEAF, JSON_TYPE, MODAL, OF_BOTS, STREAM_TYPE, V3, WIRES, Wire
from tests.wire.scripts import ERRORS

# Each way of being slow, and the one deadline that it meets: the others are far away.
SLOW = {
    "silent": ("first_event_s", 0.2),
    "reads": ("first_event_s", 0.2),
    "stalls": ("next_event_s", 0.2),
    "trickles": ("total_s", 0.5),
}
PATIENT = dict.fromkeys(("first_event_s", "next_event_s", "total_s"), 600)
GONE_BOT = "bot-20240701000000-gone1"
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
        case "reads":
            yield Progress(1, 7)
            yield Gate()
        case "stalls":
            yield Delta("字", completion_tokens=1, prompt_tokens=7)
            yield Gate()
        case "trickles":
            for count in range(1, 10_000):
                yield Delta("字", completion_tokens=count, prompt_tokens=7)
                yield Pause(0.05)


@pytest.fixture(scope="module")
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture(scope="module")
def records() -> Records:
    return Records()


@pytest.fixture(scope="module")
def server(ledger: MemoryLedger, records: Records) -> Iterator[RunningServer]:
    gone = endpoint(GONE, "not-installed")
    bots = [bot(), bot(GONE, GONE_BOT)]
    with running_server(acts, ledger=ledger, observers=[records], endpoints=[gone], bots=bots) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[dict[str, RunningServer]]:
    """A server for each way of being slow, that hears of nothing but its own deadline."""
    with ExitStack() as stack:
        yield {
            what: stack.enter_context(running_server(acts, settings={"stream": {**PATIENT, deadline: seconds}}))
            for what, (deadline, seconds) in SLOW.items()
        }


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def ask(client: Connection, wire: Wire, what: str, *, stream: bool) -> Reply:
    two: dict[str, Any] = {"n": 2} if wire.name == "openai" else {}
    return client.post(*wire.chat(what, stream=stream, **two))


def outcome_of(error: e.ArkwayError) -> str:
    return "refused" if isinstance(error, e.CallerError | e.Refused) else "upstream_error"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("name", BY_NAME)
def test_before_the_first_event_it_is_an_http_error(
    client: Connection, ledger: MemoryLedger, records: Records, name: str, wire: Wire, stream: bool
) -> None:
    error = BY_NAME[name]
    reply = ask(client, wire, f"before {name}", stream=stream)
    expected = wire.dialect.encode_error(error, reply.headers["x-request-id"], stream=stream)
    assert (reply.status, reply.body) == (expected.status, expected.body)
    assert wire.error(reply, stream=stream) == wire.error_of(error, reply)
    assert reply.headers["content-type"] == (STREAM_TYPE if stream and wire.deaf else JSON_TYPE)
    for header, value in expected.headers:
        assert reply.headers[header] == value
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error, settled.usage.total_tokens) == (outcome_of(error), name, 0)
    last = records.all[-1]
    assert (last.outcome, last.error, last.status) == (outcome_of(error), name, reply.status)


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("what", ["after", "finished"])
@pytest.mark.parametrize("name", BY_NAME)
def test_after_the_first_event_it_is_a_frame(
    client: Connection, ledger: MemoryLedger, records: Records, what: str, name: str, wire: Wire
) -> None:
    error = BY_NAME[name]
    reply = ask(client, wire, f"{what} {name}", stream=True)
    assert reply.status == 200
    said = wire.frames(reply.body)
    assert wire.text(reply.body) == "一"
    assert wire.finish_reasons(reply.body) == []
    assert wire.failure(said[-2]) == wire.error_of(error, reply)
    assert said[-1] == "[DONE]"
    assert reply.body.endswith(wire.end)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == (outcome_of(error), name)
    assert settled.usage.completion_tokens == 1
    last = records.all[-1]
    assert (last.outcome, last.error, last.status) == (outcome_of(error), name, 200)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("what", ["before", "after"])
def test_a_defect_tells_nothing_but_its_request_id(
    client: Connection, ledger: MemoryLedger, records: Records, what: str, wire: Wire, stream: bool
) -> None:
    reply = ask(client, wire, f"{what} defect", stream=stream)
    assert b"SECRET" not in reply.body
    if stream and what == "after":
        assert wire.failure(wire.frames(reply.body)[-2]) == wire.error_of(e.InternalError(), reply)
        assert wire.finish_reasons(reply.body) == []
    else:
        assert reply.status == 500
        assert wire.error(reply, stream=stream) == wire.error_of(e.InternalError(), reply)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, records.all[-1].outcome) == ("upstream_error", "upstream_error")
    assert (records.all[-1].error, records.all[-1].status) == ("InternalError", reply.status)


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("what", ["ends 0", "ends 1", "ends 2", "half"])
def test_an_answer_without_its_end_is_an_error(client: Connection, ledger: MemoryLedger, what: str, wire: Wire) -> None:
    whole = ask(client, wire, what, stream=False)
    assert whole.status == 500
    assert "broke off" in wire.error(whole)["message"]
    stream = ask(client, wire, what, stream=True)
    if what == "ends 0":
        assert stream.status == 500
    else:
        assert wire.failure(wire.frames(stream.body)[-2])
        assert wire.finish_reasons(stream.body) == []
    settled = ledger.settlements[stream.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendFailed")


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_silence_before_the_first_event_is_504(hasty: dict[str, RunningServer], wire: Wire) -> None:
    server = hasty["silent"]
    for stream in (True, False):
        with Connection(server.url) as client:
            reply = ask(client, wire, "silent", stream=stream)
        assert reply.status == 504
        assert wire.error(reply) == wire.error_of(e.BackendTimeout("the model did not answer in time"), reply)
    until(lambda: not server.backend.open_streams)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("what", ["reads", "stalls", "trickles"])
def test_a_deadline_in_the_stream_is_a_frame(hasty: dict[str, RunningServer], what: str, wire: Wire) -> None:
    server = hasty[what]
    ledger = server.ledger
    assert isinstance(ledger, MemoryLedger)
    with Connection(server.url) as client:
        reply = ask(client, wire, what, stream=True)
        whole = ask(client, wire, what, stream=False)
    assert (reply.status, whole.status) == (200, 504)
    late = e.BackendTimeout("the model did not answer in time")
    assert wire.failure(wire.frames(reply.body)[-2]) == wire.error_of(late, reply)
    assert wire.finish_reasons(reply.body) == []
    until(lambda: not server.backend.open_streams)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendTimeout")
    assert settled.usage.completion_tokens == wire.text(reply.body).count("字")


@pytest.mark.parametrize("what", SLOW)
def test_no_deadline_is_met_before_its_time(hasty: dict[str, RunningServer], what: str) -> None:
    ledger = hasty[what].ledger
    assert isinstance(ledger, MemoryLedger)
    with Connection(hasty[what].url) as client:
        reply = ask(client, V3, what, stream=True)
    settled = ledger.settlements[reply.headers["x-request-id"]]
    assert settled.error == "BackendTimeout"
    assert settled.duration_ms >= SLOW[what][1] * 1000 - 50


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("name", sorted({kind.__name__ for kind in V3.told} & BY_NAME.keys()))
def test_the_codes_are_those_of_the_documents(client: Connection, name: str, wire: Wire) -> None:
    reply = ask(client, wire, f"before {name}", stream=True)
    error, told = wire.error(reply, stream=True), wire.told[type(BY_NAME[name])]
    if name == "UnsupportedModel" and wire in MODAL + DEAF:  # it is one of embeddings, which has a code of its own
        told = Told(405, "ModelNotSupportEmbeddings", 1709829)
    assert (reply.status, error["code"], error.get("code_n", 0)) == told


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_calls_that_never_came_to_a_backend_are_told_apart(client: Connection, records: Records, wire: Wire) -> None:
    nothing = wire.chat(values={"messages": None})
    for call, outcome, error in (
        (wire.chat("ends 1", asked=GONE_BOT if wire in OF_BOTS else GONE), "upstream_error", "BackendUnavailable"),
        (wire.chat("ends 1", asked="ep-nowhere"), "refused", "EndpointNotFound"),
        (nothing, "refused", "MissingField"),
    ):
        reply = client.post(*call)
        last = records.all[-1]
        assert (last.outcome, last.error, last.status) == (outcome, error, reply.status)
    client.post(*nothing, key="ark-nobody")
    assert (records.all[-1].outcome, records.all[-1].error) == ("refused", "UnknownCredentials")


def test_every_attempt_of_this_file_was_settled(ledger: MemoryLedger) -> None:
    assert ledger.attempts.keys() == ledger.settlements.keys()
