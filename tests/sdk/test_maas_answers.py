"""What the official Python SDKs of MaaS v1 and v2 make of good answers. The clients are unmodified."""

from __future__ import annotations

from typing import Any

import pytest

from arkway.core.chat import Message
from arkway.testing import RunningServer, echoes, says
from arkway.wire import json
from tests.sdk.cells import cell
from tests.sdk.conftest import QUESTION, MaasClient, on_maas, on_v1, on_v2
from tests.sdk.scenes import calls_weather, play, scores_words
from tests.tools.drip import DripProxy

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
FUNCTION = {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS}
TURNS = [
    {"role": "user", "content": "天为什么这么蓝?"},
    {"role": "assistant", "content": "因为有你"},
    {"role": "user", "content": "花儿为什么这么香?"},
]
# A flag, a family and a skin tone of several code points each, and the separators that end lines in JavaScript.
MANY_SCRIPTS = "云雀🐦👩‍👩‍👧🇨🇳👋🏽 é\u2028ü\u0085ß\u2029終"
NAMES = (
    "skylark-chat",
    "skylark-lite-public",
    "skylark-plus-public",
    "skylark-pro-public",
    "skylark-pro",
    "skylark2-pro-4k",
    "skylark2-pro-32k",
    "skylark2-pro-turbo-8k",
    "skylark2-lite-8k",
    "Skylark2-pro-character-4k",
    "chatglm-6b-model",
    "chatglm2-pro",
    "moonshot-v1-8k",
    "moonshot-v1-32k",
    "moonshot-v1-128k",
)


def counts(usage: dict[str, Any]) -> tuple[int, int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]


@on_maas
@cell("chat")
def test_chat(client: MaasClient, server: RunningServer) -> None:
    parameters = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_new_tokens": 64, "stop": ["完"]}

    reply = client.result(server, "chat", {"messages": TURNS, "parameters": parameters})

    choice = client.choices(reply)[0]
    assert choice["message"] == {"role": "assistant", "content": "你好，世界"}
    assert choice["finish_reason"] == "stop"
    assert counts(reply["usage"]) == (7, 3, 10)
    assert "error" not in reply
    request = server.backend.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.5, 0.9, 40, ("完",))
    assert request.max_tokens == 64
    assert [(message.role, message.text()) for message in request.messages] == [
        (turn["role"], turn["content"]) for turn in TURNS
    ]


@on_maas
@cell("stream")
def test_stream(client: MaasClient, server: RunningServer) -> None:
    frames = client.result(server, "stream", {"messages": TURNS})

    assert [text for text in client.texts(frames) if text] == ["你好", "，", "世界"]
    reasons = [client.choices(frame)[0].get("finish_reason") for frame in frames]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])
    assert client.choices(frames[0])[0]["message"]["role"] == "assistant"
    assert server.backend.requests[0].stream


@on_maas
@cell("usage")
def test_usage_comes_with_the_last_message(client: MaasClient, server: RunningServer) -> None:
    frames = client.result(server, "stream")

    assert counts(frames[-1]["usage"]) == (7, 3, 10)
    assert not any(frame.get("usage") for frame in frames[:-1])
    assert isinstance(client.text(frames[-1]), str)


@on_maas
def test_request_id(client: MaasClient, server: RunningServer) -> None:
    answer = client.ask(server, "chat")

    exchange = answer["exchanges"][0]
    ours = server.backend.calls[0].request_id
    assert exchange["answered"]["x-tt-logid"] == exchange["answered"]["x-request-id"] == ours
    # The SDK of v2 puts its own id in the answer.
    assert answer["result"]["req_id"] == (ours if client.surface == "v1" else exchange["sent"]["x-tt-logid"])


@on_maas
def test_cut_by_its_limit(client: MaasClient, server: RunningServer) -> None:
    play(server, says("一", "二", reason="length"))
    request = {"messages": QUESTION, "parameters": {"max_tokens": 2}}

    assert client.choices(client.result(server, "chat", request))[0]["finish_reason"] == "length"
    assert client.choices(client.result(server, "stream", request)[-1])[0]["finish_reason"] == "length"
    assert server.backend.requests[0].max_tokens == 2


@on_maas
@cell("unicode")
def test_every_script(client: MaasClient, server: RunningServer) -> None:
    play(server, echoes)
    request = {"messages": [{"role": "user", "content": MANY_SCRIPTS}]}

    assert client.text(client.result(server, "chat", request)) == MANY_SCRIPTS
    assert "".join(client.texts(client.result(server, "stream", request))) == MANY_SCRIPTS
    assert server.backend.requests[0].messages[0].text() == MANY_SCRIPTS


@on_maas
@cell("1-byte chunks")
def test_bytes_one_by_one(client: MaasClient, server: RunningServer) -> None:
    play(server, says("云雀", "🐦", "好"))
    with DripProxy(server.url) as proxy:
        reply = client.result(server, "chat", url=proxy.url)
        frames = client.result(server, "stream", url=proxy.url)

    assert client.text(reply) == "云雀🐦好"
    assert [text for text in client.texts(frames) if text] == ["云雀", "🐦", "好"]
    assert counts(frames[-1]["usage"]) == (7, 3, 10)
    assert proxy.sent_bytes > 500


@on_maas
@cell("session token")
def test_session_token(client: MaasClient, server: RunningServer) -> None:
    pair = {
        "access_key_id": server.session_access_key_id,
        "secret_access_key": server.session_secret,
        "session_token": server.session_token,
    }

    answer = client.ask(server, "chat", **pair)

    assert client.text(answer["result"]) == "你好，世界"
    assert "x-security-token" in answer["exchanges"][0]["sent"]["authorization"]
    assert "".join(client.texts(client.result(server, "stream", **pair))) == "你好，世界"
    assert {call.key_id for call in server.backend.calls} == {server.session_access_key_id}


@on_v2
@cell("bearer key")
def test_api_key(client: MaasClient, server: RunningServer) -> None:
    answer = client.ask(server, "chat", api_key=server.api_key)

    assert client.text(answer["result"]) == "你好，世界"
    sent = answer["exchanges"][0]["sent"]
    assert sent["authorization"] == f"Bearer {server.api_key}"
    assert "x-date" not in sent
    assert "".join(client.texts(client.result(server, "stream", api_key=server.api_key))) == "你好，世界"
    assert len(client.result(server, "embeddings", {"input": ["菜"]}, api_key=server.api_key)["data"]) == 1


@on_maas
@cell("embeddings")
def test_embeddings(client: MaasClient, server: RunningServer) -> None:
    texts = ["花椰菜又称菜花、花菜，是一种常见的蔬菜。", "卷心菜"]

    reply = client.result(server, "embeddings", {"input": texts, "encoding_format": "float", "user": "u"})

    assert reply["object"] == "list"
    assert [(entry["index"], entry["object"]) for entry in reply["data"]] == [(0, "embedding"), (1, "embedding")]
    assert [len(entry["embedding"]) for entry in reply["data"]] == [8, 8]
    assert reply["data"][0]["embedding"] != reply["data"][1]["embedding"]
    assert counts(reply["usage"]) == (sum(map(len, texts)), 0, sum(map(len, texts)))


@on_maas
@cell("tokenization")
def test_tokenization(client: MaasClient, server: RunningServer) -> None:
    reply = client.result(server, "tokenize", {"text": "你好A"})

    assert reply["total_tokens"] == 3
    assert reply["token_ids"] == [ord("你"), ord("好"), ord("A")]
    assert reply["offset_mapping"] == [[0, 1], [1, 2], [2, 3]]
    assert reply["tokens"] == ["你", "好", "A"]


@on_maas
@cell("classification")
def test_classification(client: MaasClient, server: RunningServer) -> None:
    reply = client.result(server, "classification", {"query": "今天真高兴", "labels": ["积极", "消极"]})

    scores = reply["label_logprobos"]
    assert set(scores) == {"积极", "消极"}
    assert all(len(score["tokens"]) == len(score["token_logprobs"]) > 0 for score in scores.values())
    totals = {label: sum(score["token_logprobs"]) for label, score in scores.items()}
    assert reply["label"] == max(totals, key=lambda label: totals[label])
    assert reply["usage"]["prompt_tokens"] > 0
    assert all(type(count) is int for count in reply["usage"].values())


@on_v1
@cell("tool calls")
def test_function_call(client: MaasClient, server: RunningServer) -> None:
    play(server, calls_weather)
    example = {"user_query": "北京天气", "function_call": {"name": "get_weather", "arguments": "{}"}}
    functions = [{**FUNCTION, "examples": [example]}]

    choice = client.choices(client.result(server, "chat", {"messages": QUESTION, "functions": functions}))[0]
    frames = client.result(server, "stream", {"messages": QUESTION, "functions": functions})

    assert choice["finish_reason"] == "function_call"
    call = choice["message"]["function_call"]
    assert (call["name"], json.loads(call["arguments"].encode())) == ("get_weather", {"城市": "北京"})
    assert server.backend.requests[0].tools[0].parameters == PARAMETERS
    streamed = [client.choices(frame)[0] for frame in frames]
    calls = [choice["message"].get("function_call") or {} for choice in streamed]
    assert "".join(call.get("arguments", "") for call in calls) == '{"城市": "北京"}'
    assert [call["name"] for call in calls if call.get("name")] == ["get_weather"]
    assert streamed[-1]["finish_reason"] == "function_call"


@on_v1
@cell("tool calls")
def test_function_call_goes_back(client: MaasClient, server: RunningServer) -> None:
    play(server, says("晴"))
    call = {"name": "get_weather", "arguments": '{"城市": "北京"}'}
    turns = [
        {"role": "user", "content": "北京天气"},
        {"role": "assistant", "content": "", "function_call": call},
        {"role": "function", "name": "get_weather", "content": "晴，25 度"},
    ]

    reply = client.result(server, "chat", {"messages": turns, "functions": [FUNCTION]})

    assert client.text(reply) == "晴"
    asked: tuple[Message, ...] = server.backend.requests[0].messages
    assert (asked[1].tool_calls[0].name, asked[1].tool_calls[0].arguments) == tuple(call.values())
    assert asked[2].text() == "晴，25 度"


@on_v2
@cell("tool calls")
def test_tool_call(client: MaasClient, server: RunningServer) -> None:
    play(server, calls_weather)
    request = {"messages": QUESTION, "tools": [{"type": "function", "function": FUNCTION, "options": {}}]}

    choice = client.choices(client.result(server, "chat", request))[0]
    frames = client.result(server, "stream", request)

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "get_weather")
    assert json.loads(call["function"]["arguments"].encode()) == {"城市": "北京"}
    assert server.backend.requests[0].tools[0].description == "查询天气"
    pieces = [call for frame in frames for call in client.choices(frame)[0]["message"].get("tool_calls") or []]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"城市": "北京"}'
    assert client.choices(frames[-1])[0]["finish_reason"] == "tool_calls"


@on_v2
@cell("tool calls")
def test_tool_call_goes_back(client: MaasClient, server: RunningServer) -> None:
    play(server, calls_weather)
    tools = [{"type": "function", "function": FUNCTION}]
    message = client.choices(client.result(server, "chat", {"messages": QUESTION, "tools": tools}))[0]["message"]
    play(server, says("晴"))

    turns = [*QUESTION, message, {"role": "tool", "content": "晴，25 度", "tool_call_id": "call_1"}]
    reply = client.result(server, "chat", {"messages": turns, "tools": tools})

    assert client.text(reply) == "晴"
    asked = server.backend.requests[1].messages
    assert asked[1].tool_calls[0].id == asked[2].tool_call_id == "call_1"


@on_v2
def test_content_in_parts(client: MaasClient, server: RunningServer) -> None:
    parts = [{"type": "text", "text": "天为什么"}, {"type": "text", "text": "这么蓝?"}]

    assert client.text(client.result(server, "chat", {"messages": [{"role": "user", "content": parts}]}))
    assert "天为什么" in server.backend.requests[0].messages[0].text()
    assert "这么蓝?" in server.backend.requests[0].messages[0].text()


@on_maas
def test_logprobs_are_parallel_arrays(client: MaasClient, server: RunningServer) -> None:
    play(server, scores_words)
    request = {"messages": QUESTION, "parameters": {"logprobs": 2}}

    logprobs = client.choices(client.result(server, "chat", request))[0]["logprobs"]
    frames = client.result(server, "stream", request)

    assert logprobs["tokens"] == ["你好", "世界"]
    assert logprobs["token_logprobs"] == [-0.25, -0.5]
    assert logprobs["text_offset"] == [0, 2]
    assert logprobs["top_logprobs"] == [{"你好": -0.25, "您好": -1.5}, {"世界": -0.5, "大家": -3.0}]
    asked = server.backend.requests[0]
    assert (asked.logprobs, asked.top_logprobs) == (True, 2)
    scored = [client.choices(frame)[0].get("logprobs") or {} for frame in frames]
    assert [token for one in scored for token in one.get("tokens", [])] == ["你好", "世界"]


@on_maas
def test_logit_bias(client: MaasClient, server: RunningServer) -> None:
    token = client.result(server, "tokenize", {"text": "好"})["token_ids"][0]
    request = {"messages": QUESTION, "parameters": {"logit_bias": {str(token): -100}}}

    assert client.text(client.result(server, "chat", request)) == "你好，世界"
    assert server.backend.requests[0].sampling.logit_bias == {ord("好"): -100}


@on_v1
@pytest.mark.parametrize("version", ["", "1.0"])
def test_names_of_retired_models(client: MaasClient, server: RunningServer, version: str) -> None:
    for name in NAMES:
        model = {"name": name, "version": version} if version else {"name": name}
        assert client.text(client.result(server, "chat", {"model": model, "messages": QUESTION})) == "你好，世界", name


@on_v2
def test_names_of_retired_models_as_endpoints(client: MaasClient, server: RunningServer) -> None:
    for name in NAMES:
        assert client.text(client.result(server, "chat", endpoint_id=name)) == "你好，世界", name


@on_maas
def test_what_real_callers_send(client: MaasClient, server: RunningServer) -> None:
    parameters = {
        "temperature": 0,
        "max_new_tokens": 4000,
        "min_new_tokens": 1,
        "max_prompt_tokens": 4000,
        "top_k": 16,
        "top_p": 0.8,
        "repetition_penalty": 1.1,
        "do_sample": True,
        "stop": "完",
    }
    turns = [{"role": "system", "content": "简短回答"}, *TURNS, {"role": "assistant", "content": "香"}]

    answer = client.ask(server, "chat", {"messages": [*turns, *QUESTION, *QUESTION], "parameters": parameters})

    assert client.text(answer["result"]) == "你好，世界"
    request = server.backend.requests[0]
    assert (request.sampling.temperature, request.max_tokens, request.sampling.top_k) == (0, 4000, 16)
    assert request.sampling.stop == ("完",)
    assert len(request.messages) == 7


@on_maas
def test_what_had_no_effect_is_told(client: MaasClient, server: RunningServer) -> None:
    answer = client.ask(
        server, "chat", {"messages": QUESTION, "parameters": {"guidance": 1.5}, "plugins": ["browsing"]}
    )

    assert client.text(answer["result"]) == "你好，世界"
    ignored = answer["exchanges"][0]["answered"]["x-arkway-ignored"].split(", ")
    assert {"parameters.guidance", "plugins"} <= set(ignored)
