"""The Java client of v1 and v2 sees no status of a stream: whatever a stream is refused for, it gets a frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from arkway.http.asgi import Limits
from arkway.testing import ACCESS_KEY_ID, ENDPOINT_ID, RunningServer, running_server
from arkway.wire import json
from tests.tools.client import Connection, Reply

V1 = "/api/v1/chat"
V2 = f"/api/v2/endpoint/{ENDPOINT_ID}/chat"
JAVA = {"User-Agent": "volc-sdk-java/v1.0.284"}
ASK = {"model": {"name": "skylark-chat"}, "messages": [{"role": "user", "content": "问"}], "stream": True}
BODY_S = 0.5


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def half(client: Connection, path: str, fields: Mapping[str, str], data: bytes) -> Reply:
    """The answer to a request whose body does not end."""
    client.send_raw(
        "POST", path, {"Host": client.host, "Authorization": f"Bearer {client.key}", **JAVA, **fields}, data
    )
    return client.reply()


def frame(reply: Reply, path: str) -> tuple[int, str, int]:
    """Status, code and number of the error in the one frame. v2's client takes no key that it does not know."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.startswith(b"data:{")
    assert reply.body.endswith(b"}\n\n")
    body = json.load_object(reply.body.removeprefix(b"data:"))
    assert set(body) == ({"error", "req_id"} if path == V1 else {"error"})
    return reply.status, body["error"]["code"], body["error"]["code_n"]


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("body", [b'{"stream": true, "messages": [', b'{"stream":true,"messages":"\xff"}'])
def test_a_broken_body(client: Connection, path: str, body: bytes) -> None:
    assert frame(client.post(path, body, JAVA), path) == (400, "InvalidParameter", 1709808)


@pytest.mark.parametrize("path", [V1, V2])
def test_no_and_wrong_credentials(client: Connection, path: str) -> None:
    assert frame(client.post(path, ASK, JAVA, key=""), path) == (401, "MissingAuthenticationHeader", 1709804)
    wrong = client.post(path, ASK, JAVA, key=ACCESS_KEY_ID)
    assert frame(wrong, path) == (401, "AuthenticationHeaderIsInvalid", 1709805)


@pytest.mark.parametrize("path", [V1, V2])
def test_a_strangers_large_body_is_not_waited_for(client: Connection, path: str) -> None:
    reply = half(client, path, {"Authorization": "Basic eDp5", "Content-Length": str(2 << 20)}, b"{")
    assert frame(reply, path) == (401, "AuthenticationHeaderIsInvalid", 1709805)


@pytest.mark.parametrize("path", [V1, V2])
def test_headers_that_are_too_large(client: Connection, path: str) -> None:
    reply = client.post(path, ASK, {**JAVA, "X-Padding": "x" * 33_000})
    assert frame(reply, path) == (431, "InvalidParameter", 1709808)


@pytest.mark.parametrize("path", [V1, V2])
def test_another_method(client: Connection, path: str) -> None:
    assert frame(client.get(path, JAVA), path) == (405, "APINotSupport", 1709828)


@pytest.mark.parametrize("path", [V1, V2])
def test_a_compressed_body(client: Connection, path: str) -> None:
    reply = client.post(path, ASK, {**JAVA, "Content-Encoding": "gzip"})
    assert frame(reply, path) == (415, "InvalidParameter", 1709808)


@pytest.mark.parametrize("path", [V1, V2])
def test_a_body_that_says_it_is_too_large(client: Connection, path: str) -> None:
    reply = half(client, path, {"Content-Length": str(17 << 20)}, b"{")
    assert frame(reply, path) == (413, "InvalidParameter", 1709808)


@pytest.mark.parametrize("path", [V1, V2])
def test_a_body_that_turns_out_too_large(client: Connection, path: str) -> None:
    """What came after the limit is not taken for the body, and ends the connection."""
    body = b'{"stream":true,"pad":"' + b"x" * (16 << 20)
    reply = half(client, path, {"Transfer-Encoding": "chunked"}, b"%x\r\n%b\r\n" % (len(body), body))
    assert frame(reply, path) == (413, "InvalidParameter", 1709808)
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("path", [V1, V2])
def test_a_body_that_does_not_come_is_waited_for_once(path: str) -> None:
    """Not a second time for what the refusal has to look like: one of several waits was no longer than one."""
    with running_server(limits=Limits(body_s=BODY_S)) as server:
        for _ in range(10):
            with Connection(server.url) as client:
                started_s = time.monotonic()
                reply = half(client, path, {"Content-Length": "100"}, b'{"stream": true,')
                assert frame(reply, path) == (408, "RequestTimeout", 1709802)
                if time.monotonic() - started_s < 1.8 * BODY_S:
                    return
    pytest.fail("every one of them was waited for longer")


@pytest.mark.parametrize("path", [V1, V2])
def test_who_wants_no_stream_gets_plain_json(client: Connection, path: str) -> None:
    reply = client.post(path, {**ASK, "stream": False}, JAVA, key="")
    assert reply.headers["content-type"].startswith("application/json")
    assert json.load_object(reply.body)["error"]["code_n"] == 1709804


@pytest.mark.parametrize("operation", ["images/quick-gen", "images/flex-gen", "audio/speech", "cert"])
def test_an_unsupported_operation_is_plain_json_without_unknown_keys(client: Connection, operation: str) -> None:
    reply = client.post(f"/api/v2/endpoint/{ENDPOINT_ID}/{operation}", {"prompt": "x"}, JAVA)
    body = json.load_object(reply.body)
    assert (reply.status, set(body), body["error"]["code_n"]) == (405, {"error"}, 1709828)
