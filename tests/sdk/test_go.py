"""volcengine-go-sdk's arkruntime on Ark v3, of now and of mid-2024. It is unmodified; the backend is scripted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arkway.core.errors import QuotaExhausted, RateLimited
from arkway.testing import CHAT_CARD, RunningServer, says
from tests.sdk import foreign
from tests.sdk.cells import cell
from tests.sdk.foreign import EMOJI, QUOTED, ForeignClient, counts
from tests.sdk.scenes import assert_freed, breaks_off, calls_weather, endlessly, fails, play, slowly
from tests.tools.drip import DripProxy

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
ATTEMPTS = {"go-ark v3": 3, "go-ark-2024 v3": 1}  # the SDK of 2024 tries again above 500 only
USAGE = {"stream_options": {"include_usage": True}}
PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS},
}


@pytest.fixture(scope="module", params=["go-ark v3", "go-ark-2024 v3"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """Every version of the SDK in turn."""
    yield from foreign.clients(request, tmp_path_factory)


@cell("chat")
def test_chat(client: ForeignClient, server: RunningServer) -> None:
    completion = client.result(server, "chat", temperature=0.5, max_tokens=64, stop=["完"])

    assert client.text(completion) == "你好，世界"
    assert client.choice(completion)["finish_reason"] == "stop"
    assert completion["model"] == CHAT_CARD.served_name
    assert completion["id"] == server.backend.calls[0].request_id
    assert counts(completion["usage"]) == (7, 3, 10)
    request = server.backend.requests[0]
    assert (request.sampling.temperature, request.max_tokens, request.sampling.stop) == (0.5, 64, ("完",))


@cell("stream")
def test_stream(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert [client.text(chunk) for chunk in chunks[:3]] == ["你好", "，", "世界"]
    assert client.choice(chunks[-1])["finish_reason"] == "stop"
    assert {chunk["id"] for chunk in chunks} == {server.backend.calls[0].request_id}


@cell("usage")
def test_stream_with_usage(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream", **USAGE)

    assert client.texts(chunks[:-1]) == ["你好", "，", "世界"]
    assert chunks[-1]["choices"] == []
    assert counts(chunks[-1]["usage"]) == (7, 3, 10)
    assert not any(chunk.get("usage") for chunk in chunks[:-1])


@cell("embeddings")
def test_embeddings(client: ForeignClient, server: RunningServer) -> None:
    texts = ["花椰菜又称菜花、花菜，是一种常见的蔬菜。", "卷心菜"]
    many = client.result(server, "embeddings", input=texts, encoding_format="float")
    one = client.result(server, "embeddings", input=texts[1:], encoding_format="float")

    assert [entry["index"] for entry in many["data"]] == [0, 1]
    assert [len(entry["embedding"]) for entry in many["data"]] == [8, 8]
    assert one["data"][0]["embedding"] == many["data"][1]["embedding"] != many["data"][0]["embedding"]
    assert many["usage"]["total_tokens"] == sum(map(len, texts))


@pytest.mark.parametrize("client", ["go-ark v3"], indirect=True, scope="module")
@cell("tokenization")
def test_tokenization(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text=["你好", "A"])

    assert [entry["total_tokens"] for entry in reply["data"]] == [2, 1]
    assert reply["data"][0]["token_ids"] == [ord("你"), ord("好")]
    assert reply["data"][0]["offset_mapping"] == [[0, 1], [1, 2]]


@OPERATIONS
@cell("error 400")
def test_bad_parameter_is_named(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, temperature=3)

    assert (error["class"], error["status"]) == ("*model.APIError", 400)
    assert (error["code"], error["param"], error["type"]) == ("InvalidParameter", "temperature", "BadRequest")
    assert server.backend.requests == []


@OPERATIONS
@cell("error 401")
def test_wrong_key(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, api_key="not-a-key")

    assert (error["class"], error["status"], error["code"]) == ("*model.APIError", 401, "AuthenticationError")


@OPERATIONS
@cell("error 404")
def test_unknown_endpoint(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, endpoint_id=server.endpoint_id.replace("tests", "testz"))

    assert (error["status"], error["code"]) == (404, "InvalidEndpointOrModel.NotFound")


@OPERATIONS
@cell("error 429")
def test_rate_limit_is_tried_again(client: ForeignClient, server: RunningServer, operation: str) -> None:
    play(server, fails(RateLimited("too many requests", retry_after_s=1)))

    error = client.error(server, operation)

    assert (error["class"], error["status"]) == ("*model.APIError", 429)
    assert error["code"].startswith("RateLimitExceeded")
    assert len(server.backend.requests) == ATTEMPTS[client.name]


def test_spent_quota_is_not_tried_again(client: ForeignClient, server: RunningServer) -> None:
    play(server, fails(QuotaExhausted("the quota of this endpoint is spent")))

    error = client.error(server, "chat")

    assert (error["status"], error["code"]) == (403, "QuotaExceeded")
    assert len(server.backend.requests) == 1


@cell("mid-stream error")
def test_stream_that_breaks_is_an_error(client: ForeignClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream")

    assert [client.text(chunk) for chunk in answer["chunks"]] == ["一", "二", "三"]
    assert (answer["error"]["class"], answer["error"]["code"]) == ("*model.APIError", "InternalServiceError")
    assert "the engine stopped" in answer["error"]["message"].lower()


@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: ForeignClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert len(client.result(server, "abort")) == 3

    assert_freed(server)
    assert len(server.backend.requests) == 1


@cell("heartbeat")
def test_heartbeats_are_passed_over(client: ForeignClient, server: RunningServer) -> None:
    play(server, slowly)

    chunks = client.result(server, "stream", **USAGE)

    pieces = [client.text(chunk) for chunk in chunks if chunk["choices"]]
    before, between = pieces.index("你"), pieces.index("好") - pieces.index("你") - 1
    assert before >= 2
    assert between >= 1
    assert "".join(pieces) == "你好"
    assert chunks[-1]["usage"]["completion_tokens"] == 2


@cell("1-byte chunks")
def test_single_bytes(client: ForeignClient, server: RunningServer) -> None:
    play(server, says(*EMOJI))

    with DripProxy(server.url) as proxy:
        chunks = client.result(server, "stream", url=proxy.url, **USAGE)
        completion = client.result(server, "chat", url=proxy.url)

    assert "".join(client.texts(chunks[:-1])) == client.text(completion) == EMOJI
    assert counts(chunks[-1]["usage"]) == (7, len(EMOJI), 7 + len(EMOJI))
    assert proxy.sent_bytes > len(EMOJI.encode())


@cell("unicode")
def test_text_arrives_as_it_left(client: ForeignClient, server: RunningServer) -> None:
    text = QUOTED + EMOJI
    play(server, says(text))
    question = [{"role": "user", "content": text}]

    assert client.text(client.result(server, "chat", messages=question)) == text
    assert client.texts(client.result(server, "stream", messages=question)) == [text]
    assert [request.messages[0].text() for request in server.backend.requests] == [text, text]


@cell("tool calls")
def test_tool_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)

    choice = client.choice(client.result(server, "chat", tools=[WEATHER]))

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"]) == ("call_1", "function")
    assert call["function"] == {"name": "get_weather", "arguments": '{"城市": "北京"}'}
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
