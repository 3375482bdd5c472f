"""What every client makes of good answers. The clients are unmodified; the backend is scripted."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from typing import Any

import pytest

from arkway.core.chat import ToolCall, ToolChoice
from arkway.testing import CHAT_CARD, RunningServer, says
from tests.sdk.cells import cell
from tests.sdk.conftest import Client, only
from tests.sdk.scenes import calls_weather, play, scores_emoji

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

PARAMETERS = {"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS},
}
OPTIONAL = (
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "presence_penalty",
    "response_format",
    "stop",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
)


def counts(usage: dict[str, Any]) -> tuple[int, int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]


def text_of(chunks: Iterable[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"]["content"] or "" for chunk in chunks if chunk["choices"])


@cell("chat")
@cell("bearer key")
def test_chat(client: Client, server: RunningServer) -> None:
    completion = client.result(server, "chat", temperature=0.5, max_tokens=64, stop=["完"])

    choice = completion["choices"][0]
    assert choice["message"]["content"] == "你好，世界"
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert completion["model"] == CHAT_CARD.served_name
    assert completion["id"] == server.backend.calls[0].request_id
    assert counts(completion["usage"]) == (7, 3, 10)
    request = server.backend.requests[0]
    assert (request.sampling.temperature, request.max_tokens, request.sampling.stop) == (0.5, 64, ("完",))
    assert request.messages[0].text() == "你好"


@cell("stream")
def test_stream(client: Client, server: RunningServer) -> None:
    chunks = client.result(server, "stream")

    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks[:3]] == ["你好", "，", "世界"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {chunk["id"] for chunk in chunks} == {server.backend.calls[0].request_id}
    assert all(chunk["usage"] is None for chunk in chunks)


@cell("usage")
def test_stream_with_usage(client: Client, server: RunningServer) -> None:
    chunks = client.result(server, "stream", stream_options={"include_usage": True})

    assert text_of(chunks) == "你好，世界"
    assert chunks[-1]["choices"] == []
    assert counts(chunks[-1]["usage"]) == (7, 3, 10)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_running_usage(client: Client, server: RunningServer) -> None:
    options = {"include_usage": True, "chunk_include_usage": True}
    chunks = client.result(server, "stream", extra_body={"stream_options": options})

    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 3, 3]


def test_cut_by_its_limit(client: Client, server: RunningServer) -> None:
    play(server, says("一", "二", reason="length"))

    assert client.result(server, "chat", max_tokens=2)["choices"][0]["finish_reason"] == "length"
    assert client.result(server, "stream", max_tokens=2)[-1]["choices"][0]["finish_reason"] == "length"


def test_nulls_mean_nothing(client: Client, server: RunningServer) -> None:
    plain = client.result(server, "raw")
    nulls = client.result(server, "raw", extra_body=dict.fromkeys(OPTIONAL))

    assert '"temperature":null' in nulls["body"].replace(": ", ":")
    assert nulls["reply"]["choices"] == plain["reply"]["choices"]
    assert server.backend.requests[0] == server.backend.requests[1]


@cell("tool calls")
def test_tool_call(client: Client, server: RunningServer) -> None:
    play(server, calls_weather)
    wanted = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}

    # The SDK of 2024 does not know the parameter, but lets it be sent.
    options = {"extra_body": wanted} if client.name == "ark-2024" else wanted
    choice = client.result(server, "chat", tools=[WEATHER], **options)["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["type"]) == ("call_1", "function")
    assert call["function"] == {"name": "get_weather", "arguments": '{"城市": "北京"}'}
    request = server.backend.requests[0]
    assert request.tools[0].parameters == PARAMETERS
    assert request.tool_choice == ToolChoice("named", "get_weather")


@cell("tool calls")
def test_tool_call_in_a_stream(client: Client, server: RunningServer) -> None:
    play(server, calls_weather)

    chunks = client.result(server, "stream", tools=[WEATHER])

    pieces = [call for chunk in chunks for call in chunk["choices"][0]["delta"]["tool_calls"] or []]
    assert [piece["index"] for piece in pieces] == [0, 0, 0]
    assert (pieces[0]["id"], pieces[0]["function"]["name"]) == ("call_1", "get_weather")
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"城市": "北京"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@cell("tool calls")
def test_tool_call_goes_back_as_the_sdk_gave_it(client: Client, server: RunningServer) -> None:
    play(server, calls_weather)
    message = client.result(server, "chat", tools=[WEATHER])["choices"][0]["message"]
    play(server, says("晴"))

    turns = [
        {"role": "user", "content": "北京天气"},
        message,
        {"role": "tool", "content": "晴，25 度", "tool_call_id": "call_1"},
    ]
    completion = client.result(server, "chat", tools=[WEATHER], messages=turns)

    assert completion["choices"][0]["message"]["content"] == "晴"
    asked = server.backend.requests[1].messages
    assert asked[1].tool_calls == (ToolCall("call_1", "get_weather", '{"城市": "北京"}'),)
    assert (asked[2].role, asked[2].tool_call_id) == ("tool", "call_1")


def test_logprobs(client: Client, server: RunningServer) -> None:
    play(server, scores_emoji)

    completion = client.result(server, "chat", logprobs=True, top_logprobs=1)

    entries = completion["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in entries] == [-0.25, -0.5]
    assert bytes(octet for entry in entries for octet in entry["bytes"]).decode() == "😀"
    assert entries[1]["top_logprobs"][0]["token"] == "好"
    assert len(entries) == completion["usage"]["completion_tokens"]


def test_logprobs_in_a_stream(client: Client, server: RunningServer) -> None:
    play(server, scores_emoji)

    chunks = client.result(server, "stream", logprobs=True, top_logprobs=1)

    scored = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    entries = [entry for logprobs in scored if logprobs for entry in logprobs["content"]]
    assert bytes(octet for entry in entries for octet in entry["bytes"]).decode() == "😀"
    assert text_of(chunks) == "😀"


@cell("embeddings")
def test_embeddings(client: Client, server: RunningServer) -> None:
    texts = ["花椰菜又称菜花、花菜，是一种常见的蔬菜。", "卷心菜"]
    many = client.result(server, "embeddings", input=texts, encoding_format="float")
    one = client.result(server, "embeddings", input=texts[1], encoding_format="float")

    assert [entry["index"] for entry in many["data"]] == [0, 1]
    assert [len(entry["embedding"]) for entry in many["data"]] == [8, 8]
    assert one["data"][0]["embedding"] == many["data"][1]["embedding"] != many["data"][0]["embedding"]
    assert many["usage"]["prompt_tokens"] == many["usage"]["total_tokens"] == sum(map(len, texts))


def test_embeddings_in_base64(client: Client, server: RunningServer) -> None:
    numbers = client.result(server, "embeddings", input=["菜"], encoding_format="float")["data"][0]["embedding"]
    coded = client.result(server, "embeddings", input=["菜"], encoding_format="base64")["data"][0]["embedding"]
    default = client.result(server, "embeddings", input=["菜"])["data"][0]["embedding"]

    assert list(struct.unpack("<8f", base64.b64decode(coded))) == numbers
    assert default == numbers  # OpenAI's SDK asks for base64 by itself and decodes it


@only("ark", "arkruntime")
@cell("tokenization")
def test_tokenization(client: Client, server: RunningServer) -> None:
    reply = client.result(server, "tokenization", text=["你好", "A"])

    assert [(entry["index"], entry["total_tokens"]) for entry in reply["data"]] == [(0, 2), (1, 1)]
    assert reply["data"][0]["token_ids"] == [ord("你"), ord("好")]
    assert reply["data"][0]["offset_mapping"] == [[0, 1], [1, 2]]
    assert client.result(server, "tokenization", text="A")["data"][0]["token_ids"] == [ord("A")]


@only("openai")
def test_models(client: Client, server: RunningServer) -> None:
    names = [entry["id"] for entry in client.result(server, "models")]

    assert {CHAT_CARD.name, server.endpoint_id, server.embedding_endpoint_id} <= set(names)
    assert client.result(server, "model", model=CHAT_CARD.name)["id"] == CHAT_CARD.name
    on_v3 = client.result(server, "models", base_url=f"{server.url}/api/v3")
    assert [entry["id"] for entry in on_v3] == [server.endpoint_id, server.embedding_endpoint_id]


@only("openai")
def test_openai_sdk_on_ark_v3(client: Client, server: RunningServer) -> None:
    base_url = f"{server.url}/api/v3"

    assert client.result(server, "chat", base_url=base_url)["choices"][0]["message"]["content"] == "你好，世界"
    assert text_of(client.result(server, "stream", base_url=base_url)) == "你好，世界"
    assert len(client.result(server, "embeddings", base_url=base_url, input="菜")["data"][0]["embedding"]) == 8


@only("openai")
def test_openai_takes_model_names(client: Client, server: RunningServer) -> None:
    assert client.result(server, "chat", model=CHAT_CARD.name)["model"] == CHAT_CARD.served_name


def test_request_id_comes_back(client: Client, server: RunningServer) -> None:
    own = client.result(server, "raw", extra_headers={"X-Client-Request-Id": "my-own-id-1"})
    assert own["answered"]["x-client-request-id"] == "my-own-id-1"
    assert own["answered"]["x-request-id"] == own["reply"]["id"] == server.backend.calls[0].request_id

    made = client.result(server, "raw")
    if client.is_ark:
        assert made["answered"]["x-client-request-id"] == made["sent"]["x-client-request-id"]
