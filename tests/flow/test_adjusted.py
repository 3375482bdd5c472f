"""A field that does not do what it says is accepted, but never in silence: a header names it, a metric counts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from arkway.testing import CHAT_CARD, RunningServer, running_server
from tests.tools.client import Connection, Reply
from tests.tools.wires import CLIENTS, LEGACY, OPENAI, OPERATIONS, V1, V2, V3, Wire

MORE_THAN_THE_MODEL_GIVES = CHAT_CARD.max_output_tokens + 1
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
EXAMPLES = {**FUNCTION, "examples": ["x"]}
TOOL = {"type": "function", "function": FUNCTION}

Changes = dict[str, Any]
LEGACY_IGNORED: list[tuple[Changes, Changes, set[str]]] = [
    ({"extra": {"a": "b"}}, {}, {"extra"}),
    ({"functions": [EXAMPLES]}, {}, {"functions[0].examples"}),
    (
        {},
        {"min_new_tokens": 1, "max_prompt_tokens": 9},
        {"parameters.min_new_tokens", "parameters.max_prompt_tokens"},
    ),
    ({}, {"guidance": 1, "logit_bias": 5}, {"parameters.guidance", "parameters.logit_bias"}),
    ({}, {"max_tokens": 5, "max_new_tokens": 6}, {"parameters.max_tokens"}),
]
# Of each dialect: what is put into a chat, and the paths that are then reported.
IGNORED: list[tuple[Wire, Changes, Changes, set[str]]] = [
    (V3, {"parallel_tool_calls": True, "service_tier": "auto"}, {}, {"parallel_tool_calls", "service_tier"}),
    (OPENAI, {"store": True}, {}, {"store"}),
    (V1, {"method": "chat", "plugins": ["browsing"]}, {}, {"method", "plugins"}),
    (V1, {"model": {"name": CHAT_CARD.name, "colour": "red"}}, {}, {"model.colour"}),
    (V2, {"verbose": True}, {}, {"verbose"}),
    (V2, {"tools": [TOOL], "functions": [FUNCTION]}, {}, {"functions"}),
    *((wire, *entry) for wire in LEGACY for entry in LEGACY_IGNORED),
]
CLAMPED: list[tuple[Wire, Changes, set[str]]] = [
    (wire, *entry)
    for wire in LEGACY
    for entry in (
        ({"max_new_tokens": MORE_THAN_THE_MODEL_GIVES}, {"parameters.max_new_tokens"}),
        ({"max_tokens": str(MORE_THAN_THE_MODEL_GIVES)}, {"parameters.max_tokens"}),
        ({"logprobs": 21, "max_new_tokens": 2**63 - 1}, {"parameters.logprobs", "parameters.max_new_tokens"}),
    )
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def told(reply: Reply, how: str) -> set[str]:
    """The fields that a header of this answer names."""
    value = reply.headers.get(f"x-arkway-{how}", "")
    return set(value.split(", ")) - {""}


def counted(client: Connection) -> dict[tuple[str, str, str], float]:
    """What the metric says so far, by dialect, effect and field."""
    text = client.get("/metrics").body.decode()
    found = re.findall(
        r'^arkway_adjusted_fields_total\{dialect="(.*?)",effect="(.*?)",field="(.*?)"\} (.*)$', text, re.M
    )
    return {(dialect, effect, field): float(count) for dialect, effect, field, count in found}


def counts_of(client: Connection, wire: Wire, effect: str, fields: set[str]) -> dict[str, float]:
    return {field: counted(client).get((wire.route, effect, field), 0) for field in fields}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("wire, values, parameters, fields", IGNORED)
def test_what_has_no_effect_is_named_and_counted(
    client: Connection, wire: Wire, values: Changes, parameters: Changes, fields: set[str], stream: bool
) -> None:
    before = counts_of(client, wire, "ignored", fields)
    reply = client.post(*wire.chat(stream=stream, values=values, **parameters))
    assert (reply.status, told(reply, "ignored"), told(reply, "clamped")) == (200, fields, set())
    assert counts_of(client, wire, "ignored", fields) == {field: count + 1 for field, count in before.items()}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("wire, parameters, fields", CLAMPED)
def test_what_is_lowered_is_named_and_counted(
    client: Connection, server: RunningServer, wire: Wire, parameters: Changes, fields: set[str], stream: bool
) -> None:
    before = counts_of(client, wire, "clamped", fields)
    reply = client.post(*wire.chat(stream=stream, **parameters))
    assert (reply.status, told(reply, "clamped"), told(reply, "ignored")) == (200, fields, set())
    assert counts_of(client, wire, "clamped", fields) == {field: count + 1 for field, count in before.items()}
    assert server.backend.requests[-1].max_tokens == CHAT_CARD.max_output_tokens


@pytest.mark.parametrize("wire, operation", [pair for pair in OPERATIONS if pair[1] != "cert"], ids=str)
def test_every_operation_reports_fields_it_does_not_know(client: Connection, wire: Wire, operation: str) -> None:
    reply = client.post(*wire.call(operation, colour="red", size=None))
    assert (reply.status, told(reply, "ignored")) == (200, {"colour"})


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_an_ordinary_call_reports_nothing(client: Connection, wire: Wire) -> None:
    for stream in (True, False):
        reply = client.post(*wire.chat(stream=stream, temperature=0.5, max_tokens=5, usage=True))
        assert (told(reply, "ignored"), told(reply, "clamped")) == (set(), set())


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_names_that_a_header_cannot_hold_are_not_in_it(client: Connection, wire: Wire) -> None:
    strange = {"a\r\nX-Evil: 1": 1, "字": 1, "a, b": 1, "\0": 1, "plain": 1, "x" * 5000: 1}
    reply = client.post(*wire.chat(values=strange))
    assert reply.status == 200
    assert "x-evil" not in reply.headers
    assert told(reply, "ignored") == {"plain", "x" * 64}


def test_strange_names_swell_neither_the_header_nor_the_metric() -> None:
    with running_server() as server, Connection(server.url) as client:
        for number, wire in enumerate(CLIENTS * 4):
            strange = {f"other{number}-{place}": 1 for place in range(50)}
            assert len(told(client.post(*wire.chat(values=strange)), "ignored")) == 32
        fields = {field for _, _, field in counted(client)}
        assert len(fields) == 257
        assert "other" in fields
