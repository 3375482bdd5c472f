"""The corpus over HTTP, against every operation of both dialects: 200 or 400, never 5xx, never a hang (J1, J3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arkway.testing import EMBEDDING_ENDPOINT_ID, ENDPOINT_ID, RunningServer
from arkway.wire import json
from tests.security.corpus import NO, YES, documents
from tests.tools.client import Connection, Reply

DOCUMENTS = documents()

# Each operation's path, and its bodies with a hole where a value stands.
OPERATIONS: dict[str, tuple[str, tuple[bytes, ...]]] = {}
for base, prefix in (("/api/v3", "v3"), ("/v1", "openai")):
    chat = f'{{"model":"{ENDPOINT_ID}","messages":[{{"role":"user","content":"a"}}],%s}}'
    OPERATIONS[f"{prefix} chat"] = (
        f"{base}/chat/completions",
        (
            f'{{"model":"{ENDPOINT_ID}","messages":[{{"role":"user","content":@}}]}}'.encode(),
            f'{{"model":"{ENDPOINT_ID}","messages":@}}'.encode(),
            b'{"messages":[{"role":"user","content":"a"}],"model":@}',
            *(
                (chat % f'"{field}":@').encode()
                for field in ("temperature", "max_tokens", "stop", "logit_bias", "tools", "seed", "user", "unknown")
            ),
        ),
    )
    OPERATIONS[f"{prefix} embeddings"] = (
        f"{base}/embeddings",
        (f'{{"model":"{EMBEDDING_ENDPOINT_ID}","input":@}}'.encode(),),
    )
OPERATIONS["v3 tokenization"] = ("/api/v3/tokenization", (f'{{"model":"{ENDPOINT_ID}","text":@}}'.encode(),))


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def check_refusal(operation: str, reply: Reply, *, syntax: bool) -> None:
    """A refusal is a whole error object of the right dialect, in UTF-8, blaming nothing or a path."""
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    error = reply.error()
    assert isinstance(error["message"], str)
    reply.body.decode("utf-8")
    if operation.startswith("v3"):
        assert error["type"] == "BadRequest"
        assert reply.headers["x-request-id"] in error["message"]
        assert isinstance(error["param"], str)
    else:
        assert error["type"] == "invalid_request_error"
    if syntax:
        assert not error["param"]


def test_the_corpus_is_what_it_says() -> None:
    assert len(DOCUMENTS) >= 300
    assert len({*DOCUMENTS.values()}) >= 300


@pytest.mark.parametrize("operation", OPERATIONS)
def test_as_a_whole_body_nothing_of_it_is_a_request(client: Connection, operation: str) -> None:
    path, _ = OPERATIONS[operation]
    for name, document in DOCUMENTS.items():
        reply = client.post(path, document)
        assert reply.status == 400, name
        check_refusal(operation, reply, syntax=name.startswith(NO))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_in_the_place_of_a_value_it_is_taken_or_refused(client: Connection, operation: str) -> None:
    path, bodies = OPERATIONS[operation]
    for number, (name, document) in enumerate(DOCUMENTS.items()):
        # Every document in the main field, and in one of the others by turns.
        for body in {bodies[0], bodies[number % len(bodies)]}:
            reply = client.post(path, body.replace(b"@", document))
            assert reply.status in (200, 400, 404), name
            if reply.status == 400:
                check_refusal(operation, reply, syntax=False)
            if name.startswith(NO) and well_placed(document):
                assert reply.status == 400, name
            if name.startswith(f"{YES}_string") and body == bodies[0] and document != b'""':
                assert reply.status == 200, name


def well_placed(document: bytes) -> bool:
    """Whether it stays one wrong value, and does not complete the object around it (as ``1,2`` or ``1}`` may)."""
    return bool(document.strip(b" \t\r\n")) and b"," not in document and b"}" not in document


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.startswith(f"{YES}_string")])
def test_text_comes_back_as_it_went(client: Connection, name: str) -> None:
    content = json.loads(DOCUMENTS[name])
    for path in ("/api/v3/chat/completions", "/v1/chat/completions"):
        body = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": content}], "max_tokens": 4096}
        reply = client.post(path, body)
        assert reply.json()["choices"][0]["message"]["content"] == content


def test_of_duplicate_keys_the_last_counts_everywhere(client: Connection, server: RunningServer) -> None:
    body = f'{{"model":"x","messages":[{{"role":"user","content":"a","content":"b"}}],"model":"{ENDPOINT_ID}"}}'
    for path in ("/api/v3/chat/completions", "/v1/chat/completions"):
        assert client.post(path, body.encode()).json()["choices"][0]["message"]["content"] == "b"
        assert server.backend.requests[-1].messages[0].content == "b"
