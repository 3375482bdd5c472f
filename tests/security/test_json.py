"""The corpus over HTTP, at every operation of every dialect: taken or refused, never 5xx, never a hang (J1, J3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arkway.core.errors import EndpointNotFound
from arkway.testing import BOT_ID, ENDPOINT_ID, RunningServer
from arkway.wire import json
from tests.security.corpus import NO, YES, documents
from tests.tools.client import Connection, Reply
from tests.tools.wires import CLIENTS, OF_BOTS, OPERATIONS, WIRES, Wire, with_value

DOCUMENTS = documents()
HOLE = "@HOLE@"


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def bodies(wire: Wire, operation: str) -> list[bytes]:
    """The operation's bodies with a hole where a value stands: first its text, then each of its fields."""
    body = wire.call(operation).body
    fields = [(*place, name) for place, table in wire.tables[operation].items() for name in sorted(table)]
    places = [wire.text_place(operation), *fields, ("unknown",)]
    return [json.dumps(with_value(body, place, HOLE)) for place in dict.fromkeys(places)]


def check_refusal(wire: Wire, reply: Reply, *, syntax: bool) -> None:
    """A refusal is a whole error object of the right dialect, in UTF-8, blaming nothing or a path."""
    assert reply.status == 400
    error = wire.error(reply)
    assert isinstance(error["message"], str)
    reply.body.decode("utf-8")
    if syntax:
        assert not wire.blamed(error)


def test_the_corpus_is_what_it_says() -> None:
    assert len(DOCUMENTS) >= 300
    assert len({*DOCUMENTS.values()}) >= 300


@pytest.mark.parametrize("wire, operation", OPERATIONS, ids=str)
def test_as_a_whole_body_nothing_of_it_is_a_request(client: Connection, wire: Wire, operation: str) -> None:
    path, _, headers = wire.call(operation)
    needy = any(field.required for field in wire.tables[operation][()].values())
    for name, document in DOCUMENTS.items():
        reply = client.post(path, document, headers)
        if not needy and not name.startswith(NO) and document.strip().startswith(b"{"):
            assert reply.status == 200, name
            continue
        assert reply.status == 400, name
        check_refusal(wire, reply, syntax=name.startswith(NO))


@pytest.mark.parametrize("wire, operation", OPERATIONS, ids=str)
def test_in_the_place_of_a_value_it_is_taken_or_refused(client: Connection, wire: Wire, operation: str) -> None:
    path, _, headers = wire.call(operation)
    holed = bodies(wire, operation)
    for number, (name, document) in enumerate(DOCUMENTS.items()):
        # Every document in the main field, and in one of the others by turns.
        for body in {holed[0], holed[number % len(holed)]}:
            reply = client.post(path, body.replace(f'"{HOLE}"'.encode(), document), headers)
            assert reply.status in (200, 400, wire.told[EndpointNotFound].status), name
            if reply.status != 200:
                wire.error(reply)
            if reply.status == 400:
                check_refusal(wire, reply, syntax=False)
            if name.startswith(NO) and well_placed(document):
                assert reply.status == 400, name
            if name.startswith(f"{YES}_string") and body == holed[0] and document != b'""':
                assert reply.status == 200, name


def well_placed(document: bytes) -> bool:
    """Whether it stays one wrong value, and does not complete the object around it (as ``1,2`` or ``1}`` may)."""
    return bool(document.strip(b" \t\r\n")) and b"," not in document and b"}" not in document


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.startswith(f"{YES}_string")])
def test_text_comes_back_as_it_went(client: Connection, name: str) -> None:
    content = json.loads(DOCUMENTS[name])
    for wire in CLIENTS:
        assert wire.text_of(client.post(*wire.chat(content, max_tokens=4096))) == content
        assert wire.text(client.post(*wire.chat(content, max_tokens=4096, stream=True)).body) == content


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_of_duplicate_keys_the_last_counts_everywhere(client: Connection, server: RunningServer, wire: Wire) -> None:
    path, body, headers = wire.chat("b")
    text = json.dumps(body).replace(b'"role"', b'"content":"a","role"').replace(b'"stream"', b'"stream":7,"stream"')
    text = text.replace(b'"model":', b'"model":"x","model":')
    assert wire.text_of(client.post(path, text, headers)) == "b"
    assert server.backend.requests[-1].messages[0].content == "b"
    assert server.backend.requests[-1].asked == (BOT_ID if wire in OF_BOTS else ENDPOINT_ID)
