"""Every parameter with every kind of nonsense: 200 or 400 with the parameter's name, and the server lives (P1, P2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.testing import RunningServer
from tests.tools.client import Connection, Reply
from tests.tools.examples import examples
from tests.tools.wires import OPERATIONS, WIRES, Wire, wire_path, with_value

WORDS = (
    *("auto", "none", "required", "function", "json_schema", "json_object", "text"),
    *("user", "system", "assistant", "float", "base64", "-1", "1", "NaN"),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(WORDS)
)
NAMES = (
    *("type", "function", "name", "parameters", "role", "content", "text", "image_url", "url", "tool_calls"),
    *("schema", "json_schema", "arguments", "id", "include_usage", "1", "properties", "$ref", "pattern"),
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=8)
NONSENSE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)
FUZZ = settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def check(wire: Wire, reply: Reply, blamed: set[str]) -> None:
    """An answer, or a refusal that blames one of these fields (or an entry inside it)."""
    if reply.status == 200:
        if reply.headers["content-type"].startswith("text/event-stream"):
            assert wire.frames(reply.body)[-1] == "[DONE]"
        else:
            assert isinstance(reply.json(), dict)
        return
    assert reply.status in (400, 404)
    error = wire.error(reply)
    assert wire.blames(error, blamed), error


@pytest.mark.parametrize("wire, operation", [pair for pair in OPERATIONS if pair[0].tables[pair[1]][()]], ids=str)
@FUZZ
@given(data=st.data())
def test_one_field_of_nonsense_is_blamed_itself(
    client: Connection, wire: Wire, operation: str, data: st.DataObject
) -> None:
    path, body, headers = wire.call(operation)
    places = [(*place, name) for place, table in wire.tables[operation].items() for name in sorted(table)]
    place = data.draw(st.sampled_from(places))
    reply = client.post(path, with_value(body, place, data.draw(NONSENSE)), headers)
    # An object is blamed for what it no longer says.
    check(wire, reply, {wire_path(place), *(["model"] if place[0] == "model" else [])})


@pytest.mark.parametrize("wire, operation", OPERATIONS, ids=str)
@FUZZ
@given(data=st.data())
def test_a_body_of_nonsense_is_blamed_somewhere(
    client: Connection, wire: Wire, operation: str, data: st.DataObject
) -> None:
    path, body, headers = wire.call(operation)
    names = sorted(wire.tables[operation][()])
    wild = data.draw(st.dictionaries(st.sampled_from([*names, ""]) | st.text(max_size=10), NONSENSE, max_size=8))
    check(wire, client.post(path, {**body, **wild}, headers), {*wild, *body})


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@FUZZ
@given(message=st.dictionaries(KEYS, NONSENSE, max_size=6))
def test_a_message_of_nonsense_is_blamed_by_its_place(client: Connection, wire: Wire, message: dict[str, Any]) -> None:
    path, body, headers = wire.chat()
    check(wire, client.post(path, {**body, "messages": [*body["messages"], message]}, headers), {"messages[1]"})


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@FUZZ
@given(schema=st.dictionaries(KEYS, NONSENSE, max_size=4), choice=NONSENSE)
def test_tools_and_schemas_of_nonsense(client: Connection, wire: Wire, schema: dict[str, Any], choice: object) -> None:
    function = {"name": "f", "parameters": schema}
    values = {
        "tools": [{"type": "function", "function": function}],
        "functions": [function],
        "tool_choice": choice,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    }
    known = {name: value for name, value in values.items() if name in wire.tables["chat"][()]}
    check(wire, client.post(*wire.chat(values=known)), set(known))


def test_the_server_has_survived(client: Connection, server: RunningServer) -> None:
    for wire, operation in OPERATIONS:
        assert client.post(*wire.call(operation)).status == 200
    assert server.backend.open_streams == 0
