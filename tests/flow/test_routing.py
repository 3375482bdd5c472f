"""Whose endpoint is it, may this key use it, and what does it say when not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.caller import Caller
from arkway.testing import (
    CHAT_CARD,
    EMBEDDING_CARD,
    EMBEDDING_ENDPOINT_ID,
    ENDPOINT_ID,
    RunningServer,
    endpoint,
    running_server,
)
from arkway.wire import json
from tests.tools.client import Connection, Reply

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
CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")
OPERATIONS = (
    *CHATS,
    "/api/v3/embeddings",
    "/v1/embeddings",
    "/api/v3/tokenization",
)


def body(path: str, model: str) -> dict[str, Any]:
    if "chat" in path:
        return {"model": model, "messages": [{"role": "user", "content": "问"}]}
    return {"model": model, "text" if "tokenization" in path else "input": "问"}


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", OPERATIONS)
def test_anothers_endpoint_answers_as_one_that_does_not_exist(client: Connection, path: str, stream: bool) -> None:
    extra = {"stream": stream} if "chat" in path else {}
    for foreign, missing in ((FOREIGN, MISSING), (FOREIGN_NEAR, MISSING_NEAR)):
        pair = [without_ids(client.post(path, body(path, asked) | extra), asked) for asked in (foreign, missing)]
        assert pair[0] == pair[1]
        assert pair[0][0] == 404
        assert (b"did you mean" in pair[0][2]) == (foreign == FOREIGN_NEAR)
        assert json.loads(pair[0][2])["error"]["param"] == "model"


def test_anothers_model_answers_as_one_that_does_not_exist(client: Connection) -> None:
    replies = [without_ids(client.get(f"/v1/models/{asked}"), asked) for asked in (FOREIGN, MISSING)]
    assert replies[0] == replies[1]
    assert replies[0][0] == 404


def test_each_project_sees_its_own(client: Connection) -> None:
    assert client.post(CHATS[0], body(CHATS[0], FOREIGN), key=OTHERS_KEY).status == 200
    assert client.post(CHATS[0], body(CHATS[0], ENDPOINT_ID), key=OTHERS_KEY).status == 404
    theirs = [entry["id"] for entry in client.get("/api/v3/models", key=OTHERS_KEY).json()["data"]]
    ours = [entry["id"] for entry in client.get("/api/v3/models").json()["data"]]
    assert theirs == [FOREIGN_NEAR, FOREIGN]
    assert ours == [ENDPOINT_ID, EMBEDDING_ENDPOINT_ID, STOPPED]
    named = [entry["id"] for entry in client.get("/v1/models", key=OTHERS_KEY).json()["data"]]
    assert named == [CHAT_CARD.name, FOREIGN_NEAR, FOREIGN]


@pytest.mark.parametrize("path", [path for path in OPERATIONS if "embeddings" not in path])
def test_a_key_out_of_its_scope_is_403(client: Connection, path: str) -> None:
    reply = client.post(path, body(path, ENDPOINT_ID), key=SCOPED_KEY)
    assert reply.status == 403
    assert reply.headers["x-should-retry"] == "false"
    assert client.post(path, body(path, FOREIGN), key=SCOPED_KEY).status == 404


def test_a_scoped_key_sees_and_uses_its_scope(client: Connection) -> None:
    assert [entry["id"] for entry in client.get("/api/v3/models", key=SCOPED_KEY).json()["data"]] == [
        EMBEDDING_ENDPOINT_ID
    ]
    assert (
        client.post("/api/v3/embeddings", body("/api/v3/embeddings", EMBEDDING_ENDPOINT_ID), key=SCOPED_KEY).status
        == 200
    )
    assert client.post("/v1/chat/completions", body(CHATS[1], CHAT_CARD.name), key=SCOPED_KEY).status == 403


@pytest.mark.parametrize("path", CHATS)
def test_a_stopped_endpoint_says_so(client: Connection, path: str) -> None:
    reply = client.post(path, body(path, STOPPED))
    assert reply.status == 400
    assert "stopped" in reply.error()["message"]
    assert reply.error()["code"] in ("InvalidEndpoint.ClosedEndpoint", "model_not_available")


@pytest.mark.parametrize("path, status", [(CHATS[0], 500), (CHATS[1], 503)])
def test_a_model_that_is_not_installed_tells_the_operator_what_to_do(
    client: Connection, path: str, status: int
) -> None:
    reply = client.post(path, body(path, "ep-20240701000000-gone1"))
    assert reply.status == status
    assert "arkway pull not-installed" in reply.error()["message"]


@pytest.mark.parametrize("path", OPERATIONS)
def test_the_wrong_kind_of_model_is_named(client: Connection, path: str) -> None:
    if "tokenization" in path:
        return
    wrong = EMBEDDING_ENDPOINT_ID if "chat" in path else ENDPOINT_ID
    reply = client.post(path, body(path, wrong))
    assert reply.status == 400
    assert reply.error()["param"] == "model"
    assert "does not support" in reply.error()["message"]


@pytest.mark.parametrize("asked, status", [(CHAT_CARD.name, 404), (ENDPOINT_ID, 200)])
def test_v3_takes_endpoint_ids_only(client: Connection, asked: str, status: int) -> None:
    assert client.post(CHATS[0], body(CHATS[0], asked)).status == status


@pytest.mark.parametrize("asked", [CHAT_CARD.name, CHAT_CARD.served_name, ENDPOINT_ID])
def test_openai_takes_names_too(client: Connection, asked: str) -> None:
    reply = client.post(CHATS[1], body(CHATS[1], asked))
    assert reply.status == 200
    assert reply.json()["model"] == CHAT_CARD.served_name


def test_the_operator_turns_names_on_and_off() -> None:
    surface = {"v3_model_names": True, "openai_model_names": False}
    with running_server(settings={"surface": surface}) as server, Connection(server.url) as client:
        assert client.post(CHATS[0], body(CHATS[0], CHAT_CARD.name)).status == 200
        assert client.post("/api/v3/embeddings", body("/api/v3/embeddings", EMBEDDING_CARD.name)).status == 200
        assert client.post(CHATS[1], body(CHATS[1], CHAT_CARD.name)).status == 404
        assert client.post(CHATS[1], body(CHATS[1], ENDPOINT_ID)).status == 200


@pytest.mark.parametrize(
    "path, asked, hint",
    [
        (CHATS[1], "scripted-chta", f"did you mean `{CHAT_CARD.name}`"),
        (CHATS[1], ENDPOINT_ID[:-1], f"`{ENDPOINT_ID}`"),
        (CHATS[0], CHAT_CARD.name, f"did you mean `{ENDPOINT_ID}`"),
        (CHATS[0], ENDPOINT_ID + "x", f"`{ENDPOINT_ID}`"),
    ],
)
def test_a_near_miss_is_told_what_is_near(client: Connection, path: str, asked: str, hint: str) -> None:
    reply = client.post(path, body(path, asked))
    assert reply.status == 404
    assert hint in reply.error()["message"]


@pytest.mark.parametrize("path", CHATS)
def test_hints_name_only_what_would_work(client: Connection, path: str) -> None:
    assert "did you mean" not in client.post(path, body(path, STOPPED + "x")).error()["message"]
    assert "did you mean" not in client.post(path, body(path, ENDPOINT_ID + "x"), key=SCOPED_KEY).error()["message"]
    assert (
        "did you mean" in client.post(path, body(path, EMBEDDING_ENDPOINT_ID + "x"), key=SCOPED_KEY).error()["message"]
    )


@pytest.mark.parametrize("path", CHATS)
def test_hints_never_tell_of_anothers_endpoints(client: Connection, path: str) -> None:
    for asked in (FOREIGN, FOREIGN[:-1], FOREIGN + "x"):
        reply = client.post(path, body(path, asked))
        assert reply.status == 404
        assert FOREIGN not in reply.error()["message"].replace(f"`{asked}`", "")
    for asked in (ENDPOINT_ID[:-1], CHAT_CARD.name + "x"):
        assert ENDPOINT_ID not in client.post(path, body(path, asked), key=OTHERS_KEY).error()["message"].replace(
            f"`{asked}`", ""
        )


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("asked", STRANGE)
def test_strange_names_are_just_not_found(client: Connection, path: str, asked: str) -> None:
    reply = client.post(path, body(path, asked))
    assert reply.status == 404
    assert reply.error()["param"] == "model"
