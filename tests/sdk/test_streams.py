"""Streams over time: heartbeats, clients that leave, asynchronous clients."""

from __future__ import annotations

import pytest

from arkway.testing import RunningServer, echoes, says
from tests.sdk.cells import cell
from tests.sdk.conftest import Client
from tests.sdk.scenes import assert_freed, breaks_off, endlessly, play, slowly
from tests.tools.drip import DripProxy

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk


@cell("heartbeat")
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


@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: Client, server: RunningServer) -> None:
    play(server, endlessly)

    assert len(client.result(server, "abort")) == 3

    assert_freed(server)
    assert len(server.backend.requests) == 1


@cell("1-byte chunks")
def test_bytes_one_by_one(client: Client, server: RunningServer) -> None:
    play(server, says("云雀", "🐦", "好"))
    with DripProxy(server.url) as proxy:
        base_url = client.base_url(server).replace(server.url, proxy.url)
        completion = client.result(server, "chat", base_url=base_url)
        chunks = client.result(server, "stream", base_url=base_url)

    assert completion["choices"][0]["message"]["content"] == "云雀🐦好"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks[:3]] == ["云雀", "🐦", "好"]
    assert proxy.sent_bytes > 500


@cell("unicode")
def test_every_script(client: Client, server: RunningServer) -> None:
    play(server, echoes)
    text = "云雀🐦👩‍👩‍👧🇨🇳 é\u2028ü\u0085ß\u2029終"
    turns = [{"role": "user", "content": text}]

    assert client.result(server, "chat", messages=turns)["choices"][0]["message"]["content"] == text
    chunks = client.result(server, "stream", messages=turns)
    assert "".join(chunk["choices"][0]["delta"]["content"] or "" for chunk in chunks) == text
    assert server.backend.requests[0].messages[0].text() == text


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
