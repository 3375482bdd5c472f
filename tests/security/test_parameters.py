"""Every parameter with every kind of nonsense: 200 or 400 with the parameter's name, and the server lives (P1, P2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v3 import fields as v3_fields
from arkway.testing import EMBEDDING_ENDPOINT_ID, ENDPOINT_ID, RunningServer
from arkway.wire.fields import Table
from tests.tools.client import Connection, Reply, frames

CHAT: dict[str, Any] = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "问"}]}
OPERATIONS: dict[str, tuple[Table, dict[str, Any]]] = {
    "/api/v3/chat/completions": (v3_fields.CHAT, CHAT),
    "/v1/chat/completions": (openai_fields.CHAT, CHAT),
    "/api/v3/embeddings": (v3_fields.EMBED, {"model": EMBEDDING_ENDPOINT_ID, "input": "问"}),
    "/v1/embeddings": (openai_fields.EMBED, {"model": EMBEDDING_ENDPOINT_ID, "input": "问"}),
    "/api/v3/tokenization": (v3_fields.TOKENIZE, {"model": ENDPOINT_ID, "text": "问"}),
}
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
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def check(reply: Reply, blamed: set[str]) -> None:
    """An answer, or a refusal that blames one of these fields (or an entry inside it)."""
    if reply.status == 200:
        if reply.headers["content-type"].startswith("text/event-stream"):
            assert frames(reply.body)[-1] == "[DONE]"
        else:
            assert reply.json()["object"]
        return
    assert reply.status in (400, 404)
    param = reply.error()["param"]
    assert isinstance(param, str)
    assert any(param == name or param.startswith((f"{name}.", f"{name}[")) for name in blamed), param


@pytest.mark.parametrize("path", OPERATIONS)
@FUZZ
@given(data=st.data())
def test_one_field_of_nonsense_is_blamed_itself(client: Connection, path: str, data: st.DataObject) -> None:
    table, body = OPERATIONS[path]
    name = data.draw(st.sampled_from(sorted(table)))
    reply = client.post(path, {**body, name: data.draw(NONSENSE)})
    check(reply, {name})


@pytest.mark.parametrize("path", OPERATIONS)
@FUZZ
@given(data=st.data())
def test_a_body_of_nonsense_is_blamed_somewhere(client: Connection, path: str, data: st.DataObject) -> None:
    table, body = OPERATIONS[path]
    wild = data.draw(st.dictionaries(st.sampled_from(sorted(table)) | st.text(max_size=10), NONSENSE, max_size=8))
    check(client.post(path, {**body, **wild}), {*wild, *body})


@pytest.mark.parametrize("path", list(OPERATIONS)[:2])
@FUZZ
@given(message=st.dictionaries(KEYS, NONSENSE, max_size=6))
def test_a_message_of_nonsense_is_blamed_by_its_place(client: Connection, path: str, message: dict[str, Any]) -> None:
    body = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "问"}, message]}
    check(client.post(path, body), {"messages[1]"})


@pytest.mark.parametrize("path", list(OPERATIONS)[:2])
@FUZZ
@given(schema=st.dictionaries(KEYS, NONSENSE, max_size=4), choice=NONSENSE)
def test_tools_and_schemas_of_nonsense(client: Connection, path: str, schema: dict[str, Any], choice: object) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    body = {**OPERATIONS[path][1], "tools": [tool], "tool_choice": choice, "response_format": wanted}
    check(client.post(path, body), {"tools", "tool_choice", "response_format"})


def test_the_server_has_survived(client: Connection, server: RunningServer) -> None:
    for path, (_, body) in OPERATIONS.items():
        assert client.post(path, body).status == 200
    assert server.backend.open_streams == 0
