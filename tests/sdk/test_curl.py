"""curl: what is on the wire when nothing interprets it."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from arkway.core.errors import Overloaded
from arkway.testing import RunningServer
from arkway.wire import json
from tests.sdk.conftest import QUESTION
from tests.sdk.scenes import assert_freed, breaks_off, endlessly, play, wait_until

pytestmark = pytest.mark.sdk

CURL = shutil.which("curl") or ""
RUN_TIMEOUT_S = 30


@pytest.fixture(autouse=True)
def _installed() -> None:
    assert CURL, "curl is not installed: these tests need it on the PATH"


def command(server: RunningServer, body: dict[str, Any], *options: str, path: str = "chat/completions") -> list[str]:
    question = {"model": server.endpoint_id, **body}
    return [
        *(CURL, "--silent", "--show-error", "--no-buffer", "--noproxy", "*", *options),
        *("--header", "Content-Type: application/json", "--header", f"Authorization: Bearer {server.api_key}"),
        *("--data-binary", json.dumps(question).decode(), f"{server.url}/api/v3/{path}"),
    ]


def curl(server: RunningServer, body: dict[str, Any], *options: str, path: str = "chat/completions") -> str:
    done = subprocess.run(
        command(server, body, *options, path=path), capture_output=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def head_and_body(output: str) -> tuple[str, dict[str, str], str]:
    """Status line, headers and body of ``curl --include``."""
    head, _, body = output.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


def test_chat(server: RunningServer) -> None:
    status, headers, body = head_and_body(curl(server, {"messages": QUESTION}, "--include"))

    assert status == "HTTP/1.1 200 OK"
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-request-id"] == headers["x-tt-logid"] == json.load_object(body.encode())["id"]
    assert json.load_object(body.encode())["choices"][0]["message"]["content"] == "你好，世界"


def test_stream_is_framed_as_every_client_needs_it(server: RunningServer) -> None:
    question = {"messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    status, headers, body = head_and_body(curl(server, question, "--include"))

    assert status == "HTTP/1.1 200 OK"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["transfer-encoding"] == "chunked"
    assert headers["cache-control"] == "no-cache, no-store"
    *frames, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(frame.startswith("data: {") and "\n" not in frame for frame in frames)
    assert json.load_object(frames[-1][6:].encode())["usage"]["total_tokens"] == 10


def test_stream_that_breaks_ends_in_an_error_frame(server: RunningServer) -> None:
    play(server, breaks_off("一"))

    frames = curl(server, {"messages": QUESTION, "stream": True}).split("\n\n")

    assert frames[1].startswith('data: {"error":{"code":"InternalServiceError",')
    assert frames[2:] == ["data: [DONE]", ""]
    assert '"finish_reason"' not in frames[0]


def test_tokenization(server: RunningServer) -> None:
    reply = json.load_object(curl(server, {"text": "你好"}, path="tokenization").encode())

    assert reply["data"][0]["token_ids"] == [ord("你"), ord("好")]


def test_retry_after_is_honoured(server: RunningServer) -> None:
    answer = server.backend.script
    play(
        server,
        lambda request: [Overloaded("full", 1)] if len(server.backend.requests) == 1 else answer(request),
    )

    output = curl(server, {"messages": QUESTION}, "--retry", "2", "--write-out", "\n%{http_code} %{num_headers}")

    assert output.rpartition("\n")[2].startswith("200 ")
    assert len(server.backend.requests) == 2


def test_without_a_key(server: RunningServer) -> None:
    status, headers, body = head_and_body(curl(server, {"messages": QUESTION}, "--include", "-H", "Authorization;"))

    assert status.startswith("HTTP/1.1 401 ")
    assert json.load_object(body.encode())["error"]["code"] == "AuthenticationError"
    assert headers["x-should-retry"] == "false"


def test_killed_client_frees_the_backend(server: RunningServer) -> None:
    play(server, endlessly)
    question = {"messages": QUESTION, "stream": True}
    with subprocess.Popen(command(server, question), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.read(1000)
        assert wait_until(lambda: server.backend.open_streams == 1, 5)
        running.kill()

    assert_freed(server)
