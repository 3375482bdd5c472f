"""Canonical requests to upstream bodies: everything is said or named as dropped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    without_ignored,
)
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v3 import fields as v3_fields
from arkway.wire import json
from arkway.wire.openai_shape.outgoing import (
    NEVER_PASSED,
    Kind,
    chat_body,
    dropped,
    embed_body,
    passed,
    tokenization_body,
    tokenize_body,
)
from arkway.wire.openai_shape.request import CHAT_FIELDS, chat_request

HI = (Message("user", "hi"),)


def body_of(request: ChatRequest, kind: Kind = "openai") -> dict[str, Any]:
    return json.load_object(chat_body(request, "served", kind).body)


def test_a_plain_call() -> None:
    assert body_of(ChatRequest("ep-1", HI)) == {"model": "served", "messages": [{"role": "user", "content": "hi"}]}


def test_a_stream_asks_for_its_usage() -> None:
    request = ChatRequest("ep-1", HI, stream=True)
    assert body_of(request)["stream_options"] == {"include_usage": True}
    assert body_of(request)["stream"] is True


def test_a_running_usage_is_asked_of_ark_and_dropped_elsewhere() -> None:
    request = ChatRequest("ep-1", HI, stream=True, wants_running_usage=True)
    assert body_of(request, "ark")["stream_options"] == {"include_usage": True, "chunk_include_usage": True}
    assert dropped(request, "ark") == ()
    assert body_of(request)["stream_options"] == {"include_usage": True}
    assert dropped(request, "openai") == ("stream_options.chunk_include_usage",)


SAMPLING = Sampling(0.5, 0.9, 40, 0.1, -0.1, 1.1, 7, ("a", "b"), {15: -100.0, 16: 2.5})
SAMPLED = {
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.1, "presence_penalty": -0.1,
    "repetition_penalty": 1.1, "seed": 7, "stop": ["a", "b"], "logit_bias": {"15": -100.0, "16": 2.5},
}  # fmt: skip


def test_sampling() -> None:
    body = body_of(ChatRequest("ep-1", HI, sampling=SAMPLING))
    assert {name: body[name] for name in SAMPLED} == SAMPLED


def test_ark_has_no_top_k() -> None:
    request = ChatRequest("ep-1", HI, sampling=SAMPLING, parameter_prefix="parameters.")
    assert "top_k" not in body_of(request, "ark")
    assert chat_body(request, "served", "ark").dropped == ("parameters.top_k",)


@pytest.mark.parametrize(
    ("field", "wire"),
    [
        ("max_tokens", "max_tokens"),
        ("max_completion_tokens", "max_completion_tokens"),
        ("parameters.max_new_tokens", "max_tokens"),
    ],
)
def test_the_limit_keeps_its_name_where_there_is_one(field: str, wire: str) -> None:
    assert body_of(ChatRequest("ep-1", HI, max_tokens=5, max_tokens_field=field))[wire] == 5


def test_logprobs_answers_user() -> None:
    body = body_of(ChatRequest("ep-1", HI, logprobs=True, top_logprobs=3, n=2, user="u"))
    assert (body["logprobs"], body["top_logprobs"], body["n"], body["user"]) == (True, 3, 2, "u")


def test_tools() -> None:
    tools = (Tool("f", "does f", {"type": "object"}), Tool("g"))
    body = body_of(ChatRequest("ep-1", HI, tools=tools, tool_choice=ToolChoice("named", "g")))
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g"}},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize("mode", ["none", "required"])
def test_how_tools_are_chosen(mode: Any) -> None:
    request = ChatRequest("ep-1", HI, tools=(Tool("f"),), tool_choice=ToolChoice(mode))
    assert body_of(request)["tool_choice"] == mode
    assert "tool_choice" not in body_of(msgspec.structs.replace(request, tool_choice=ToolChoice()))


def test_formats() -> None:
    wanted = ResponseFormat("json_schema", {"type": "object"}, "person", True)
    body = body_of(ChatRequest("ep-1", HI, response_format=wanted))
    schema = {"name": "person", "schema": {"type": "object"}, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    body = body_of(ChatRequest("ep-1", HI, response_format=ResponseFormat("json_object")))
    assert body["response_format"] == {"type": "json_object"}


def test_messages_of_every_kind() -> None:
    messages = (
        Message("system", "s"),
        Message(
            "user", (TextPart("look"), ImagePart("data:image/png;base64,AA"), ImagePart("https://x/y", "low")), "Bo"
        ),
        Message("assistant", None, tool_calls=(ToolCall("c1", "f", "{}"),)),
        Message("tool", "42", tool_call_id="c1"),
    )
    assert body_of(ChatRequest("ep-1", messages))["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "name": "Bo",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]


def test_the_older_form_of_calls_becomes_the_newer() -> None:
    messages = (
        Message("assistant", None, tool_calls=(ToolCall("", "f", "1"),)),
        Message("function", "one", "f"),
        Message("assistant", "", tool_calls=(ToolCall("", "f", "2"), ToolCall("", "g", "3"))),
        Message("function", "three", "g"),
        Message("function", "two", "f"),
    )
    turns = body_of(ChatRequest("ep-1", messages, legacy_functions=True))["messages"]
    ids = [call["id"] for turn in turns for call in turn.get("tool_calls", ())]
    assert len({*ids}) == 3
    assert [turn.get("tool_call_id") for turn in turns] == [None, ids[0], None, ids[2], ids[1]]
    assert {turn["role"] for turn in turns} == {"assistant", "tool"}


def test_a_result_without_a_call_has_an_id_all_the_same() -> None:
    (turn,) = body_of(ChatRequest("ep-1", (Message("function", "1", "f"),)))["messages"]
    assert (turn["role"], bool(turn["tool_call_id"])) == ("tool", True)


def test_what_utf8_cannot_carry_becomes_a_mark() -> None:
    (turn,) = body_of(ChatRequest("ep-1", (Message("user", "a\ud800b"),)))["messages"]
    assert turn["content"] == "a\ufffdb"


def asked(**more: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    return chat_request(openai_fields.CHAT, json.load_object(json.dumps(body)))


def test_extras_are_ignored_here_and_go_along_upstream() -> None:
    extras = {"min_p": 0.05, "parallel_tool_calls": False, "thinking": {"type": "disabled"}, "guided_json": {"a": [1]}}
    request = asked(**extras, service_tier=None)
    assert request.extras == extras
    assert set(request.ignored) == set(passed(request)) == set(extras)
    assert body_of(request).items() >= extras.items()
    assert without_ignored(request, passed(request)).ignored == ()


@pytest.mark.parametrize("name", sorted(NEVER_PASSED - {f.name for f in CHAT_FIELDS}))
def test_what_one_of_many_callers_must_not_say_is_not_passed(name: str) -> None:
    request = asked(**{name: 1})
    assert passed(request) == ()
    assert name not in body_of(request)
    assert request.ignored == (name,)


def test_extras_override_nothing() -> None:
    request = ChatRequest("ep-1", HI, sampling=Sampling(top_k=3), extras={"model": "x", "messages": [], "top_k": 9})
    body = body_of(request)
    assert (body["model"], body["top_k"], len(body["messages"])) == ("served", 3, 1)
    assert chat_body(request, "served", "openai").body.count(b'"model"') == 1


@pytest.mark.parametrize(
    "name", ["Model", "MAX_TOKENS", "Stream", "nPredict", "service_Tier", "\u017ftream", "_x", "x y", ""]
)
def test_servers_that_do_not_tell_case_apart_hear_nothing_twice(name: str) -> None:
    request = asked(**{name: 1})
    assert passed(request) == ()
    assert body_of(request).keys() == body_of(asked()).keys()


def test_extras_are_bounded() -> None:
    request = asked(**{f"x{number}": 1 for number in range(100)}, **{"y" * 65: 1})
    assert len(passed(request)) == 64
    assert "y" * 65 not in body_of(request)


def test_every_field_of_a_request_is_mapped() -> None:
    """A field that is added to the canonical request has to be thought of here."""
    elsewhere = {
        "asked", "asked_version", "max_tokens_field", "wants_usage", "legacy_functions", "ignored", "clamped",
        "crypto_token", "client_request_id", "clamp_max_tokens", "parameter_prefix", "asker", "wants_intention",
    }  # fmt: skip
    other: dict[str, Any] = {
        "messages": (Message("user", "other"),), "sampling": SAMPLING, "max_tokens": 9, "logprobs": True, "n": 2,
        "stream": True, "tools": (Tool("f"),), "response_format": ResponseFormat("json_object"), "user": "u",
        "extras": {"min_p": 1},
    }  # fmt: skip
    together: dict[str, dict[str, Any]] = {
        "top_logprobs": {"logprobs": True, "top_logprobs": 2},
        "wants_running_usage": {"stream": True, "wants_running_usage": True},
        "tool_choice": {"tools": (Tool("f"),), "tool_choice": ToolChoice("required")},
    }
    fields = {field.name for field in msgspec.structs.fields(ChatRequest)}
    assert fields == elsewhere | other.keys() | together.keys()
    plain = ChatRequest("ep-1", HI)
    for name, value in other.items():
        assert body_of(msgspec.structs.replace(plain, **{name: value})) != body_of(plain), name
    for name, values in together.items():
        less = msgspec.structs.replace(plain, **{key: value for key, value in values.items() if key != name})
        assert body_of(msgspec.structs.replace(plain, **values), "ark") != body_of(less, "ark"), name


@given(st.lists(st.text(), min_size=1), st.floats(0, 2), st.integers(1, 10**6))
def test_what_is_sent_says_what_was_asked(texts: list[str], temperature: float, limit: int) -> None:
    request = ChatRequest(
        "m", tuple(Message("user", text) for text in texts), Sampling(temperature=temperature), max_tokens=limit
    )
    back = chat_request(v3_fields.CHAT, body_of(request))
    assert (back.messages, back.sampling, back.max_tokens) == (request.messages, request.sampling, limit)


def test_embeddings_and_tokens() -> None:
    request = EmbedRequest("m", ("a", "b"), "base64", 256, "u")
    assert json.loads(embed_body(request, "served").body) == {
        "model": "served", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256, "user": "u",
    }  # fmt: skip
    assert json.loads(embed_body(EmbedRequest("m", ("a",)), "served").body) == {"model": "served", "input": ["a"]}
    tokens = TokenizeRequest("m", ("a", "b"))
    assert json.loads(tokenization_body(tokens, "served")) == {"model": "served", "text": ["a", "b"]}
    one = json.loads(tokenize_body("a", "served"))
    assert (one["prompt"], one["content"], one["add_special_tokens"], one["with_pieces"]) == ("a", "a", False, True)
