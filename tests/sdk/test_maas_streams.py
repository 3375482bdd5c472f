"""Streams of MaaS v1 and v2 over time: heartbeats, and clients that leave."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from arkway.testing import RunningServer
from tests.sdk.cells import cell
from tests.sdk.conftest import MaasClient, on_maas
from tests.sdk.python import plain
from tests.sdk.scenes import assert_freed, endlessly, play, slowly, wait_until

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk


@on_maas
@cell("heartbeat")
def test_heartbeats_are_passed_over(client: MaasClient, server: RunningServer) -> None:
    play(server, slowly)

    frames = client.result(server, "stream")

    assert [text for text in client.texts(frames) if text] == ["你", "好"]
    assert frames[-1]["usage"]["completion_tokens"] == 2
    assert frames[-1]["at_s"] - frames[0]["at_s"] > 0.9  # frames come when they are made, not all at the end


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v2/endpoint/{}/chat"])
def test_heartbeats_are_comments(server: RunningServer, path: str) -> None:
    play(server, slowly)
    model = {"model": {"endpoint_id": server.endpoint_id}} if "v1" in path else {}
    question = {**model, "messages": [{"role": "user", "content": "你好"}], "stream": True}

    reply = plain.ask(server, path.format(server.endpoint_id), question)

    before, _, between = reply.body.decode().partition('"你"')
    assert before.count(": ping\n\n") >= 1
    assert between.partition('"好"')[0].count(": ping\n\n") >= 1
    assert len(plain.frames(reply)) in (2, 3)


@on_maas
@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: MaasClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert client.texts(client.result(server, "stream", leave_after=3)) == ["又", "又", "又"]

    assert_freed(server)
    assert len(server.backend.requests) == 1


@pytest.mark.parametrize("operation", ["chat", "stream"])
@pytest.mark.parametrize("name", ["maas v1", "maas v2"])
def test_client_that_dies_frees_the_backend(name: str, operation: str, server: RunningServer, tmp_path: Path) -> None:
    play(server, endlessly)
    with (tmp_path / "stderr").open("w+b") as errors:
        dying = MaasClient(name, errors)
        dying.send(dying.question(server, operation))
        assert wait_until(lambda: server.backend.open_streams == 1, 10)
        time.sleep(0.2)  # some tokens are to be on record
        dying.kill()

    assert_freed(server)
