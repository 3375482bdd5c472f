"""An answer before the body was read ends the connection: nobody can go on sending for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arkway.testing import RunningServer, running_server
from tests.tools.client import Connection


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/api/v3/chat/completions", "", 401), ("/api/v3/nothing", None, 404), ("/v1/embeddings", "ark-wrong", 401)],
)
def test_an_early_answer_to_an_endless_body_ends_the_connection(
    server: RunningServer, path: str, key: str | None, status: int
) -> None:
    with Connection(server.url, timeout_s=5) as client:
        secret = client.key if key is None else key
        fields = {"Host": client.host, "Transfer-Encoding": "chunked", "Authorization": f"Bearer {secret}"}
        client.send_raw("POST", path, fields, b"5\r\nhello\r\n")
        reply = client.reply()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises((ConnectionError, TimeoutError)):
            client.socket.sendall(chunk * 200)


def test_an_answer_after_the_whole_body_keeps_the_connection(server: RunningServer) -> None:
    with Connection(server.url) as client:
        reply = client.post("/api/v3/chat/completions", {"model": "ep-none", "messages": []})
        assert reply.status in (400, 404)
        assert reply.headers.get("connection", "").lower() != "close"
