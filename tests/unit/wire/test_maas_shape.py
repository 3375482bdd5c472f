"""What leaves v1 and v2, against what the SDKs were measured to take, and against what the strictest of them knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core import errors as e
from arkway.core.chat import ChatReply, ChatRequest, Choice, LogprobEntry, ReplyTag, TokenLogprob, Usage
from arkway.core.events import Delta, Event, Finished, ToolDelta
from arkway.core.raw import RawRequest, Tap
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v2 import MaasV2
from arkway.ports import Dialect
from arkway.wire import json, sse
from arkway.wire.codes import Code
from arkway.wire.maas_shape import errors
from arkway.wire.maas_shape.reply import LogprobArrays
from tests.wire.scripts import ERRORS, ReversingSealing

GOLDEN = Path(__file__).parents[2] / "wire"
TAG = ReplyTag("20261121SRV", 1719792000, "m-1")
REQUEST = ChatRequest("ep-1", (), stream=True)
USAGE = Usage(18, 2, cached_tokens=7, reasoning_tokens=1)
FINISH = ',"finish_reason":"stop"'
COUNTS = '"usage":{"prompt_tokens":18,"completion_tokens":2,"total_tokens":20}'


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


def raw(headers: Mapping[str, str] = {}, path: str = "/api/v2/endpoint/ep-1/chat") -> RawRequest:
    return RawRequest("POST", path, "", headers, "id", 0, _no_body)


JAVA = raw({"user-agent": "volc-sdk-java/v1.0.284"})
V1, V2 = MaasV1(), MaasV2()
V1_JAVA, V2_JAVA = V1.suited(JAVA), V2.suited(JAVA)
NODE = raw({"user-agent": "volc-sdk-nodejs/v1.36.2"})
HEADS = {"v1": '"req_id":"20261121SRV",', "v2": '"req_id":"20261121SRV",', "v2-java": ""}
DIALECTS: dict[str, Dialect] = {"v1": V1, "v2": V2, "v2-java": V2_JAVA}


def choice(dialect: str, text: str, end: str = "") -> str:
    """A choice as the measured forms have it."""
    inner = f'{{"index":0,"message":{{"role":"assistant","content":"{text}"}}{end}}}'
    return f'"choice":{inner}' if dialect == "v1" else f'"choices":[{inner}]'


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_answer_is_the_measured_one(dialect: str) -> None:
    reply = ChatReply((Choice(0, "你好", "stop"),), USAGE)
    found = DIALECTS[dialect].encode_chat(reply, REQUEST, TAG).decode()
    assert found == f"{{{HEADS[dialect]}{choice(dialect, '你好', FINISH)},{COUNTS}}}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_is_the_measured_one(dialect: str) -> None:
    encoder, head = DIALECTS[dialect].stream(REQUEST, TAG), HEADS[dialect]
    events: tuple[Event, ...] = (Delta("你"), Delta("好"), Finished("stop"))
    found = b"".join([*map(encoder.feed, events), encoder.close(USAGE)])
    assert found.decode() == (
        f"data:{{{head}{choice(dialect, '你')}}}\n\n"
        f"data:{{{head}{choice(dialect, '好')}}}\n\n"
        f"data:{{{head}{choice(dialect, '', FINISH)},{COUNTS}}}\n\n"
        "data:[DONE]\n\n"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_is_the_measured_one_in_and_before_a_stream(dialect: str) -> None:
    error = e.InvalidField("expected a number from 0 to 2, got 3", "parameters.temperature")
    told = (
        f'{{{HEADS[dialect]}"error":{{"code":"InvalidParameter","code_n":1709808,'
        '"message":"A parameter specified in the request is not valid: `parameters.temperature`: '
        'expected a number from 0 to 2, got 3. Request ID: 20261121SRV"}}'
    )
    assert DIALECTS[dialect].encode_error(error, TAG.id).body.decode() == told
    assert DIALECTS[dialect].stream(REQUEST, TAG).fail(error).decode() == f"data:{told}\n\ndata:[DONE]\n\n"


@pytest.mark.parametrize("dialect", [V1_JAVA, V2_JAVA])
def test_a_client_deaf_to_statuses_gets_a_frame_and_the_status(dialect: Dialect) -> None:
    plain = dialect.encode_error(e.NoCredentials(), TAG.id)
    framed = dialect.encode_error(e.NoCredentials(), TAG.id, stream=True)
    assert framed.status == plain.status == 401
    assert framed.body == b"data:" + plain.body + b"\n\n"
    assert ("content-type", "text/event-stream; charset=utf-8") in framed.headers


@pytest.mark.parametrize("dialect", [V1, V2])
def test_every_other_client_gets_plain_json(dialect: Dialect) -> None:
    assert dialect.encode_error(e.NoCredentials(), TAG.id, stream=True) == dialect.encode_error(
        e.NoCredentials(), TAG.id
    )


@pytest.mark.parametrize("dialect, deaf", [(V1, V1_JAVA), (V2, V2_JAVA)])
def test_the_client_is_told_by_its_user_agent(dialect: Dialect, deaf: Dialect) -> None:
    assert (dialect.deaf_to_status, deaf.deaf_to_status) == (False, True)
    assert deaf.suited(JAVA) is deaf
    assert dialect.suited(JAVA) is deaf
    for agent in ("", "volc-sdk-python/v1.0.229", "volc-sdk-golang/v1.0.253", "Go-http-client/1.1", "a volc-sdk-java/"):
        assert dialect.suited(raw({"user-agent": agent})) is dialect


@pytest.mark.parametrize("dialect", [V1, V2])
def test_a_client_that_cuts_characters_gets_ascii(dialect: Dialect) -> None:
    text = '天\u00e9\U0001f600\u2028"\\'
    node = dialect.suited(NODE)
    encoder, plain = node.stream(REQUEST, TAG), dialect.stream(REQUEST, TAG)
    said = encoder.feed(Delta(text))
    assert said.isascii()
    assert json.loads(said[5:]) == json.loads(plain.feed(Delta(text))[5:])
    assert encoder.heartbeat() == plain.heartbeat()
    error = e.InvalidField("天", "x")
    assert encoder.fail(error).isascii()
    assert encoder.close(USAGE) == plain.close(USAGE)
    assert node.deaf_to_status
    assert node.encode_error(error, TAG.id, stream=True).body.startswith(b"data:{")


@pytest.mark.parametrize(
    "body, wanted",
    [
        (b'{"stream":true}', True),
        (b'{\n  "stream" : \n true\n}', True),
        (b'{"messages": [ "stream": true', True),
        (b'{"stream":false}', False),
        (b'{"stream":"true"}', False),
        (b'{"streams":true}', False),
        (rb'{"messages":[{"content":"\"stream\":true"}]}', False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_whether_a_stream_was_wanted_is_told_from_any_bytes(body: bytes, wanted: bool) -> None:
    assert V1.wants_stream(body) is V2.wants_stream(body) is wanted


# The keys that the Java SDK's strict classes know (protocol §5.3); a list means "objects like this".
_CALL = {"id": 0, "type": 0, "function": {"name": 0, "arguments": 0}}
_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_LOGPROBS = {"text_offset": 0, "token_logprobs": 0, "tokens": 0, "top_logprobs": [{}]}
_MESSAGE = {"role": 0, "content": 0, "name": 0, "tool_call_id": 0, "tool_calls": [_CALL]}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": 0, "logprobs": _LOGPROBS}
KNOWN: Mapping[str, Any] = {
    "error": {"code": 0, "code_n": 0, "message": 0},
    "choices": [_CHOICE],
    "usage": _USAGE,
    "object": 0,
    "data": [{"index": 0, "embedding": 0, "object": 0}],
    "label": 0,
    "label_logprobos": 0,
    "total_tokens": 0,
    "tokens": 0,
    "token_ids": 0,
    "offset_mapping": 0,
}


def unknown(value: Any, known: Any, path: str = "") -> Iterator[str]:
    if isinstance(known, list):
        for item in value:
            yield from unknown(item, known[0], f"{path}[]")
    elif isinstance(known, Mapping):
        for key, inner in value.items():
            if key in known:
                yield from unknown(inner, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def documents(folder: str) -> Iterator[dict[str, Any]]:
    """Every JSON document below the line of the golden files."""
    for file in sorted((GOLDEN / folder).glob("*.txt")):
        below = file.read_text(encoding="utf-8").partition("---\n")[2]
        for line in below.split("\n"):
            if line.removeprefix("data:").startswith("{"):
                yield json.load_object(line.removeprefix("data:").encode())


def test_java_v2_is_sent_nothing_it_does_not_know() -> None:
    found = list(documents("v2-java"))
    assert len(found) > 50
    for document in found:
        assert not list(unknown(document, KNOWN)), document
        for entry in document.get("choices", []):
            assert entry["message"]["role"] == "assistant"


def test_others_on_v2_get_three_things_more() -> None:
    found = list(documents("v2"))
    assert len(found) > 100
    more = {".req_id", ".choices[].message.function_call"}
    for document in found:
        paths = {path for path in unknown(document, KNOWN) if ".logprobs.top_logprobs" not in path}
        assert ".req_id" in paths
        assert paths <= more, document


def test_no_document_has_both_an_error_and_an_answer() -> None:
    for folder in ("v1", "v1-java", "v2", "v2-java"):
        for document in documents(folder):
            answers = {"choice", "choices", "usage", "data", "tokens", "label"} & set(document)
            assert ("error" in document) is not bool(answers), document
            assert ("choice" in document) <= folder.startswith("v1")
            assert ("choices" in document) <= folder.startswith("v2")


# The vendor's table (protocol §9.1), as far as it is used here.
VENDOR = {
    1709801: ("SignatureDoesNotMatch", 401),
    1709802: ("RequestTimeout", 408),
    1709803: ("InferenceServiceConnetionTimeout", 504),
    1709804: ("MissingAuthenticationHeader", 401),
    1709805: ("AuthenticationHeaderIsInvalid", 401),
    1709806: ("InternalServiceError", 500),
    1709807: ("MissingParameter", 400),
    1709808: ("InvalidParameter", 400),
    1709809: ("AuthenticationExpire", 401),
    1709810: ("EndpointIsInvalid", 400),
    1709811: ("EndpointIsNotEnable", 503),
    1709813: ("ReqTextExistRisk", 400),
    1709814: ("RespTextExistRisk", 400),
    1709816: ("ServiceConnectionRefused", 503),
    1709818: ("UnauthorizedUserForEndpoint", 401),
    1709820: ("EndpointAccountRpmRateLimitExceeded", 429),
    1709821: ("EndpointAccountTpmRateLimitExceeded", 429),
    1709822: ("ServiceResourceWaitQueueFull", 412),
    1709828: ("APINotSupport", 405),
    1709829: ("ModelNotSupportEmbeddings", 405),
    1709835: ("OperationDenied", 403),
}
OF_THE_EDGE = {e.TooLarge: 413, e.HeadTooLarge: 431, e.UnsupportedEncoding: 415}
"""Conditions the vendor's table does not know; their HTTP status is the field's own."""


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_has_code_number_and_status_of_the_vendors_table(error: e.ArkwayError) -> None:
    found = errors.code(error)
    name, status = VENDOR[found.number]
    assert found == Code(OF_THE_EDGE.get(type(error), status), name, number=found.number)
    body = json.load_object(V2_JAVA.encode_error(error, TAG.id).body)["error"]
    assert body["code_n"] == found.number
    assert isinstance(body["code_n"], int)
    assert V1.encode_error(error, TAG.id).status == found.status


def test_a_model_without_the_operation_is_told_apart_by_operation() -> None:
    assert errors.code(e.UnsupportedModel("ep-1", "embeddings")).number == 1709829
    assert errors.code(e.UnsupportedModel("ep-1", "chat")).number == 1709828


def test_model_names_versions_and_endpoints() -> None:
    messages = [{"role": "user", "content": "a"}]
    for model, asked in (
        ({"name": "m"}, ("m", "")),
        ({"name": "m", "version": "1.0"}, ("m", "1.0")),
        ({"name": "m", "version": "1.0", "endpoint_id": "ep-1"}, ("ep-1", "")),
        ({"endpoint_id": "ep-1"}, ("ep-1", "")),
        ({"name": "m", "version": None, "endpoint_id": ""}, ("m", "")),
    ):
        request = V1.decode_chat(raw(), json.dumps({"model": model, "messages": messages}))
        assert (request.asked, request.asked_version) == asked


@pytest.mark.parametrize("path", ["/api/v2/endpoint//chat", "/api/v2/endpoint", "/"])
def test_a_path_without_an_endpoint_is_blamed(path: str) -> None:
    with pytest.raises(e.MissingField) as caught:
        V2.decode_chat(raw(path=path), b'{"messages":[{"role":"user","content":"a"}]}')
    assert caught.value.field == "endpoint_id"


@pytest.mark.parametrize("endpoint", ["e" * 257, "ep\0-1"])
def test_an_impossible_endpoint_is_blamed(endpoint: str) -> None:
    with pytest.raises(e.InvalidField) as caught:
        V2.decode_embed(raw(path=f"/api/v2/endpoint/{endpoint}/embeddings"), b'{"input":"a"}')
    assert caught.value.field == "endpoint_id"


def test_the_token_of_message_encryption_may_come_in_a_header() -> None:
    sealed = {"messages": [{"role": "user", "content": "YWI="}]}
    headers = {"ml-maas-crypto-token": "token"}
    request = MaasV2(sealing=ReversingSealing()).decode_chat(raw(headers), json.dumps(sealed))
    assert request.crypto_token == "token"
    assert request.messages[0].content == "ba"
    with pytest.raises(e.InvalidField) as caught:
        V2.decode_chat(raw(headers), json.dumps(sealed))
    assert caught.value.field == "crypto_token"


@pytest.mark.parametrize("path", ["/api/v1/cert", "/api/v2/endpoint/ep-1/cert"])
def test_without_message_encryption_there_is_no_certificate(path: str) -> None:
    for dialect in (V1, V2):
        with pytest.raises(e.RouteNotFound) as caught:
            dialect.decode_cert(raw(path=path), b'{"model":{"name":"m"}}')
        assert path in caught.value.message


@given(st.lists(st.text(max_size=8), max_size=8), st.text(max_size=20), st.sampled_from(sorted(DIALECTS)))
def test_any_text_comes_back_from_its_frames(pieces: list[str], own_id: str, name: str) -> None:
    encoder = DIALECTS[name].stream(msgspec.structs.replace(REQUEST, client_request_id=own_id), TAG)
    sent = b"".join([*(encoder.feed(Delta(piece)) for piece in pieces), encoder.feed(Finished("stop"))])
    assert encoder.heartbeat() == b": ping\n\n"
    payloads = sse.Reader().feed(sent + encoder.close(USAGE))
    assert payloads.pop() == b"[DONE]"
    frames = [json.load_object(payload) for payload in payloads]
    choices = [frame["choice"] if "choice" in frame else frame["choices"][0] for frame in frames]
    told = "".join(entry["message"]["content"] for entry in choices)
    assert told == "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert [frame.get("req_id") for frame in frames] == [
        None if name == "v2-java" else own_id or TAG.id for _ in frames
    ]
    assert ["finish_reason" in entry for entry in choices] == [False] * (len(choices) - 1) + [True]


def test_calls_are_whole_and_only_on_the_last_frame() -> None:
    encoder = V2.stream(REQUEST, TAG)
    pieces = (ToolDelta(1, "{", id="b", name="g"), ToolDelta(0, "{}", id="a", name="f"), ToolDelta(1, "}"))
    assert [encoder.feed(event) for event in (*pieces, Finished("tool_calls"))] == [b""] * 4
    last = json.load_object(sse.Reader().feed(encoder.close(USAGE))[0])
    assert last["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12), st.data())
def test_offsets_count_characters_however_tokens_cut_them(text: str, data: st.DataObject) -> None:
    octets = text.encode()
    cuts = sorted({0, len(octets), *data.draw(st.lists(st.integers(0, len(octets)), max_size=6))})
    tokens = [octets[start:end] for start, end in pairwise(cuts)]
    entries = [LogprobEntry(TokenLogprob("t", -1.0, token)) for token in tokens]
    found = LogprobArrays(rivals=False).add(entries)["text_offset"]
    assert found == [len(octets[:start].decode(errors="ignore")) for start in cuts[:-1]]
