"""Ark v3 and OpenAI's own API: the same cases on two paths (protocol §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from arkway.conformance.cases import QUESTION, Surface, case
from arkway.conformance.checks import counts, expect, frames, success, v3_error
from arkway.conformance.target import Answer, Target

FRAME = b"data: "


class Api:
    """What differs between the two."""

    def __init__(self, surface: Surface, root: str) -> None:
        self.surface: Surface = surface
        self.root = root

    async def ask(self, target: Target, operation: str, body: Any, **options: Any) -> Answer:
        return await target.post(f"{self.root}/{operation}", body, **{"auth": "bearer", **options})

    def chat(self, target: Target, **fields: Any) -> dict[str, Any]:
        return {"model": target.needs("endpoint"), "messages": [QUESTION], "max_tokens": 16, **fields}


def both(name: str, source: str) -> Callable[[Callable[[Api, Target], Awaitable[None]]], None]:
    """One case for either API."""

    def registered(run: Callable[[Api, Target], Awaitable[None]]) -> None:
        for api in (Api("v3", "/api/v3"), Api("openai", "/v1")):
            case(api.surface, name, source)(lambda target, which=api: run(which, target))  # type: ignore[misc]

    return registered


@both("chat", "§7.3")
async def _chat(api: Api, target: Target) -> None:
    body = success(await api.ask(target, "chat/completions", api.chat(target)))
    expect(body["object"] == "chat.completion", f"object {body['object']!r}")
    expect(type(body["created"]) is int, "created is no integer")
    expect(isinstance(body["choices"][0]["message"]["content"], str), "message.content is no string")
    counts(body["usage"])


@both("stream", "§7.4")
async def _stream(api: Api, target: Target) -> None:
    found = frames(await api.ask(target, "chat/completions", api.chat(target, stream=True)), FRAME)
    expect({frame["object"] for frame in found} == {"chat.completion.chunk"}, "a chunk has another object")
    text = "".join(choice["delta"].get("content") or "" for frame in found for choice in frame["choices"])
    expect(bool(text), "the stream says nothing")
    reasons = [choice["finish_reason"] for frame in found for choice in frame["choices"] if choice.get("finish_reason")]
    expect(len(reasons) == 1, f"finish reasons: {reasons}")


@both("stream with usage", "§7.4")
async def _usage(api: Api, target: Target) -> None:
    body = api.chat(target, stream=True, stream_options={"include_usage": True})
    found = frames(await api.ask(target, "chat/completions", body), FRAME)
    expect(found[-1]["choices"] == [], "the last chunk has choices")
    counts(found[-1]["usage"])


@both("embeddings", "§7.3")
async def _embeddings(api: Api, target: Target) -> None:
    body = {"model": target.needs("embedding_endpoint"), "input": ["天很蓝", "花很香"]}
    answer = success(await api.ask(target, "embeddings", body))
    expect([entry["index"] for entry in answer["data"]] == [0, 1], "the entries have no index 0, 1")


@both("client leaves in the middle", "§12")
async def _leaves(api: Api, target: Target) -> None:
    await api.ask(target, "chat/completions", api.chat(target, stream=True), leave_after_bytes=1)
    success(await api.ask(target, "chat/completions", api.chat(target)))


@both("nulls are absent", "§0 rule 10")
async def _nulls(api: Api, target: Target) -> None:
    nulls = dict.fromkeys(("temperature", "top_p", "stop", "tools", "logprobs", "stream_options", "user"))
    success(await api.ask(target, "chat/completions", api.chat(target, **nulls)))


@both("client's own request id comes back", "§0 rule 12")
async def _echo(api: Api, target: Target) -> None:
    own = "20240703064826000000000000000000ab"
    answer = await api.ask(target, "chat/completions", api.chat(target), headers={"X-Client-Request-Id": own})
    expect(answer.headers.get("x-client-request-id") == own, "X-Client-Request-Id is not echoed")


@case("v3", "tokenization", "§7.3")
async def _tokenization(target: Target) -> None:
    body = {"model": target.needs("endpoint"), "text": ["天很蓝", "hi"]}
    answer = success(await target.post("/api/v3/tokenization", body, auth="bearer"))
    for entry in answer["data"]:
        expect(len(entry["token_ids"]) == entry["total_tokens"], "not as many ids as total_tokens says")


@case("v3", "no credentials: AuthenticationError", "§9.2")
async def _no_credentials(target: Target) -> None:
    body = {"model": "ep-1", "messages": [QUESTION]}
    v3_error(await target.post("/api/v3/chat/completions", body, auth="none"), 401, "AuthenticationError")


@case("v3", "missing messages: MissingParameter", "§9.2")
async def _missing(target: Target) -> None:
    answer = await target.post("/api/v3/chat/completions", {"model": target.needs("endpoint")}, auth="bearer")
    v3_error(answer, 400, "MissingParameter")


@case("v3", "parameter out of range: InvalidParameter", "§9.2")
async def _range(target: Target) -> None:
    body = {"model": target.needs("endpoint"), "messages": [QUESTION], "temperature": 9}
    v3_error(await target.post("/api/v3/chat/completions", body, auth="bearer"), 400, "InvalidParameter")


@case("v3", "unknown endpoint: InvalidEndpointOrModel.NotFound", "§9.2")
async def _unknown(target: Target) -> None:
    body = {"model": "ep-20240101000000-nobdy", "messages": [QUESTION]}
    answer = await target.post("/api/v3/chat/completions", body, auth="bearer")
    v3_error(answer, 404, "InvalidEndpointOrModel.NotFound")


@case("v3", "error of a stream call: plain JSON", "§7.5")
async def _stream_error(target: Target) -> None:
    body = {"model": target.needs("endpoint"), "messages": [QUESTION], "temperature": 9, "stream": True}
    v3_error(await target.post("/api/v3/chat/completions", body, auth="bearer"), 400, "InvalidParameter")
