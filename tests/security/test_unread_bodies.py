"""An answer before the body was read ends the connection: nobody can go on sending for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from arkway.http.asgi import Limits
from arkway.testing import RunningServer, running_server
from tests.tools.client import Connection
from tests.tools.wires import V1, V2, WIRES, Wire

LINGER_S = 0.2
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


EARLY: list[tuple[str, str | None, int]] = [
    *((wire.chat().path, "", 401) for wire in WIRES),
    *((wire.call("embeddings").path, "ark-wrong", 401) for wire in WIRES),
    ("/api/v3/nothing", None, 404),
    *((wire.chat().path + "x", None, 405) for wire in (V1, V2)),
]


@pytest.mark.parametrize("path, key, status", EARLY)
def test_an_early_answer_to_an_endless_body_ends_the_connection(path: str, key: str | None, status: int) -> None:
    with running_server(limits=Limits(linger_s=LINGER_S)) as hasty, Connection(hasty.url) as client:
        secret = client.key if key is None else key
        fields = {"Host": client.host, "Transfer-Encoding": "chunked", "Authorization": f"Bearer {secret}"}
        client.send_raw("POST", path, fields, b"5\r\nhello\r\n")
        reply = client.reply()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(ConnectionError):
            send_on(client, chunk, LINGER_S + PATIENCE_S)


def send_on(client: Connection, piece: bytes, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        client.socket.sendall(piece)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_whoever_sends_the_whole_body_first_sees_the_answer(server: RunningServer, size: int, wire: Wire) -> None:
    """As most clients do: a connection that closed at once would be reset, and the answer lost."""
    for _ in range(5):
        with Connection(server.url) as client:
            fields = {"Host": client.host, "Content-Length": str(size)}
            client.send_raw("POST", wire.chat().path, fields, b"x" * size)
            assert client.reply().status == 401


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_whoever_asked_before_sending_is_answered_and_not_read(server: RunningServer, wire: Wire) -> None:
    with Connection(server.url) as client:
        fields = {"Host": client.host, "Content-Length": "1000", "Expect": "100-continue"}
        client.send_raw("POST", wire.chat().path, fields)
        assert client.reply().status == 401
        client.socket.settimeout(PATIENCE_S)
        assert client.socket.recv(1) == b""


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_an_answer_after_the_whole_body_keeps_the_connection(server: RunningServer, wire: Wire) -> None:
    with Connection(server.url) as client:
        reply = client.post(*wire.chat(asked="ep-none"))
        assert reply.status in (400, 404)
        assert reply.headers.get("connection", "").lower() != "close"
