"""volcengine-java-sdk-ark-runtime on Ark v3: the newest, and the one of 2024. Unmodified; the backend is scripted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.errors import Overloaded, QuotaExhausted, RateLimited
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, RunningServer, echoes, says
from tests.sdk import foreign
from tests.sdk.cells import cell
from tests.sdk.foreign import ForeignClient
from tests.sdk.scenes import assert_freed, breaks_off, calls_weather, endlessly, fails, play, slowly
from tests.tools.drip import DripProxy

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
ATTEMPTS = {"java-ark v3": 3, "java-ark-2024 v3": 1}  # the SDK of 2024 does not try again by itself
PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS},
}
ODD = '天\u2028地\u0085玄😀黄👩‍👩‍👧‍👦\t"\\/'


@pytest.fixture(scope="module", params=ATTEMPTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """Every version of the SDK in turn."""
    yield from foreign.clients(request, tmp_path_factory)


def facts(error: dict[str, Any]) -> tuple[Any, ...]:
    return error["class"], error["status"], error["code"], error["param"], error["type"]


@cell("chat")
def test_chat(client: ForeignClient, server: RunningServer) -> None:
    completion = client.result(server, "chat", temperature=0.5, max_tokens=64, stop=["完"], top_p=0.25)

    choice = completion["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "你好，世界"}
    assert choice["finish_reason"] == "stop"
    assert completion["model"] == CHAT_CARD.served_name
    assert completion["id"] == server.backend.calls[0].request_id
    request = server.backend.requests[0]
    assert (request.sampling.temperature, request.sampling.top_p) == (0.5, 0.25)
    assert (request.max_tokens, request.sampling.stop) == (64, ("完",))
    assert request.messages[0].text() == "你好"


@cell("stream")
def test_stream(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert [client.text(chunk) for chunk in chunks] == ["你好", "，", "世界", ""]
    assert [chunk["choices"][0].get("finish_reason") for chunk in chunks] == [None, None, None, "stop"]
    assert {chunk["id"] for chunk in chunks} == {server.backend.calls[0].request_id}
    assert not any("usage" in chunk for chunk in chunks)


@cell("usage")
def test_usage(client: ForeignClient, server: RunningServer) -> None:
    completion = client.result(server, "chat")
    chunks = client.result(server, "stream", stream_options={"include_usage": True})

    counts = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert completion["usage"].items() >= counts.items()
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"].items() >= counts.items()
    assert not any("usage" in chunk for chunk in chunks[:-1])


@cell("embeddings")
def test_embeddings(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "embeddings", input=["天很蓝", "海很深😀"])

    assert [entry["index"] for entry in reply["data"]] == [0, 1]
    assert [len(entry["embedding"]) for entry in reply["data"]] == [EMBEDDING_CARD.dimensions] * 2
    assert reply["data"][0]["embedding"] != reply["data"][1]["embedding"]
    assert reply["model"] == EMBEDDING_CARD.served_name
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] == 7


@cell("tokenization")
def test_tokenization(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text=["你好", "a"])

    assert [entry["total_tokens"] for entry in reply["data"]] == [2, 1]
    assert reply["data"][0]["token_ids"] == [ord("你"), ord("好")]
    assert reply["data"][0]["offset_mapping"] == [[0, 1], [1, 2]]


@cell("error 400")
@OPERATIONS
def test_bad_parameter_is_named(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, temperature=3)

    assert facts(error) == ("ArkHttpException", 400, "InvalidParameter", "temperature", "BadRequest")
    assert server.backend.requests == []


@cell("error 401")
@OPERATIONS
def test_wrong_key(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, api_key="not-a-key")

    assert facts(error) == ("ArkHttpException", 401, "AuthenticationError", "", "Unauthorized")


@cell("error 404")
@OPERATIONS
def test_unknown_endpoint(client: ForeignClient, server: RunningServer, operation: str) -> None:
    headers = {"X-Client-Request-Id": "failing-1"}
    error = client.error(server, operation, endpoint_id="ep-20240701000000-testz", extra_headers=headers)

    assert facts(error) == ("ArkHttpException", 404, "InvalidEndpointOrModel.NotFound", "model", "NotFound")
    assert error["request_id"] == "failing-1"


@cell("error 429")
@OPERATIONS
def test_overloaded(client: ForeignClient, server: RunningServer, operation: str) -> None:
    play(server, fails(Overloaded("the waiting line is full", retry_after_s=1)))

    error = client.error(server, operation)

    assert facts(error) == ("ArkHttpException", 429, "ServerOverloaded", "", "TooManyRequests")
    assert len(server.backend.requests) == ATTEMPTS[client.name]


def test_second_attempt_succeeds(client: ForeignClient, server: RunningServer) -> None:
    answer = server.backend.script
    refusal = fails(RateLimited("too many requests", retry_after_s=1))
    patience = ATTEMPTS[client.name] - 1
    play(server, lambda request: (refusal if len(server.backend.requests) <= patience else answer)(request))

    assert client.result(server, "chat")["choices"][0]["message"]["content"] == "你好，世界"
    assert len(server.backend.requests) == ATTEMPTS[client.name]


def test_spent_quota_is_not_tried_again(client: ForeignClient, server: RunningServer) -> None:
    play(server, fails(QuotaExhausted("the quota of this endpoint is spent")))

    assert facts(client.error(server, "chat")) == ("ArkHttpException", 403, "QuotaExceeded", "", "Forbidden")
    assert len(server.backend.requests) == 1


@cell("mid-stream error")
def test_stream_that_breaks_raises(client: ForeignClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream", extra_headers={"X-Client-Request-Id": "breaking-1"})

    assert client.texts(answer["chunks"]) == ["一", "二", "三"]
    assert not any("finish_reason" in chunk["choices"][0] for chunk in answer["chunks"])
    # An error inside a stream has no status of its own; the SDK says -1.
    assert facts(answer["error"]) == ("ArkHttpException", -1, "InternalServiceError", "", "InternalServerError")
    assert answer["error"]["request_id"] == "breaking-1"
    assert len(server.backend.requests) == 1


@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: ForeignClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert client.texts(client.result(server, "abort")) == ["又"] * 3

    assert_freed(server)
    assert len(server.backend.requests) == 1


@cell("heartbeat")
def test_heartbeats_are_passed_over(client: ForeignClient, server: RunningServer) -> None:
    play(server, slowly)

    chunks = client.result(server, "stream", stream_options={"include_usage": True})

    said = [client.text(chunk) for chunk in chunks if chunk["choices"]]
    assert "".join(said) == "你好"
    assert said.index("你") >= 2
    assert said.index("好") - said.index("你") >= 2
    assert set(said) <= {"", "你", "好"}


@cell("1-byte chunks")
@OPERATIONS
def test_answer_that_arrives_byte_by_byte(client: ForeignClient, server: RunningServer, operation: str) -> None:
    with DripProxy(server.url) as proxy:
        reply = client.result(server, operation, url=proxy.url)

        assert proxy.sent_bytes > 300
    assert "".join(client.texts([reply] if operation == "chat" else reply)) == "你好，世界"


@cell("unicode")
def test_unicode_there_and_back(client: ForeignClient, server: RunningServer) -> None:
    play(server, echoes)
    question = [{"role": "user", "content": ODD}]

    assert client.text(client.result(server, "chat", messages=question)) == ODD
    assert "".join(client.texts(client.result(server, "stream", messages=question))) == ODD
    assert [request.messages[0].text() for request in server.backend.requests] == [ODD, ODD]


@cell("tool calls")
def test_tool_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)

    choice = client.result(server, "chat", tools=[WEATHER], tool_choice="required")["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"]) == ("call_1", "function")
    assert call["function"] == {"name": "get_weather", "arguments": '{"城市": "北京"}'}
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS


@cell("tool calls")
def test_tool_call_in_a_stream(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)

    chunks = client.result(server, "stream", tools=[WEATHER])

    calls = [call for chunk in chunks for call in chunk["choices"][0]["message"].get("tool_calls", [])]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("call_1", "get_weather")
    assert "".join(call["function"]["arguments"] for call in calls) == '{"城市": "北京"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@cell("tool calls")
def test_tool_call_goes_back_as_the_sdk_gave_it(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    message = client.result(server, "chat", tools=[WEATHER])["choices"][0]["message"]
    play(server, says("晴"))
    told = {"role": "tool", "tool_call_id": "call_1", "content": "晴"}

    completion = client.result(
        server, "chat", tools=[WEATHER], messages=[{"role": "user", "content": "天气"}, message, told]
    )

    assert client.text(completion) == "晴"
    turns = server.backend.requests[-1].messages
    assert turns[1].tool_calls[0].arguments == '{"城市": "北京"}'
    assert (turns[2].role, turns[2].tool_call_id) == ("tool", "call_1")
