"""@volcengine/openapi on MaaS v1 and v2. It is unmodified; the backend is scripted.

This SDK signs a query string of its own (``?Action=chat&Version=``) and looks at no status: what it makes of an error
depends on the body alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.core.errors import BackendFailed, RateLimited
from arkway.testing import RunningServer, says
from arkway.wire import json
from tests.sdk import foreign
from tests.sdk.cells import cell
from tests.sdk.foreign import EMOJI, QUOTED, ForeignClient, counts
from tests.sdk.scenes import assert_freed, breaks_off, calls_weather, endlessly, fails, play, slowly, wait_until
from tests.tools.drip import DripProxy

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

CLIENTS = ("node v1", "node v2")
OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
FUNCTION = {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS}


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """The SDK's two services."""
    yield from foreign.clients(request, tmp_path_factory)


def facts(error: dict[str, Any]) -> tuple[str, int]:
    """Code and number; fails where the SDK surfaced anything but a complete error of the server's."""
    assert error["class"] == "MaasError"
    assert error["message"]
    return error["code"], error["code_n"]


@cell("chat")
def test_chat(client: ForeignClient, server: RunningServer) -> None:
    turns = [
        {"role": "user", "content": "天为什么这么蓝?"},
        {"role": "assistant", "content": "因为有你"},
        {"role": "user", "content": "花儿为什么这么香?"},
    ]
    parameters = {"temperature": 0.5, "top_p": 0.25, "top_k": 40, "max_new_tokens": 64, "stop": ["完"]}

    reply = client.result(server, "chat", messages=turns, parameters=parameters)

    assert client.choice(reply)["message"] == {"role": "assistant", "content": "你好，世界"}
    assert client.choice(reply)["finish_reason"] == "stop"
    assert counts(reply["usage"]) == (7, 3, 10)
    assert reply["req_id"] == server.backend.calls[0].request_id
    request = server.backend.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.5, 0.25, 40, ("完",))
    assert request.max_tokens == 64
    assert [message.text() for message in request.messages] == [turn["content"] for turn in turns]


@cell("stream")
def test_stream(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert client.texts(chunks) == ["你好", "，", "世界"]
    assert client.choice(chunks[-1])["finish_reason"] == "stop"
    assert server.backend.requests[0].stream


@cell("usage")
def test_usage_comes_with_the_last_message(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert counts(chunks[-1]["usage"]) == (7, 3, 10)
    assert not any(chunk.get("usage") for chunk in chunks[:-1])
    assert "message" in client.choice(chunks[-1])


@cell("embeddings")
def test_embeddings(client: ForeignClient, server: RunningServer) -> None:
    texts = ["花椰菜又称菜花、花菜，是一种常见的蔬菜。", "卷心菜"]

    reply = client.result(server, "embeddings", input=texts)

    assert [(entry["index"], len(entry["embedding"])) for entry in reply["data"]] == [(0, 8), (1, 8)]
    assert counts(reply["usage"]) == (sum(map(len, texts)), 0, sum(map(len, texts)))


@cell("tokenization")
def test_tokenization(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text="你好A")

    assert (reply["total_tokens"], reply["tokens"]) == (3, ["你", "好", "A"])
    assert reply["token_ids"] == [ord("你"), ord("好"), ord("A")]
    assert reply["offset_mapping"] == [[0, 1], [1, 2], [2, 3]]


@cell("classification")
def test_classification(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "classification", query="一部积极的电影", labels=["积极", "消极"])

    totals = {label: sum(score["token_logprobs"]) for label, score in reply["label_logprobos"].items()}
    assert set(totals) == {"积极", "消极"}
    assert reply["label"] == max(totals, key=lambda label: totals[label]) == "积极"


@OPERATIONS
@cell("error 400")
def test_bad_parameter_is_named(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, parameters={"temperature": 3})

    assert facts(error) == ("InvalidParameter", 1709808)
    assert "temperature" in error["message"]
    assert server.backend.requests == []


@OPERATIONS
@cell("error 404")
def test_unknown_endpoint(client: ForeignClient, server: RunningServer, operation: str) -> None:
    """v1 and v2 have no 404 for it: status 400, and a code of its own."""
    unknown = server.endpoint_id.replace("tests", "testz")

    assert facts(client.error(server, operation, endpoint_id=unknown)) == ("EndpointIsInvalid", 1709810)


@OPERATIONS
@cell("error 401")
def test_wrong_keys(client: ForeignClient, server: RunningServer, operation: str) -> None:
    unknown = client.error(server, operation, access_key_id="AKLTnobodys")
    wrong = client.error(server, operation, secret_access_key="not-the-secret")

    assert facts(unknown) == ("AuthenticationHeaderIsInvalid", 1709805)
    assert facts(wrong) == ("SignatureDoesNotMatch", 1709801)
    assert server.backend.requests == []


@OPERATIONS
@cell("error 429")
def test_too_many_requests(client: ForeignClient, server: RunningServer, operation: str) -> None:
    play(server, fails(RateLimited("too many requests for this endpoint", retry_after_s=7)))

    assert facts(client.error(server, operation)) == ("EndpointAccountRpmRateLimitExceeded", 1709820)
    assert len(server.backend.requests) == 1


@OPERATIONS
def test_failure_before_the_answer_is_an_error(client: ForeignClient, server: RunningServer, operation: str) -> None:
    play(server, fails(BackendFailed("the engine stopped")))

    assert facts(client.error(server, operation)) == ("InternalServiceError", 1709806)


@cell("mid-stream error")
def test_stream_that_breaks_raises(client: ForeignClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream")

    assert [client.text(chunk) for chunk in answer["chunks"]] == ["一", "二", "三"]
    assert facts(answer["error"]) == ("InternalServiceError", 1709806)
    assert "the engine stopped" in answer["error"]["message"].lower()


@cell("session token")
def test_session_token(client: ForeignClient, server: RunningServer) -> None:
    pair = {"access_key_id": server.session_access_key_id, "secret_access_key": server.session_secret}
    session = {**pair, "session_token": server.session_token}

    assert client.text(client.result(server, "chat", **session)) == "你好，世界"
    assert client.texts(client.result(server, "stream", **session)) == ["你好", "，", "世界"]
    assert {call.key_id for call in server.backend.calls} == {server.session_access_key_id}
    assert facts(client.error(server, "chat", **pair)) == ("AuthenticationHeaderIsInvalid", 1709805)


@pytest.mark.parametrize("client", CLIENTS)
@cell("cancel")
def test_client_that_dies_frees_the_backend(client: str, server: RunningServer, tmp_path: Path) -> None:
    """The SDK cannot leave a stream: it keeps the connection of an iterator that was given up."""
    play(server, endlessly)

    with foreign.running(client, tmp_path) as leaving:
        leaving.driver.send(leaving.question(server, "stream"))
        assert wait_until(lambda: server.backend.open_streams == 1, 10)
        time.sleep(0.2)  # some tokens
        leaving.driver.kill()
        assert_freed(server)

    assert len(server.backend.requests) == 1


@cell("heartbeat")
def test_heartbeats_are_passed_over(client: ForeignClient, server: RunningServer) -> None:
    play(server, slowly)

    chunks = client.result(server, "stream")

    assert client.texts(chunks) == ["你", "好"]
    assert len(chunks) in (2, 3)
    assert chunks[-1]["usage"]["completion_tokens"] == 2


@cell("1-byte chunks")
def test_single_bytes(client: ForeignClient, server: RunningServer) -> None:
    text = 'It says "why?"\n'
    play(server, says(*text))

    with DripProxy(server.url) as proxy:
        chunks = client.result(server, "stream", url=proxy.url)
        reply = client.result(server, "chat", url=proxy.url)

    assert "".join(client.texts(chunks)) == client.text(reply) == text
    assert counts(chunks[-1]["usage"]) == (7, len(text), 7 + len(text))
    assert proxy.sent_bytes > len(text)


def test_characters_that_are_cut(client: ForeignClient, server: RunningServer) -> None:
    play(server, says("你好"))

    with DripProxy(server.url) as proxy:
        chunks = client.result(server, "stream", url=proxy.url)

    assert client.texts(chunks) == ["你好"]


@cell("unicode")
def test_text_arrives_as_it_left(client: ForeignClient, server: RunningServer) -> None:
    text = QUOTED + EMOJI
    play(server, says(text))
    question = [{"role": "user", "content": text}]

    assert client.text(client.result(server, "chat", messages=question)) == text
    assert client.texts(client.result(server, "stream", messages=question)) == [text]
    assert [request.messages[0].text() for request in server.backend.requests] == [text, text]


@pytest.mark.parametrize("client", ["node v1"], indirect=True, scope="module")
@cell("tool calls")
def test_function_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)

    choice = client.choice(client.result(server, "chat", functions=[FUNCTION]))
    chunks = client.result(server, "stream", functions=[FUNCTION])

    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"]["name"] == "get_weather"
    assert json.loads(choice["message"]["function_call"]["arguments"].encode()) == {"城市": "北京"}
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
    calls = [client.choice(chunk)["message"].get("function_call") or {} for chunk in chunks]
    assert "".join(call.get("arguments", "") for call in calls) == '{"城市": "北京"}'
    assert client.choice(chunks[-1])["finish_reason"] == "function_call"


@pytest.mark.parametrize("client", ["node v2"], indirect=True, scope="module")
@cell("tool calls")
def test_tool_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    tools = [{"type": "function", "function": FUNCTION}]

    choice = client.choice(client.result(server, "chat", tools=tools))
    chunks = client.result(server, "stream", tools=tools)

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "get_weather")
    pieces = [call for chunk in chunks for call in client.choice(chunk)["message"].get("tool_calls") or []]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"城市": "北京"}'
