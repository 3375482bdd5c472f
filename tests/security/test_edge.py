"""The edge of HTTP: sizes at their limits, encodings, broken heads, slow bodies (A9, A10, A14, A16, J6)."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest

from arkway.core.errors import ArkwayError, HeadTooLarge, RequestTimeout, RouteNotFound, TooLarge, UnsupportedEncoding
from arkway.http.asgi import Limits
from arkway.http.surface import ROUTES
from arkway.ports import CallRecord
from arkway.testing import API_KEY, RunningServer, running_server
from arkway.wire import json
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.wires import OPERATIONS, V1, V2, V3, WIRES, Wire

ASK = json.dumps(V3.chat().body)
LIMITS = Limits()
POSTS: dict[tuple[str, str], int] = {
    (route.dialect, route.operation): route.body_max_bytes for route in ROUTES if route.method == "POST"
}
HEAD = ("Host", "Authorization", "Content-Length")


def fields(client: Connection, data: bytes = ASK) -> dict[str, str]:
    return {"Host": client.host, "Authorization": f"Bearer {API_KEY}", "Content-Length": str(len(data))}


def sent(client: Connection, wire: Wire, extra: dict[str, str], query: str = "") -> Reply:
    path, body, _ = wire.chat()
    data = json.dumps(body)
    client.send_raw("POST", path + query, fields(client, data) | extra, data)
    return client.reply()


def message(wire: Wire, reply: Reply, kind: type[ArkwayError]) -> str:
    """Asserts that this was the error; gives back its message."""
    error, told = wire.error(reply), wire.told[kind]
    assert (reply.status, error["code"], error.get("code_n", 0)) == told
    said: str = error["message"]
    return said


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_header_fields_are_counted(client: Connection, wire: Wire) -> None:
    for count, status in ((LIMITS.header_count - 1, 200), (LIMITS.header_count, 200), (LIMITS.header_count + 1, 431)):
        reply = sent(client, wire, {f"X-{i}": "" for i in range(count - len(HEAD))})
        assert reply.status == status
    assert "header fields" in message(wire, reply, HeadTooLarge)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("pieces", [1, 50])
def test_header_bytes_are_counted(client: Connection, wire: Wire, pieces: int) -> None:
    named = fields(client, json.dumps(wire.chat().body))
    room = LIMITS.header_bytes - sum(len(name) + len(value) for name, value in named.items())
    for total, status in ((room - 1, 200), (room, 200), (room + 1, 431), (room + 1024, 431)):
        extra = {f"X-{i:02}": "" for i in range(pieces)}
        each, rest = divmod(total - sum(map(len, extra)), pieces)
        for place, name in enumerate(extra):
            extra[name] = "a" * (each + (rest if place == 0 else 0))
        assert sent(client, wire, extra).status == status
    assert "32768" in message(wire, sent(client, wire, {"X": "a" * 33 * 1024}), HeadTooLarge)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_the_target_is_measured(client: Connection, wire: Wire) -> None:
    room = LIMITS.target_bytes - len(wire.chat().path) - len("?")
    for size, status in ((room - 1, 200), (room, 200), (room + 1, 414), (9 * 1024, 414)):
        assert sent(client, wire, {}, f"?{'a' * size}").status == status
    root = wire.chat().path.rpartition("/")[0] + "/"
    message(wire, client.post(root + "a" * (LIMITS.target_bytes - len(root)), {}), RouteNotFound)
    reply = client.post(root + "a" * (LIMITS.target_bytes + 1 - len(root)), {})
    assert (reply.status, wire.error(reply)["code"]) == (414, wire.told[HeadTooLarge].code)


def padded(wire: Wire, operation: str, size: int) -> bytes:
    """A body of exactly so many bytes that is in order but for its size."""
    text = json.dumps(wire.call(operation).body)
    return text + b" " * (size - len(text))


def test_every_operation_has_its_limit() -> None:
    served = {(name, operation) for name, operation in POSTS if operation not in ("control", "admin")}
    assert served == {(wire.name, operation) for wire, operation in OPERATIONS}


@pytest.mark.parametrize("wire, operation", OPERATIONS, ids=str)
def test_bodies_are_taken_up_to_their_limit(server: RunningServer, wire: Wire, operation: str) -> None:
    path, limit = wire.call(operation).path, POSTS[wire.name, operation]
    for size, status in ((limit - 1, 200), (limit, 200), (limit + 1, 413)):
        with Connection(server.url) as client:
            client.send_raw("POST", path, fields(client, b"") | {"Content-Length": str(size)})
            if status == 200:
                client.socket.sendall(padded(wire, operation, size))
            reply = client.reply()
            assert reply.status == status
    assert str(limit) in message(wire, reply, TooLarge)


@pytest.mark.parametrize("wire, operation", OPERATIONS, ids=str)
def test_chunked_bodies_are_measured_as_they_come(server: RunningServer, wire: Wire, operation: str) -> None:
    path, limit = wire.call(operation).path, POSTS[wire.name, operation]
    for size, status in ((limit, 200), (limit + 1, 413)):
        with Connection(server.url) as client:
            named = fields(client)
            del named["Content-Length"]
            client.send_raw("POST", path, named | {"Transfer-Encoding": "chunked"})
            data = padded(wire, operation, size)
            for start in range(0, size, 1 << 20):
                piece = data[start : start + (1 << 20)]
                client.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.socket.sendall(b"0\r\n\r\n")
            reply = client.reply()
            assert reply.status == status
    message(wire, reply, TooLarge)


@pytest.mark.parametrize("wire", [V1, V2], ids=repr)
@pytest.mark.parametrize("fits", [True, False])
def test_a_signed_body_is_measured_as_well(server: RunningServer, wire: Wire, fits: bool) -> None:
    limit = POSTS[wire.name, "tokenization"]
    data = padded(wire, "tokenization", limit if fits else limit + 1)
    with Connection(server.url) as client:
        path = wire.call("tokenization").path
        named = signed.headers(client, path, data)
        client.send_raw("POST", path, named | {"Content-Length": str(len(data))}, data if fits else b"")
        reply = client.reply()
    assert reply.status == (200 if fits else 413)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x" * 1000])
def test_encoded_bodies_are_refused_unread(client: Connection, wire: Wire, encoding: str) -> None:
    path, body, _ = wire.chat()
    reply = client.post(path, gzip.compress(json.dumps(body)), {"Content-Encoding": encoding})
    assert "Content-Encoding" in message(wire, reply, UnsupportedEncoding)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "multipart/form-data; boundary=x", "x" * 500])
def test_the_content_type_is_not_asked_about(client: Connection, wire: Wire, kind: str) -> None:
    assert sent(client, wire, {"Content-Type": kind}).status == 200


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_a_second_authorization_is_no_authorization(client: Connection, wire: Wire) -> None:
    lines = [f"POST {wire.chat().path} HTTP/1.1", f"Host: {client.host}", f"Content-Length: {len(ASK)}"]
    lines += [f"Authorization: Bearer {API_KEY}"] * 2
    client.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + ASK)
    reply = client.reply()
    assert reply.status == 401
    assert API_KEY not in reply.body.decode()


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("key", ["é", "键".encode().decode("latin-1"), "\xff" * 100, "a b", "a,b", "null", "None", "0"])
def test_keys_that_are_no_keys_are_401(client: Connection, wire: Wire, key: str) -> None:
    assert sent(client, wire, {"Authorization": f"Bearer {key}"}).status == 401


# Heads that no server should take (A16); the corpus in tests/security/wire goes further.
BROKEN = {
    "a NUL in a value": b"GET /api/v3/models HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "a bare CR in a value": b"GET /api/v3/models HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "a space before the colon": b"GET /api/v3/models HTTP/1.1\r\nHost : x\r\n\r\n",
    "no method": b"/api/v3/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "a strange method": b"FETCH /api/v3/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case http": b"GET /api/v3/models http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/9.9": b"GET /api/v3/models HTTP/9.9\r\nHost: x\r\n\r\n",
    "two lengths": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a length with a sign": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "a negative length": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    "an endless length": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n{}",
    "length and chunks": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /api/v3/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bytes in the target": b"GET /api/v3/\xe4\xbd\xa0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a delete in the target": b"GET /api/v3/\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_head_is_refused(server: RunningServer, name: str) -> None:
    with Connection(server.url, timeout_s=60) as client:
        client.socket.sendall(BROKEN[name])
        reply = client.reply()
        assert reply.status in (400, 501, 505)
        assert (reply.error()["code"], reply.headers["connection"]) == ("InvalidParameter", "close")
    with Connection(server.url) as client:
        assert client.get("/livez").status == 200


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_the_wrong_method_with_a_body(client: Connection, method: str, wire: Wire) -> None:
    reply = client.call(method, wire.chat().path, ASK)
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert client.get("/livez").status == 200


def test_a_get_with_a_body_is_a_get(client: Connection) -> None:
    assert client.call("GET", "/api/v3/models", ASK).status == 200
    assert client.get("/livez").status == 200


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_expectations_are_met_before_the_body_and_only_for_callers(client: Connection, wire: Wire) -> None:
    path, body, _ = wire.chat()
    data = json.dumps(body)
    client.send_raw("POST", path, fields(client, data) | {"Expect": "100-continue"})
    assert client.head()[0] == 100
    client.socket.sendall(data)
    assert client.reply().status == 200
    with Connection(f"http://{client.host}") as stranger:
        stranger.send_raw("POST", path, fields(client) | {"Expect": "100-continue", "Authorization": "Bearer x"})
        assert stranger.head()[0] == 401


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningServer]:
    with running_server(limits=Limits(body_s=0.6, linger_s=0.1)) as running:
        yield running


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_comes_too_slowly_is_408_and_the_end(hasty: RunningServer, wire: Wire, chunked: bool) -> None:
    with Connection(hasty.url) as client:
        named = fields(client)
        if chunked:
            del named["Content-Length"]
            named["Transfer-Encoding"] = "chunked"
        client.send_raw("POST", wire.chat().path, named)
        start = time.monotonic()
        for byte in ASK[:4]:
            piece = bytes([byte])
            client.socket.sendall(b"1\r\n" + piece + b"\r\n" if chunked else piece)
            time.sleep(0.03)
        reply = client.reply()
        assert reply.headers["connection"] == "close"
        assert "0.6 seconds" in message(wire, reply, RequestTimeout)
        assert time.monotonic() - start > 0.5
        with pytest.raises(ConnectionResetError):
            client.head()
    assert hasty.backend.requests == []


class Seen:
    """An observer that keeps the statuses it is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def started(self, dialect: str, operation: str) -> None:
        """Of no interest."""

    def ended(self, record: CallRecord) -> None:
        self.statuses.append(record.status)


def test_observers_are_told_the_status_that_was_sent() -> None:
    seen = Seen()
    with running_server(observers=[seen]) as running:
        for path, fields, status in (
            ("/" + "a" * 9000, {}, 414),
            ("/v1/chat/completions", {"Transfer-Encoding": "gzip, chunked"}, 501),
        ):
            with Connection(running.url) as client:
                client.send_raw("POST", path, {"Host": client.host, **fields})
                assert client.reply().status == status
    assert seen.statuses == [414, 501]
