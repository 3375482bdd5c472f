"""Whose endpoint is it, may this key use it, and what does it say when not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arkway.core.caller import Caller
from arkway.core.errors import (
    ArkwayError,
    BackendUnavailable,
    EndpointNotFound,
    EndpointStopped,
    Forbidden,
    MissingField,
    RouteNotFound,
    UnsupportedModel,
)
from arkway.testing import (
    CHAT_CARD,
    EMBEDDING_CARD,
    EMBEDDING_ENDPOINT_ID,
    ENDPOINT_ID,
    RunningServer,
    endpoint,
    running_server,
)
from tests.tools.client import Connection, Reply
from tests.tools.wires import DEAF, OF_MODELS, OPENAI, OPERATIONS, V1, V2, V3, Wire

FOREIGN, MISSING, STOPPED = "ep-20990101000000-other", "ep-20990101000000-thing", "ep-20240701000000-still"
OTHERS_KEY = "ark-others-key-000000000000000000"
SCOPED_KEY = "ark-scoped-key-000000000000000000"

KEYS = {
    OTHERS_KEY: Caller("other", "default", "key-other"),
    SCOPED_KEY: Caller("default", "default", "key-scoped", (EMBEDDING_ENDPOINT_ID,)),
}
FOREIGN_NEAR, MISSING_NEAR = ENDPOINT_ID[:-1] + "X", ENDPOINT_ID[:-1] + "Y"
ENDPOINTS = (
    endpoint(FOREIGN_NEAR, CHAT_CARD.name, account="other"),
    endpoint(FOREIGN, CHAT_CARD.name, account="other"),
    endpoint(STOPPED, CHAT_CARD.name, status="stopped"),
    endpoint("ep-20240701000000-gone1", "not-installed"),
)
STRANGE = (
    "",
    " ",
    ENDPOINT_ID + " ",
    ENDPOINT_ID.upper(),
    "../" + ENDPOINT_ID,
    "\u202e",
    "'; DROP TABLE endpoints; --",
    "%s%n",
    "字" * 85,
)
# Bots have one answer for whatever they are not: tests/flow/test_bot_wires.py.
CLIENTS_OF_MODELS = (*OF_MODELS, *DEAF)
ROUTED = [
    pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in OPERATIONS if pair[1] != "cert" and pair[0] in OF_MODELS
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(keys=KEYS, endpoints=ENDPOINTS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def without_ids(reply: Reply, asked: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to the byte, but for what names this request."""
    request_id = reply.headers["x-request-id"]
    headers = {name: value.replace(request_id, "<id>") for name, value in reply.headers.items() if name != "date"}
    return reply.status, headers, reply.body.replace(request_id.encode(), b"<id>").replace(asked.encode(), b"<asked>")


def refused(wire: Wire, reply: Reply, kind: type[ArkwayError]) -> str:
    """Asserts that this was the error; gives back its message."""
    error, told = wire.error(reply), wire.told[kind]
    assert (reply.status, error["code"], error.get("code_n", 0)) == told
    message: str = error["message"]
    return message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire, operation", ROUTED)
def test_anothers_endpoint_answers_as_one_that_does_not_exist(
    client: Connection, wire: Wire, operation: str, stream: bool
) -> None:
    extra = {"stream": stream} if operation == "chat" else {}
    for foreign, missing in ((FOREIGN, MISSING), (FOREIGN_NEAR, MISSING_NEAR)):
        replies = [client.post(*wire.call(operation, asked, **extra)) for asked in (foreign, missing)]
        pair = [without_ids(reply, asked) for reply, asked in zip(replies, (foreign, missing), strict=True)]
        assert pair[0] == pair[1]
        assert ("did you mean" in refused(wire, replies[0], EndpointNotFound)) == (foreign == FOREIGN_NEAR)
        assert wire.blamed(wire.error(replies[0])) == {"model"}


def test_anothers_model_answers_as_one_that_does_not_exist(client: Connection) -> None:
    replies = [without_ids(client.get(f"/v1/models/{asked}"), asked) for asked in (FOREIGN, MISSING)]
    assert replies[0] == replies[1]
    assert replies[0][0] == 404


def test_each_project_sees_its_own(client: Connection) -> None:
    for wire in CLIENTS_OF_MODELS:
        assert client.post(*wire.chat(asked=FOREIGN), key=OTHERS_KEY).status == 200
        refused(wire, client.post(*wire.chat(asked=ENDPOINT_ID), key=OTHERS_KEY), EndpointNotFound)
    theirs = [entry["id"] for entry in client.get("/api/v3/models", key=OTHERS_KEY).json()["data"]]
    ours = [entry["id"] for entry in client.get("/api/v3/models").json()["data"]]
    assert theirs == [FOREIGN_NEAR, FOREIGN]
    assert ours == [ENDPOINT_ID, EMBEDDING_ENDPOINT_ID, STOPPED]
    named = [entry["id"] for entry in client.get("/v1/models", key=OTHERS_KEY).json()["data"]]
    assert named == [CHAT_CARD.name, FOREIGN_NEAR, FOREIGN]


@pytest.mark.parametrize("wire, operation", [pair for pair in ROUTED if "embeddings" not in str(pair.id)])
def test_a_key_out_of_its_scope_is_forbidden(client: Connection, wire: Wire, operation: str) -> None:
    reply = client.post(*wire.call(operation), key=SCOPED_KEY)
    refused(wire, reply, Forbidden)
    assert reply.headers["x-should-retry"] == "false"
    refused(wire, client.post(*wire.call(operation, FOREIGN), key=SCOPED_KEY), EndpointNotFound)


def test_a_scoped_key_sees_and_uses_its_scope(client: Connection) -> None:
    assert [entry["id"] for entry in client.get("/api/v3/models", key=SCOPED_KEY).json()["data"]] == [
        EMBEDDING_ENDPOINT_ID
    ]
    for wire in OF_MODELS:
        assert client.post(*wire.call("embeddings"), key=SCOPED_KEY).status == 200
    for wire in (OPENAI, V1, V2):
        refused(wire, client.post(*wire.chat(asked=CHAT_CARD.name), key=SCOPED_KEY), Forbidden)


@pytest.mark.parametrize("wire", OF_MODELS, ids=repr)
def test_a_stopped_endpoint_says_so(client: Connection, wire: Wire) -> None:
    assert "stopped" in refused(wire, client.post(*wire.chat(asked=STOPPED)), EndpointStopped)


@pytest.mark.parametrize("wire", OF_MODELS, ids=repr)
def test_a_model_that_is_not_installed_tells_the_operator_what_to_do(client: Connection, wire: Wire) -> None:
    reply = client.post(*wire.chat(asked="ep-20240701000000-gone1"))
    assert "arkway pull not-installed" in refused(wire, reply, BackendUnavailable)


@pytest.mark.parametrize("wire, operation", [pair for pair in ROUTED if "tokenization" not in str(pair.id)])
def test_the_wrong_kind_of_model_is_named(client: Connection, wire: Wire, operation: str) -> None:
    wrong = ENDPOINT_ID if operation == "embeddings" else EMBEDDING_ENDPOINT_ID
    reply = client.post(*wire.call(operation, wrong))
    error = wire.error(reply)
    assert f"`{wrong}` does not support {operation}" in error["message"]
    if operation == "embeddings" and wire in (V1, V2):
        assert (reply.status, error["code"], error["code_n"]) == (405, "ModelNotSupportEmbeddings", 1709829)
    else:
        refused(wire, reply, UnsupportedModel)


@pytest.mark.parametrize("asked, status", [(CHAT_CARD.name, 404), (ENDPOINT_ID, 200)])
def test_v3_takes_endpoint_ids_only(client: Connection, asked: str, status: int) -> None:
    assert client.post(*V3.chat(asked=asked)).status == status


@pytest.mark.parametrize("wire", [wire for wire in CLIENTS_OF_MODELS if wire is not V3], ids=repr)
@pytest.mark.parametrize(
    "asked", [CHAT_CARD.name, CHAT_CARD.served_name, ENDPOINT_ID, "skylark-chat", "Moonshot-v1-8k"]
)
def test_the_others_take_names_and_aliases_too(client: Connection, wire: Wire, asked: str) -> None:
    assert wire.text_of(client.post(*wire.chat("天空", asked=asked))) == "天空"
    if wire is OPENAI:
        assert client.post(*wire.chat(asked=asked)).json()["model"] == CHAT_CARD.served_name


@pytest.mark.parametrize("operation", ["chat", "tokenization", "classification"])
@pytest.mark.parametrize(
    "model, served",
    [
        ({"name": CHAT_CARD.name}, True),
        ({"name": CHAT_CARD.name, "version": "1"}, True),
        ({"name": CHAT_CARD.name, "version": ""}, True),
        ({"name": CHAT_CARD.name, "version": None}, True),
        ({"name": CHAT_CARD.name, "version": "9"}, False),
        ({"name": CHAT_CARD.name, "version": "1.0"}, False),
        ({"name": CHAT_CARD.served_name}, True),
        ({"name": CHAT_CARD.served_name, "version": "9"}, False),
        ({"endpoint_id": ENDPOINT_ID}, True),
        ({"endpoint_id": ENDPOINT_ID, "name": "nobody", "version": "9"}, True),
        ({"endpoint_id": "", "name": CHAT_CARD.name}, True),
        ({"endpoint_id": MISSING, "name": CHAT_CARD.name}, False),
        # An alias stands for a model and its version: the retired name's own versions are not asked about.
        ({"name": "skylark-chat"}, True),
        ({"name": "SKYLARK-CHAT", "version": "1.0"}, True),
        ({"name": "moonshot-v1-8k", "version": "1.0"}, True),
        ({"name": "skylark-nothing"}, False),
    ],
    ids=str,
)
def test_v1_is_asked_by_name_version_endpoint_or_alias(
    client: Connection, operation: str, model: dict[str, str], served: bool
) -> None:
    reply = client.post(*V1.call(operation, model=model))
    if served:
        assert reply.status == 200
    else:
        message = refused(V1, reply, EndpointNotFound)
        assert (model.get("endpoint_id") or model["name"]) in message
        assert model.get("version", "") in message


@pytest.mark.parametrize("model", [{}, {"name": ""}, {"endpoint_id": "", "name": ""}, {"version": "1"}], ids=str)
def test_v1_has_to_be_asked_for_something(client: Connection, model: dict[str, str]) -> None:
    for operation in V1.operations:
        if operation != "cert":
            reply = client.post(*V1.call(operation, model=model))
            refused(V1, reply, MissingField)
            assert V1.blames(V1.error(reply), {"model"})


def test_the_operator_turns_names_on_and_off() -> None:
    surface = {"v3_model_names": True, "openai_model_names": False, "v2_model_names": False}
    with running_server(settings={"surface": surface}) as server, Connection(server.url) as client:
        for wire, status in ((V1, 200), (V2, 400), (V3, 200), (OPENAI, 404)):
            assert client.post(*wire.chat(asked=CHAT_CARD.name)).status == status
            assert client.post(*wire.call("embeddings", EMBEDDING_CARD.name)).status == status
            assert client.post(*wire.chat(asked=ENDPOINT_ID)).status == 200


@pytest.mark.parametrize(
    "wire, asked, hint",
    [
        *((wire, "scripted-chta", f"did you mean `{CHAT_CARD.name}`") for wire in (OPENAI, V1, V2)),
        *((wire, "skylark-chta", "did you mean `skylark-chat`") for wire in (OPENAI, V1, V2)),
        *((wire, ENDPOINT_ID[:-1], f"`{ENDPOINT_ID}`") for wire in OF_MODELS),
        (V3, CHAT_CARD.name, f"did you mean `{ENDPOINT_ID}`"),
        (V3, ENDPOINT_ID + "x", f"`{ENDPOINT_ID}`"),
    ],
)
def test_a_near_miss_is_told_what_is_near(client: Connection, wire: Wire, asked: str, hint: str) -> None:
    assert hint in refused(wire, client.post(*wire.chat(asked=asked)), EndpointNotFound)


@pytest.mark.parametrize("wire", OF_MODELS, ids=repr)
def test_hints_name_only_what_would_work(client: Connection, wire: Wire) -> None:
    def said(asked: str, key: str | None = None) -> str:
        return refused(wire, client.post(*wire.chat(asked=asked), key=key), EndpointNotFound)

    assert "did you mean" not in said(STOPPED + "x")
    assert "did you mean" not in said(ENDPOINT_ID + "x", SCOPED_KEY)
    assert "did you mean" in said(EMBEDDING_ENDPOINT_ID + "x", SCOPED_KEY)


@pytest.mark.parametrize("wire", OF_MODELS, ids=repr)
def test_hints_never_tell_of_anothers_endpoints(client: Connection, wire: Wire) -> None:
    for asked in (FOREIGN, FOREIGN[:-1], FOREIGN + "x"):
        said = refused(wire, client.post(*wire.chat(asked=asked)), EndpointNotFound)
        assert FOREIGN not in said.replace(f"`{asked}`", "")
    for asked in (ENDPOINT_ID[:-1], CHAT_CARD.name + "x"):
        said = refused(wire, client.post(*wire.chat(asked=asked), key=OTHERS_KEY), EndpointNotFound)
        assert ENDPOINT_ID not in said.replace(f"`{asked}`", "")


@pytest.mark.parametrize("wire", CLIENTS_OF_MODELS, ids=repr)
@pytest.mark.parametrize("asked", STRANGE)
def test_strange_names_are_just_not_found(client: Connection, wire: Wire, asked: str) -> None:
    kind: type[ArkwayError] = EndpointNotFound
    if wire.route == "v1" and not asked:
        kind = MissingField
    if wire.route == "v2" and (not asked or "/" in asked):  # then it is not one segment of a path
        kind = RouteNotFound
    error = client.post(*wire.chat(asked=asked))
    # Of a route that is not there nobody can tell whether it would have streamed.
    found = wire.error(error, stream=kind is RouteNotFound)
    assert (error.status, found["code"], found.get("code_n", 0)) == wire.told[kind]
    if kind is EndpointNotFound:
        assert wire.blamed(found) == {"model"}
