"""MaaS v1 and v2: the same cases on two paths (protocol §§0, 4, 5)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from arkway.conformance.cases import QUESTION, Surface, case
from arkway.conformance.checks import counts, expect, frames, java_v2, legacy_error, legacy_error_object, success
from arkway.conformance.target import JAVA, Answer, Skipped, Target, stamp
from arkway.signing import KeyPair
from arkway.wire import json

FRAME = b"data:"
SHORT = {"max_new_tokens": 16, "temperature": 0.7, "top_p": 0.9, "top_k": 0}


class Legacy:
    """What differs between the two generations."""

    def __init__(self, surface: Surface) -> None:
        self.surface: Surface = surface
        self.is_v1 = surface == "v1"

    def path(self, target: Target, operation: str, endpoint: str = "") -> str:
        if self.is_v1:
            return f"/api/v1/{operation}"
        return f"/api/v2/endpoint/{endpoint or target.needs('endpoint')}/{operation}"

    def body(self, target: Target, *, embedding: bool = False, **fields: Any) -> dict[str, Any]:
        if not self.is_v1:
            return fields
        name = target.needs("embedding_model" if embedding else "model")
        return {"model": {"name": name}, **fields}

    def chat(self, target: Target, **fields: Any) -> dict[str, Any]:
        return self.body(target, messages=[QUESTION], parameters=SHORT, **fields)

    async def ask(self, target: Target, operation: str, body: Any, **options: Any) -> Answer:
        """A call, signed unless ``auth`` says otherwise."""
        return await target.post(self.path(target, operation), body, **{"auth": "signature", **options})

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        """v1 answers one ``choice``, v2 a list of ``choices``; never both."""
        expect(("choice" in body) == self.is_v1, f"the body has the keys {sorted(body)}")
        expect(("choices" in body) != self.is_v1, f"the body has the keys {sorted(body)}")
        found = body["choice"] if self.is_v1 else body["choices"][0]
        expect(isinstance(found["message"]["content"], str), "message.content is no string")
        expect(found["message"].get("role") in (None, "assistant"), f"role {found['message'].get('role')!r}")
        return dict(found)


def both(name: str, source: str) -> Callable[[Callable[[Legacy, Target], Awaitable[None]]], None]:
    """One case for either generation."""

    def registered(run: Callable[[Legacy, Target], Awaitable[None]]) -> None:
        for generation in (Legacy("v1"), Legacy("v2")):
            case(generation.surface, name, source)(lambda target, which=generation: run(which, target))  # type: ignore[misc]

    return registered


@both("chat", "§4.2, §5.2")
async def _chat(api: Legacy, target: Target) -> None:
    body = success(await api.ask(target, "chat", api.chat(target)))
    choice = api.choice(body)
    expect(choice["finish_reason"] in ("stop", "length"), f"finish_reason {choice['finish_reason']!r}")
    expect(isinstance(body.get("req_id"), str), "no req_id")
    expect("error" not in body, "a success has an `error`: the Go client tests for it")
    counts(body["usage"])


@both("stream", "§0 rules 1, 2, 4; §4.3")
async def _stream(api: Legacy, target: Target) -> None:
    found = frames(await api.ask(target, "chat", api.chat(target, stream=True)), FRAME)
    expect(bool("".join(api.choice(frame)["message"]["content"] for frame in found)), "the stream says nothing")
    open_frames = [frame for frame in found[:-1] if api.choice(frame).get("finish_reason")]
    expect(not open_frames, "a frame before the last has a finish_reason")


@both("usage on the last frame", "§4.3; §11 row 12")
async def _usage(api: Legacy, target: Target) -> None:
    found = frames(await api.ask(target, "chat", api.chat(target, stream=True)), FRAME)
    expect(all("usage" not in frame or frame["usage"] is None for frame in found[:-1]), "usage before the last frame")
    counts(found[-1].get("usage"))
    expect(bool(api.choice(found[-1]).get("finish_reason")), "the last frame has no finish_reason")


@both("embeddings", "§4.2")
async def _embeddings(api: Legacy, target: Target) -> None:
    path = api.path(target, "embeddings", "" if api.is_v1 else target.needs("embedding_endpoint"))
    body = api.body(target, embedding=True, input=["天很蓝", "花很香"])
    answer = success(await target.post(path, body, auth="signature"))
    expect([entry["index"] for entry in answer["data"]] == [0, 1], "the entries have no index 0, 1")
    vectors = [entry["embedding"] for entry in answer["data"]]
    expect(len(vectors[0]) == len(vectors[1]) > 0, "vectors of different or no length")
    counts(answer["usage"], "prompt_tokens", "total_tokens")


@both("tokenization", "§4.2; §11 row 27")
async def _tokenization(api: Legacy, target: Target) -> None:
    answer = success(await api.ask(target, "tokenization", api.body(target, text="天很蓝")))
    expect(type(answer["total_tokens"]) is int, "total_tokens is no integer")
    expect(len(answer["tokens"]) == answer["total_tokens"], "not as many tokens as total_tokens says")


@both("classification", "§4.2; §11 row 26")
async def _classification(api: Legacy, target: Target) -> None:
    labels = ["正面", "负面"]
    answer = success(await api.ask(target, "classification", api.body(target, query="这部电影太好看了", labels=labels)))
    expect(answer["label"] in labels, f"the label {answer['label']!r} was not among the choices")
    expect(set(answer["label_logprobos"]) == set(labels), "label_logprobos has other labels")


@both("no credentials: 1709804", "§9.3")
async def _no_credentials(api: Legacy, target: Target) -> None:
    answer = await api.ask(target, "chat", api.chat(target), auth="none")
    legacy_error(answer, 1709804, "MissingAuthenticationHeader", 401)


@both("unknown access key: 1709805", "§9.3")
async def _unknown_key(api: Legacy, target: Target) -> None:
    nobody = KeyPair("AKLTnobodyHoldsThisOne", "c2VjcmV0")
    answer = await api.ask(target, "chat", api.chat(target), pair=nobody)
    legacy_error(answer, 1709805, "AuthenticationHeaderIsInvalid", 401)


@both("wrong secret: 1709801", "§3")
async def _wrong_secret(api: Legacy, target: Target) -> None:
    if target.pair is None:
        raise Skipped("needs an access key pair (--ak, --sk)")
    wrong = KeyPair(target.pair.access_key_id, "bm90IHRoZSBzZWNyZXQ=")
    answer = await api.ask(target, "chat", api.chat(target), pair=wrong)
    legacy_error(answer, 1709801, "SignatureDoesNotMatch", 401)


@both("stale signature: 1709809", "§3")
async def _stale(api: Legacy, target: Target) -> None:
    answer = await api.ask(target, "chat", api.chat(target), x_date=stamp(-1000))
    legacy_error(answer, 1709809, "AuthenticationExpire", 401)


@both("session token", "§3")
async def _session(api: Legacy, target: Target) -> None:
    if target.session_pair is None:
        raise Skipped("needs a temporary access key (--session-ak, --session-sk, --session-token)")
    success(await api.ask(target, "chat", api.chat(target), pair=target.session_pair))


@both("missing messages: 1709807", "§4.1")
async def _missing(api: Legacy, target: Target) -> None:
    answer = await api.ask(target, "chat", api.body(target, stream=False))
    legacy_error(answer, 1709807, "MissingParameter", 400)


@both("parameter out of range: 1709808", "§4.1")
async def _range(api: Legacy, target: Target) -> None:
    body = api.body(target, messages=[QUESTION], parameters={"temperature": -1})
    legacy_error(await api.ask(target, "chat", body), 1709808, "InvalidParameter", 400)


@both("broken JSON: 1709808", "§9.3")
async def _broken(api: Legacy, target: Target) -> None:
    legacy_error(await api.ask(target, "chat", b'{"messages": ['), 1709808, "InvalidParameter", 400)


@both("unknown endpoint or model: 1709810", "§9.3")
async def _unknown_endpoint(api: Legacy, target: Target) -> None:
    body: dict[str, Any] = {"messages": [QUESTION]}
    if api.is_v1:
        body["model"] = {"endpoint_id": "ep-20240101000000-nobdy"}
    answer = await target.post(api.path(target, "chat", "ep-20240101000000-nobdy"), body, auth="signature")
    legacy_error(answer, 1709810, "EndpointIsInvalid", 400)


@both("unsupported operation: 1709828", "§5.1")
async def _unsupported(api: Legacy, target: Target) -> None:
    operation = "audio/speech" if not api.is_v1 else "audio"
    answer = await api.ask(target, operation, api.body(target, input="你好", voice="x"))
    legacy_error(answer, 1709828, "APINotSupport", 405)


@both("error of a stream call: plain JSON", "§5.4")
async def _stream_error(api: Legacy, target: Target) -> None:
    body = api.body(target, messages=[QUESTION], parameters={"temperature": -1}, stream=True)
    legacy_error(await api.ask(target, "chat", body), 1709808, "InvalidParameter", 400)


@both("error of a stream call, Java: a frame", "§0 rule 7")
async def _java_stream_error(api: Legacy, target: Target) -> None:
    body = api.body(target, messages=[QUESTION], parameters={"temperature": -1}, stream=True)
    answer = await api.ask(target, "chat", body, agent=JAVA)
    expect(answer.status == 400, f"status {answer.status} instead of 400")
    _error_frame(answer, 1709808, "InvalidParameter", api)


@both("authentication error of a stream call, Java: a frame", "§0 rule 7")
async def _java_stream_auth(api: Legacy, target: Target) -> None:
    answer = await api.ask(target, "chat", api.chat(target, stream=True), agent=JAVA, auth="none")
    expect(answer.status == 401, f"status {answer.status} instead of 401")
    _error_frame(answer, 1709804, "MissingAuthenticationHeader", api)


def _error_frame(answer: Answer, code_n: int, code: str, api: Legacy) -> None:
    found = re.match(rb"data:(\{.*\})\n\n", answer.body)
    expect(found is not None, f"no `data:{{...}}` frame: {answer.body[:120]!r}")
    assert found is not None
    body = json.load_object(found[1])
    legacy_error_object(body, code_n, code)
    if not api.is_v1:
        java_v2(body)


@both("integers as strings, nulls, empty lists", "§0 rule 10")
async def _lenient(api: Legacy, target: Target) -> None:
    parameters: dict[str, Any] = {"max_new_tokens": "16", "top_k": "0", "temperature": None, "stop": []}
    body = api.body(target, messages=[QUESTION | {"name": None}], parameters=parameters, user="", extra=None)
    success(await api.ask(target, "chat", body))


@both("stop as one string", "§11 row 11")
async def _stop(api: Legacy, target: Target) -> None:
    body = api.body(target, messages=[QUESTION], parameters={**SHORT, "stop": "\n\n\n"})
    success(await api.ask(target, "chat", body))


@both("query signed over (Node)", "callers, fact 4")
async def _query(api: Legacy, target: Target) -> None:
    path = f"{api.path(target, 'chat')}?Action=chat&Version=2023-09-01"
    success(await target.post(path, api.chat(target), auth="signature"))


@both("any region (LangChain)", "callers, fact 3")
async def _region(api: Legacy, target: Target) -> None:
    if target.pair is None:
        raise Skipped("needs an access key pair (--ak, --sk)")
    pair = KeyPair(target.pair.access_key_id, target.pair.secret, "Region")
    success(await api.ask(target, "chat", api.chat(target), pair=pair))


@both("client leaves in the middle", "§12")
async def _leaves(api: Legacy, target: Target) -> None:
    await api.ask(target, "chat", api.chat(target, stream=True), leave_after_bytes=1)
    success(await api.ask(target, "chat", api.chat(target)))


@case("v2", "API key", "§5")
async def _v2_bearer(target: Target) -> None:
    api = Legacy("v2")
    success(await api.ask(target, "chat", api.chat(target), auth="bearer"))


@case("v2", "Java whitelist, whole answer", "§5.3")
async def _v2_java(target: Target) -> None:
    api = Legacy("v2")
    answer = await api.ask(target, "chat", api.chat(target), agent=JAVA)
    java_v2(success(answer))
    expect("x-tt-logid" in answer.headers, "no X-Tt-Logid, which stands in for req_id")


@case("v2", "Java whitelist, stream", "§5.3")
async def _v2_java_stream(target: Target) -> None:
    api = Legacy("v2")
    for frame in frames(await api.ask(target, "chat", api.chat(target, stream=True), agent=JAVA), FRAME):
        java_v2(frame)


@case("v2", "integer where the Go client puts logit_bias", "§5.1")
async def _v2_logit_bias(target: Target) -> None:
    api = Legacy("v2")
    success(await api.ask(target, "chat", api.body(target, messages=[QUESTION], parameters={**SHORT, "logit_bias": 5})))


@case("v1", "name and version, endpoint id", "§4.1")
async def _v1_endpoint(target: Target) -> None:
    body = {"model": {"name": "nobody", "endpoint_id": target.needs("endpoint")}, "messages": [QUESTION]}
    success(await target.post("/api/v1/chat", {**body, "parameters": SHORT}, auth="signature"))
