"""LangChain's VolcEngineMaasChat and VolcEngineMaasLLM as they come: its default model, its region ``Region``."""

from __future__ import annotations

import pytest

from arkway.core.errors import RateLimited
from arkway.testing import RunningServer, echoes, says
from arkway.wire import json
from tests.sdk.cells import cell
from tests.sdk.conftest import MaasClient, on_langchain, only
from tests.sdk.scenes import assert_freed, breaks_off, endlessly, fails, play, slowly
from tests.tools.drip import DripProxy

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

# The chat class streams only where that is asked for; the other one has no need of it, and takes it too.
STREAMING = {"streaming": True}


@on_langchain
@cell("chat")
def test_invoke(client: MaasClient, server: RunningServer) -> None:
    answer = client.ask(server, "invoke", "北京天气")

    assert answer["result"] == "你好，世界"
    exchange = answer["exchanges"][0]
    assert "/Region/ml_maas/request" in exchange["sent"]["authorization"]
    body = json.load_object(exchange["body"].encode())
    assert body["model"] == {"name": "skylark-lite-public"}
    request = server.backend.requests[0]
    assert [(message.role, message.text()) for message in request.messages] == [("user", "北京天气")]
    assert (request.sampling.top_p, request.sampling.temperature) == (0.8, 0.95)


@on_langchain
@cell("stream")
def test_stream(client: MaasClient, server: RunningServer) -> None:
    pieces = client.result(server, "stream", "北京天气", options=STREAMING)

    assert [piece for piece in pieces if piece] == ["你好", "，", "世界"]
    assert server.backend.requests[0].stream


@on_langchain
def test_asynchronous_stream(client: MaasClient, server: RunningServer) -> None:
    pieces = client.result(server, "async_stream", "北京天气", options=STREAMING)

    assert [piece for piece in pieces if piece] == ["你好", "，", "世界"]


@on_langchain
def test_invoke_that_streams_inside(client: MaasClient, server: RunningServer) -> None:
    assert client.result(server, "invoke", "北京天气", options=STREAMING) == "你好，世界"
    assert server.backend.requests[0].stream


@on_langchain
def test_batch(client: MaasClient, server: RunningServer) -> None:
    play(server, echoes)

    assert client.result(server, "batch", ["一", "二", "三"]) == ["一", "二", "三"]


@only("langchain chat")
def test_every_kind_of_message(client: MaasClient, server: RunningServer) -> None:
    turns = [["system", "简短回答"], ["human", "你好"], ["ai", "你好"], ["human", "北京天气"], ["ai", "晴"]]

    assert client.result(server, "invoke", turns) == "你好，世界"
    roles = [message.role for message in server.backend.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


@only("langchain chat")
def test_stop_and_other_parameters(client: MaasClient, server: RunningServer) -> None:
    options = {"temperature": 0, "model_kwargs": {"max_new_tokens": 4000, "top_k": 16}, "model_version": "1.0"}

    assert client.result(server, "invoke", "一", options=options, arguments={"stop": ["完"]}) == "你好，世界"
    request = server.backend.requests[0]
    assert request.sampling.stop == ("完",)
    assert (request.sampling.temperature, request.sampling.top_k, request.max_tokens) == (0, 16, 4000)


@on_langchain
@cell("unicode")
def test_every_script(client: MaasClient, server: RunningServer) -> None:
    play(server, echoes)
    text = "云雀🐦👩‍👩‍👧 \u2028終"

    assert client.result(server, "invoke", text) == text
    assert "".join(client.result(server, "stream", text, options=STREAMING)) == text


@on_langchain
@cell("1-byte chunks")
def test_bytes_one_by_one(client: MaasClient, server: RunningServer) -> None:
    play(server, says("云雀", "🐦"))
    with DripProxy(server.url) as proxy:
        pieces = client.result(server, "stream", "鸟", options=STREAMING, url=proxy.url)

    assert [piece for piece in pieces if piece] == ["云雀", "🐦"]


@on_langchain
@cell("heartbeat")
def test_heartbeats_are_passed_over(client: MaasClient, server: RunningServer) -> None:
    play(server, slowly)

    assert "".join(client.result(server, "stream", "一", options=STREAMING)) == "你好"


@on_langchain
@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: MaasClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert client.result(server, "stream", "一", options=STREAMING, leave_after=3) == ["又"] * 3

    assert_freed(server)


@on_langchain
@cell("error 400")
def test_bad_parameter(client: MaasClient, server: RunningServer) -> None:
    error = client.error(server, "invoke", "一", options={"temperature": 3})

    assert (error["class"], error["code_n"]) == ("MaasException", 1709808)


@on_langchain
@cell("error 401")
@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_wrong_secret(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, "一", options=STREAMING, secret_access_key="not-the-secret")

    assert (error["class"], error["code_n"], error["status"]) == ("MaasException", 1709801, 401)


@on_langchain
@cell("error 404")
def test_unknown_model(client: MaasClient, server: RunningServer) -> None:
    error = client.error(server, "invoke", "一", options={"model": "skylark-nowhere"})

    assert (error["class"], error["code_n"], error["status"]) == ("MaasException", 1709810, 400)


@on_langchain
@cell("error 429")
@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_too_many_requests(client: MaasClient, server: RunningServer, operation: str) -> None:
    play(server, fails(RateLimited("too many requests", retry_after_s=7)))

    error = client.error(server, operation, "一", options=STREAMING)

    assert (error["class"], error["code_n"], error["status"]) == ("MaasException", 1709820, 429)
    assert len(server.backend.requests) == 1


@on_langchain
@cell("mid-stream error")
def test_stream_that_breaks_raises(client: MaasClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二"))

    answer = client.ask(server, "stream", "一", options=STREAMING)

    assert [frame for frame in answer["frames"] if frame] == ["一", "二"]
    assert (answer["error"]["class"], answer["error"]["code_n"]) == ("MaasException", 1709806)
