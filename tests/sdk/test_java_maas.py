"""volc-sdk-java on MaaS v1 and v2: the newest, and the one of June 2024. Unmodified; the backend is scripted.

This SDK reads the bodies of streams whatever their status is, and refuses fields of v2 that it does not know: an error
has to surface as its MaasException all the same, and every answer has to be taken.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    ContextTooLong,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from arkway.testing import RunningServer, echoes, says
from arkway.wire import json
from tests.sdk import foreign
from tests.sdk.cells import cell
from tests.sdk.conftest import QUESTION
from tests.sdk.foreign import EMOJI, QUOTED, ForeignClient
from tests.sdk.scenes import (
    assert_freed,
    breaks_off,
    calls_weather,
    endlessly,
    fails,
    play,
    scores_words,
    slowly,
)
from tests.tools.drip import DripProxy

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

CLIENTS = [f"{line} {surface}" for line in ("java-maas", "java-maas-2024") for surface in ("v1", "v2")]
OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
ASKED: dict[str, dict[str, Any]] = {
    "chat": {},
    "stream": {},
    "tokenization": {"text": "你"},
    "embeddings": {"input": ["你"]},
    "classification": {"query": "你", "labels": ["一", "二"]},
}
EVERY_OPERATION = pytest.mark.parametrize("operation", ASKED)
PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
FUNCTION = {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS}
TURNS = [
    {"role": "user", "content": "天为什么这么蓝?"},
    {"role": "assistant", "content": "因为有你"},
    {"role": "user", "content": "花儿为什么这么香?"},
]


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """Every version of the SDK in turn, on v1 and on v2."""
    yield from foreign.clients(request, tmp_path_factory)


def only(surface: str) -> pytest.MarkDecorator:
    """A test for one of the two surfaces."""
    names = [name for name in CLIENTS if name.endswith(surface)]
    return pytest.mark.parametrize("client", names, indirect=True, scope="module")


def counts(usage: dict[str, Any]) -> tuple[int, int, int]:
    """Protobuf writes the 64-bit integers of v1 as strings."""
    return int(usage["prompt_tokens"]), int(usage["completion_tokens"]), int(usage["total_tokens"])


def comments(client: ForeignClient, server: RunningServer) -> int:
    """How many lines of a stream to this SDK, as they are on the wire, are comments."""
    path = "/api/v1/chat" if client.surface == "v1" else f"/api/v2/endpoint/{server.endpoint_id}/chat"
    body = {"model": {"endpoint_id": server.endpoint_id}} if client.surface == "v1" else {}
    headers = {"Authorization": f"Bearer {server.api_key}", "User-Agent": "volc-sdk-java/v1.0.273"}
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", path, json.dumps({**body, "messages": QUESTION, "stream": True}), headers)
        return sum(line.startswith(b":") for line in connection.getresponse().read().splitlines())
    finally:
        connection.close()


def refusal(client: ForeignClient, server: RunningServer, operation: str, **options: Any) -> tuple[str, int]:
    """``code`` and ``code_n`` of the MaasException of a call that is refused before it has said anything."""
    answer = client.ask(server, operation, **options)
    assert "error" in answer, f"no error, but {answer['result']}"
    assert answer["chunks"] == []
    error = answer["error"]
    assert error["class"] == "MaasException"
    # Streams are read lazily, where Java allows no checked exceptions.
    assert error["wrapped"] == (operation == "stream")
    assert error["message"]
    assert error["req_id"], "nothing to find the call by"
    return error["code"], error["code_n"]


@cell("chat")
def test_chat(client: ForeignClient, server: RunningServer) -> None:
    parameters = {"temperature": 0.5, "top_p": 0.25, "top_k": 40, "max_new_tokens": 64, "stop": ["完"]}

    reply = client.result(server, "chat", messages=TURNS, parameters=parameters)

    assert client.text(reply) == "你好，世界"
    assert client.choice(reply)["message"]["role"] == "assistant"
    assert client.choice(reply)["finish_reason"] == "stop"
    request = server.backend.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.5, 0.25, 40, ("完",))
    assert request.max_tokens == 64
    assert [(turn.role, turn.text()) for turn in request.messages] == [tuple(turn.values()) for turn in TURNS]


@cell("stream")
def test_stream(client: ForeignClient, server: RunningServer) -> None:
    frames = client.result(server, "stream", messages=TURNS)

    assert client.texts(frames) == ["你好", "，", "世界"]
    reasons = [client.choice(frame).get("finish_reason") for frame in frames]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])
    assert client.choice(frames[0])["message"]["role"] == "assistant"
    assert server.backend.requests[0].stream


@cell("usage")
def test_usage(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "chat")
    frames = client.result(server, "stream")

    assert counts(reply["usage"]) == counts(frames[-1]["usage"]) == (7, 3, 10)
    assert not any("usage" in frame for frame in frames[:-1])
    # The guides' programs read the message of every frame.
    assert "message" in client.choice(frames[-1])


@only("v1")
def test_v1_request_id(client: ForeignClient, server: RunningServer) -> None:
    assert client.result(server, "chat")["req_id"] == server.backend.calls[0].request_id
    assert {frame["req_id"] for frame in client.result(server, "stream")} == {server.backend.calls[1].request_id}


def test_cut_by_its_limit(client: ForeignClient, server: RunningServer) -> None:
    play(server, says("一", "二", reason="length"))
    parameters = {"max_new_tokens": 2}

    assert client.choice(client.result(server, "chat", parameters=parameters))["finish_reason"] == "length"
    assert client.choice(client.result(server, "stream", parameters=parameters)[-1])["finish_reason"] == "length"


@cell("embeddings")
def test_embeddings(client: ForeignClient, server: RunningServer) -> None:
    texts = ["天很蓝", "海很深😀"]

    reply = client.result(server, "embeddings", input=texts, encoding_format="float", user="u")

    assert (reply["object"], reply["data"][0]["object"]) == ("list", "embedding")
    # Protobuf leaves zeros out.
    assert [int(entry.get("index", 0)) for entry in reply["data"]] == [0, 1]
    assert [len(entry["embedding"]) for entry in reply["data"]] == [8, 8]
    assert reply["data"][0]["embedding"] != reply["data"][1]["embedding"]
    assert int(reply["usage"]["prompt_tokens"]) == int(reply["usage"]["total_tokens"]) == 7


@cell("tokenization")
def test_tokenization(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text="你好A")

    assert int(reply["total_tokens"]) == 3
    assert reply["tokens"] == ["你", "好", "A"]
    if client.surface == "v2":  # protobuf's types of v1 have no more
        assert reply["token_ids"] == [ord("你"), ord("好"), ord("A")]
        assert reply["offset_mapping"] == [[0, 1], [1, 2], [2, 3]]


@cell("classification")
def test_classification(client: ForeignClient, server: RunningServer) -> None:
    reply = client.result(server, "classification", query="今天真高兴", labels=["积极", "消极"])

    scores = reply["label_logprobos"]
    assert set(scores) == {"积极", "消极"}
    assert all(len(score["tokens"]) == len(score["token_logprobs"]) > 0 for score in scores.values())
    totals = {label: sum(score["token_logprobs"]) for label, score in scores.items()}
    assert reply["label"] == max(totals, key=lambda label: totals[label])
    assert int(reply["usage"]["prompt_tokens"]) > 0


@OPERATIONS
@cell("error 400")
def test_bad_parameter(client: ForeignClient, server: RunningServer, operation: str) -> None:
    refused = refusal(client, server, operation, parameters={"temperature": -1})

    assert refused == ("InvalidParameter", 1709808)
    assert server.backend.requests == []


@OPERATIONS
@cell("error 400")
def test_nothing_asked(client: ForeignClient, server: RunningServer, operation: str) -> None:
    assert refusal(client, server, operation, messages=[]) == ("MissingParameter", 1709807)


@EVERY_OPERATION
@cell("error 401")
def test_wrong_secret(client: ForeignClient, server: RunningServer, operation: str) -> None:
    refused = refusal(client, server, operation, secret_access_key="bm90IHRoZSBzZWNyZXQ=", **ASKED[operation])

    assert refused == ("SignatureDoesNotMatch", 1709801)


@OPERATIONS
@cell("error 401")
def test_unknown_access_key(client: ForeignClient, server: RunningServer, operation: str) -> None:
    refused = refusal(client, server, operation, access_key_id="AKLTnobody")

    assert refused == ("AuthenticationHeaderIsInvalid", 1709805)


@only("v2")
@OPERATIONS
@cell("error 401")
def test_wrong_api_key(client: ForeignClient, server: RunningServer, operation: str) -> None:
    refused = refusal(client, server, operation, api_key="not-a-key")

    assert refused == ("AuthenticationHeaderIsInvalid", 1709805)


@EVERY_OPERATION
@cell("error 404")
def test_unknown_endpoint(client: ForeignClient, server: RunningServer, operation: str) -> None:
    """These two surfaces say 400 for it: what v3 calls 404 is their EndpointIsInvalid."""
    refused = refusal(client, server, operation, endpoint_id="ep-20240701000000-testz", **ASKED[operation])

    assert refused == ("EndpointIsInvalid", 1709810)


@OPERATIONS
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (RateLimited("too many requests", retry_after_s=1), ("EndpointAccountRpmRateLimitExceeded", 1709820)),
        (Overloaded("the waiting line is full", retry_after_s=1), ("ServiceResourceWaitQueueFull", 1709822)),
        (QuotaExhausted("the quota of this endpoint is spent"), ("OperationDenied", 1709835)),
    ],
    ids=["rate", "queue", "quota"],
)
@cell("error 429")
def test_refused_by_a_limit(
    client: ForeignClient, server: RunningServer, operation: str, failure: ArkwayError, expected: tuple[str, int]
) -> None:
    play(server, fails(failure))

    assert refusal(client, server, operation) == expected
    assert len(server.backend.requests) == 1


@only("v2")
@pytest.mark.parametrize("operation", ["quick_gen", "flex_gen"])
def test_what_is_not_served_says_so(client: ForeignClient, server: RunningServer, operation: str) -> None:
    """Images. Of speech the SDK hands out whatever body there is as sound."""
    assert refusal(client, server, operation, prompt="猫") == ("APINotSupport", 1709828)


@cell("mid-stream error")
def test_stream_that_breaks_raises(client: ForeignClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream")

    assert [client.text(frame) for frame in answer["chunks"]] == ["一", "二", "三"]
    assert not any(client.choice(frame).get("finish_reason") for frame in answer["chunks"])
    error = answer["error"]
    assert (error["class"], error["code"], error["code_n"]) == ("MaasException", "InternalServiceError", 1709806)
    assert "the engine stopped" in error["message"].lower()


@OPERATIONS
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (ContextTooLong(9000, 100, 8192), ("InvalidParameter", 1709808)),
        (BackendUnavailable("nothing serves this endpoint just now"), ("ServiceConnectionRefused", 1709816)),
        (BackendTimeout("the engine took too long"), ("InferenceServiceConnetionTimeout", 1709803)),
        (BackendFailed("the engine stopped"), ("InternalServiceError", 1709806)),
    ],
    ids=["length", "unavailable", "timeout", "failed"],
)
def test_failure_before_the_answer(
    client: ForeignClient, server: RunningServer, operation: str, failure: ArkwayError, expected: tuple[str, int]
) -> None:
    play(server, fails(failure))

    assert refusal(client, server, operation) == expected


@OPERATIONS
@cell("session token")
def test_session_token(client: ForeignClient, server: RunningServer, operation: str) -> None:
    pair = {"access_key_id": server.session_access_key_id, "secret_access_key": server.session_secret}

    reply = client.result(server, operation, session_token=server.session_token, **pair)

    assert "".join(client.texts([reply] if operation == "chat" else reply)) == "你好，世界"
    assert server.backend.calls[0].key_id == server.session_access_key_id
    assert refusal(client, server, operation, session_token="STS2another", **pair)[1] in (1709801, 1709805)
    assert refusal(client, server, operation, **pair)[1] in (1709801, 1709804, 1709805)


@only("v2")
@cell("bearer key")
def test_api_key(client: ForeignClient, server: RunningServer) -> None:
    keyless = {"api_key": server.api_key, "access_key_id": "", "secret_access_key": ""}

    assert client.text(client.result(server, "chat", **keyless)) == "你好，世界"
    assert "".join(client.texts(client.result(server, "stream", **keyless))) == "你好，世界"
    assert len(client.result(server, "embeddings", input=["菜"], **keyless)["data"]) == 1
    assert client.result(server, "tokenization", text="菜", **keyless)["total_tokens"] == 1


@cell("cancel")
def test_client_that_leaves_frees_the_backend(client: ForeignClient, server: RunningServer) -> None:
    play(server, endlessly)

    assert client.texts(client.result(server, "abort")) == ["又"] * 3

    assert_freed(server)
    assert len(server.backend.requests) == 1


@cell("heartbeat")
def test_heartbeats_are_passed_over(client: ForeignClient, server: RunningServer) -> None:
    """Comments, which leave no trace in what the SDK surfaces: silence of four heartbeats, then of three."""
    play(server, slowly)
    assert comments(client, server) >= 2

    frames = client.result(server, "stream")

    assert client.texts(frames) == ["你", "好"]
    assert len(frames) <= 3
    assert counts(frames[-1]["usage"]) == (7, 2, 9)


@OPERATIONS
@cell("1-byte chunks")
def test_answer_that_arrives_byte_by_byte(client: ForeignClient, server: RunningServer, operation: str) -> None:
    with DripProxy(server.url) as proxy:
        reply = client.result(server, operation, url=proxy.url)

        assert proxy.sent_bytes > 200
    assert "".join(client.texts([reply] if operation == "chat" else reply)) == "你好，世界"


@OPERATIONS
@cell("1-byte chunks")
def test_refusal_that_arrives_byte_by_byte(client: ForeignClient, server: RunningServer, operation: str) -> None:
    with DripProxy(server.url) as proxy:
        refused = refusal(client, server, operation, url=proxy.url, parameters={"temperature": -1})

    assert refused == ("InvalidParameter", 1709808)


@pytest.mark.parametrize("text", [QUOTED, EMOJI])
@cell("unicode")
def test_unicode_there_and_back(client: ForeignClient, server: RunningServer, text: str) -> None:
    play(server, echoes)
    question = [{"role": "user", "content": text}]

    assert client.text(client.result(server, "chat", messages=question)) == text
    assert "".join(client.texts(client.result(server, "stream", messages=question))) == text
    assert [request.messages[0].text() for request in server.backend.requests] == [text, text]


@only("v2")
def test_text_in_parts(client: ForeignClient, server: RunningServer) -> None:
    parts = [{"type": "text", "text": "天为什么"}, {"type": "text", "text": "这么蓝?"}]

    reply = client.result(server, "chat", messages=[{"role": "user", "content": parts}])

    assert client.text(reply) == "你好，世界"
    assert server.backend.requests[0].messages[0].text() == "天为什么这么蓝?"


@only("v1")
@cell("tool calls")
def test_function_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    functions = [{**FUNCTION, "examples": ["北京天气"]}]

    choice = client.choice(client.result(server, "chat", functions=functions))
    frames = client.result(server, "stream", functions=functions)

    assert choice["finish_reason"] == "function_call"
    call = choice["message"]["function_call"]
    assert (call["name"], json.loads(call["arguments"].encode())) == ("get_weather", {"城市": "北京"})
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
    calls = [client.choice(frame)["message"].get("function_call", {}) for frame in frames]
    assert "".join(call.get("arguments", "") for call in calls) == '{"城市": "北京"}'
    assert [call["name"] for call in calls if call.get("name")] == ["get_weather"]
    assert client.choice(frames[-1])["finish_reason"] == "function_call"


@only("v1")
@cell("tool calls")
def test_function_call_goes_back(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    message = client.choice(client.result(server, "chat", functions=[FUNCTION]))["message"]
    play(server, says("晴"))
    told = {"role": "function", "name": "get_weather", "content": "晴，25 度"}

    turns = [{"role": "user", "content": "北京天气"}, message, told]
    reply = client.result(server, "chat", messages=turns, functions=[FUNCTION])

    assert client.text(reply) == "晴"
    asked = server.backend.requests[1].messages
    assert (asked[1].tool_calls[0].name, asked[1].tool_calls[0].arguments) == ("get_weather", '{"城市": "北京"}')
    assert asked[2].text() == "晴，25 度"


@only("v2")
@cell("tool calls")
def test_tool_call(client: ForeignClient, server: RunningServer) -> None:
    play(server, calls_weather)
    tools = [{"type": "function", "function": FUNCTION, "options": {}}]

    choice = client.choice(client.result(server, "chat", tools=tools))
    frames = client.result(server, "stream", tools=tools)

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "get_weather")
    assert json.loads(call["function"]["arguments"].encode()) == {"城市": "北京"}
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
    pieces = [call for frame in frames for call in client.choice(frame)["message"].get("tool_calls", [])]
    assert "".join(piece["function"].get("arguments") or "" for piece in pieces) == '{"城市": "北京"}'
    assert client.choice(frames[-1])["finish_reason"] == "tool_calls"


def test_logprobs(client: ForeignClient, server: RunningServer) -> None:
    play(server, scores_words)

    logprobs = client.choice(client.result(server, "chat", parameters={"logprobs": 2}))["logprobs"]
    frames = client.result(server, "stream", parameters={"logprobs": 2})

    assert logprobs["tokens"] == ["你好", "世界"]
    assert logprobs["token_logprobs"] == [-0.25, -0.5]
    assert [int(offset) for offset in logprobs["text_offset"]] == [0, 2]
    asked = server.backend.requests[0]
    assert (asked.logprobs, asked.top_logprobs) == (True, 2)
    scored = [client.choice(frame).get("logprobs", {}) for frame in frames]
    assert [token for one in scored for token in one.get("tokens", [])] == ["你好", "世界"]


@only("v2")
def test_logit_bias(client: ForeignClient, server: RunningServer) -> None:
    token = client.result(server, "tokenization", text="好")["token_ids"][0]

    reply = client.result(server, "chat", parameters={"logit_bias": {str(token): -100.0}})

    assert client.text(reply) == "你好，世界"
    assert server.backend.requests[0].sampling.logit_bias == {ord("好"): -100}


@only("v1")
def test_name_of_a_retired_model(client: ForeignClient, server: RunningServer) -> None:
    for model in ({"name": "skylark-chat"}, {"name": "skylark-pro-public", "version": "1.0"}):
        assert client.text(client.result(server, "chat", model=model)) == "你好，世界"
