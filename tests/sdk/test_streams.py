"""Streams over time: heartbeats, clients that leave, asynchronous clients."""

from __future__ import annotations

import pytest

from arkway.testing import RunningServer
from tests.sdk.conftest import Client
from tests.sdk.scenes import assert_freed, breaks_off, endlessly, play, slowly

pytestmark = pytest.mark.sdk


def test_heartbeats_are_passed_over(client: Client, server: RunningServer) -> None:
    play(server, slowly)

    chunks = client.result(server, "stream", stream_options={"include_usage": True})

    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks if chunk["choices"]]
    assert "".join(piece or "" for piece in pieces) == "你好"
    before, between = pieces.index("你"), pieces.index("好") - pieces.index("你") - 1
    assert before >= 2
    assert between >= 1
    assert set(pieces) <= {"", None, "你", "好"}
    assert chunks[-1]["usage"]["completion_tokens"] == 2


def test_client_that_leaves_frees_the_backend(client: Client, server: RunningServer) -> None:
    play(server, endlessly)

    assert len(client.result(server, "abort")) == 3

    assert_freed(server)
    assert len(server.backend.requests) == 1


def test_asynchronous_chat(client: Client, server: RunningServer) -> None:
    completion = client.result(server, "async_chat")

    assert completion["choices"][0]["message"]["content"] == "你好，世界"
    assert completion["usage"]["total_tokens"] == 10


def test_asynchronous_stream(client: Client, server: RunningServer) -> None:
    chunks = client.result(server, "async_stream", stream_options={"include_usage": True})

    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks[:3]] == ["你好", "，", "世界"]
    assert chunks[-1]["usage"]["total_tokens"] == 10


def test_asynchronous_stream_that_breaks_raises(client: Client, server: RunningServer) -> None:
    play(server, breaks_off("一"))

    answer = client.ask(server, "async_stream")

    assert len(answer["chunks"]) == 1
    assert answer["error"]["class"] == client.error_class("APIError")


def test_asynchronous_client_that_is_cancelled(client: Client, server: RunningServer) -> None:
    play(server, endlessly)

    assert len(client.result(server, "async_abort", extra={"patience_s": 0.5})) >= 3

    assert_freed(server)
