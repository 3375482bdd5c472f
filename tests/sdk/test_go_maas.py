"""volc-sdk-golang on MaaS v1 and v2, of now and of mid-2024. It is unmodified; the backend is scripted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.errors import BackendFailed, RateLimited
from arkway.testing import RunningServer, echoes, running_server, says
from arkway.wire import json
from tests.sdk import foreign
from tests.sdk.cells import cell
from tests.sdk.foreign import EMOJI, QUOTED, ForeignClient, counts
from tests.sdk.scenes import assert_freed, breaks_off, calls_weather, endlessly, fails, play, slowly
from tests.tools.drip import DripProxy

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

CLIENTS = ("go-maas v1", "go-maas v2", "go-maas-2024 v1", "go-maas-2024 v2")
OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
FUNCTION = {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS}
TURNS = [
    {"role": "user", "content": "天为什么这么蓝?"},
    {"role": "assistant", "content": "因为有你"},
    {"role": "user", "content": "花儿为什么这么香?"},
]


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """Every version of the SDK on both surfaces."""
    yield from foreign.clients(request, tmp_path_factory)


@pytest.fixture(scope="module")
def sealing_server() -> Iterator[RunningServer]:
    with running_server(echoes, settings={"surface": {"message_encryption": True}}) as running:
        yield running


def on(surface: str) -> pytest.MarkDecorator:
    names = [name for name in CLIENTS if name.endswith(surface)]
    return pytest.mark.parametrize("client", names, indirect=True, scope="module")


def facts(error: dict[str, Any]) -> tuple[str, int]:
    """Code and number; fails where the SDK surfaced anything but a complete error of the server's."""
    assert error["class"] == "*api.Error"
    assert error["message"]
    return error["code"], error["code_n"]


@cell("chat")
def test_chat(client: ForeignClient, server: RunningServer) -> None:
    parameters = {"temperature": 0.5, "top_p": 0.25, "top_k": 40, "max_new_tokens": 64, "stop": ["完"]}

    answer = client.ask(server, "chat", messages=TURNS, parameters=parameters)

    assert answer["status"] == 200
    reply = answer["result"]
    assert client.choice(reply)["message"] == {"role": "assistant", "content": "你好，世界"}
    assert client.choice(reply)["finish_reason"] == "stop"
    assert counts(reply["usage"]) == (7, 3, 10)
    assert len(reply["req_id"]) >= 34
    request = server.backend.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.5, 0.25, 40, ("完",))
    assert request.max_tokens == 64
    assert [message.text() for message in request.messages] == [turn["content"] for turn in TURNS]


@cell("stream")
def test_stream(client: ForeignClient, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert client.texts(chunks) == ["你好", "，", "世界"]
    reasons = [client.choice(chunk).get("finish_reason") for chunk in chunks]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])


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

    assert reply["object"] == "list"
    assert [entry.get("index", 0) for entry in reply["data"]] == [0, 1]
    assert [len(entry["embedding"]) for entry in reply["data"]] == [8, 8]
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] == sum(map(len, texts))


@cell("tokenization")
def test_tokenization(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text="你好A")

    assert reply["total_tokens"] == 3
    assert reply["tokens"] == ["你", "好", "A"]
    if client.surface == "v2":  # the SDK's type for v1 has no room for them
        assert reply["token_ids"] == [ord("你"), ord("好"), ord("A")]
        assert reply["offset_mapping"] == [[0, 1], [1, 2], [2, 3]]


@cell("classification")
def test_classification(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "classification", query="一部积极的电影", labels=["积极", "消极"])

    scores = reply["label_logprobos"]
    assert set(scores) == {"积极", "消极"}
    totals = {label: sum(score["token_logprobs"]) for label, score in scores.items()}
    assert reply["label"] == max(totals, key=lambda label: totals[label]) == "积极"
    assert all(len(score["tokens"]) == len(score["token_logprobs"]) > 0 for score in scores.values())
    assert reply["usage"]["prompt_tokens"] > 0


@OPERATIONS
@cell("error 400")
def test_bad_parameter_is_named(client: ForeignClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, parameters={"temperature": 3})

    assert facts(error) == ("InvalidParameter", 1709808)
    assert "temperature" in error["message"]
    assert error["status"] == (400 if operation == "chat" else 0)  # the SDK tells no status of a stream
    assert server.backend.requests == []


@OPERATIONS
@cell("error 404")
def test_unknown_endpoint(client: ForeignClient, server: RunningServer, operation: str) -> None:
    """v1 and v2 have no 404 for it: status 400, and a code of its own."""
    unknown = server.endpoint_id.replace("tests", "testz")

    error = client.error(server, operation, endpoint_id=unknown)

    assert facts(error) == ("EndpointIsInvalid", 1709810)
    assert unknown in error["message"]


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

    error = client.error(server, operation)

    assert facts(error) == ("EndpointAccountRpmRateLimitExceeded", 1709820)
    assert error["status"] == (429 if operation == "chat" else 0)
    assert len(server.backend.requests) == 1


@cell("mid-stream error")
def test_stream_that_breaks_is_an_error(client: ForeignClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream")

    assert [client.text(chunk) for chunk in answer["chunks"]] == ["一", "二", "三"]
    assert facts(answer["error"]) == ("InternalServiceError", 1709806)
    assert "the engine stopped" in answer["error"]["message"].lower()


def test_failure_before_the_answer_is_an_error(client: ForeignClient, server: RunningServer) -> None:
    play(server, fails(BackendFailed("the engine stopped")))

    assert facts(client.error(server, "stream")) == ("InternalServiceError", 1709806)


@cell("session token")
def test_session_token(client: ForeignClient, server: RunningServer) -> None:
    pair = {"access_key_id": server.session_access_key_id, "secret_access_key": server.session_secret}
    session = {**pair, "session_token": server.session_token}

    assert client.text(client.result(server, "chat", **session)) == "你好，世界"
    assert client.texts(client.result(server, "stream", **session)) == ["你好", "，", "世界"]
    assert {call.key_id for call in server.backend.calls} == {server.session_access_key_id}
    assert facts(client.error(server, "chat", **pair)) == ("AuthenticationHeaderIsInvalid", 1709805)


@on("v2")
@cell("bearer key")
def test_api_key(client: ForeignClient, server: RunningServer) -> None:
    nobody = {"access_key_id": "", "secret_access_key": ""}
    key = {**nobody, "api_key": server.api_key}

    assert client.text(client.result(server, "chat", **key)) == "你好，世界"
    assert client.texts(client.result(server, "stream", **key)) == ["你好", "，", "世界"]
    assert len(client.result(server, "embeddings", input=["菜"], **key)["data"]) == 1
    assert facts(client.error(server, "chat", **nobody, api_key="not-a-key"))[1] == 1709805


@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: ForeignClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert client.texts(client.result(server, "abort")) == ["又", "又", "又"]

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
    play(server, says(*EMOJI))

    with DripProxy(server.url) as proxy:
        chunks = client.result(server, "stream", url=proxy.url)
        reply = client.result(server, "chat", url=proxy.url)

    assert "".join(client.texts(chunks)) == client.text(reply) == EMOJI
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


@on("v1")
@cell("tool calls")
def test_function_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    functions = [{**FUNCTION, "examples": ['{"城市": "上海"}']}]

    choice = client.choice(client.result(server, "chat", functions=functions))
    chunks = client.result(server, "stream", functions=functions)

    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"]["name"] == "get_weather"
    assert json.loads(choice["message"]["function_call"]["arguments"].encode()) == {"城市": "北京"}
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
    streamed = [client.choice(chunk) for chunk in chunks]
    calls = [choice["message"].get("function_call") or {} for choice in streamed]
    assert "".join(call.get("arguments", "") for call in calls) == '{"城市": "北京"}'
    assert [call["name"] for call in calls if call.get("name")] == ["get_weather"]
    assert streamed[-1]["finish_reason"] == "function_call"


@on("v2")
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
    assert "".join(piece["function"].get("arguments", "") for piece in pieces) == '{"城市": "北京"}'
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS


@cell("end-to-end encryption")
def test_sealed_messages(client: ForeignClient, sealing_server: RunningServer) -> None:
    question = [{"role": "user", "content": "天为什么这么蓝😀?"}]
    sealing_server.backend.requests.clear()

    reply = client.result(sealing_server, "secret_chat", messages=question)
    chunks = client.result(sealing_server, "secret_stream", messages=question)

    assert client.text(reply) == "天为什么这么蓝😀?"
    assert "".join(client.texts(chunks)) == "天为什么这么蓝😀?"
    assert [request.messages[0].text() for request in sealing_server.backend.requests] == ["天为什么这么蓝😀?"] * 2


def test_sealing_is_off_unless_switched_on(client: ForeignClient, server: RunningServer) -> None:
    """Both SDK lines hide the server's code behind one of their own, and keep the text."""
    error = client.error(server, "secret_chat")

    assert facts(error) == ("ClientSDKRequestError", 1709701)
    assert server.backend.requests == []


@on("v2")
def test_what_is_not_served_says_so(client: ForeignClient, server: RunningServer) -> None:
    error = client.error(server, "images", prompt="猫")

    assert facts(error) == ("APINotSupport", 1709828)
    assert error["status"] == 405
