"""Requests that the official SDKs of MaaS v1 and v2 sent (Python, Go, Java), replayed byte for byte.

``tests/data/wire/recorded_maas.jsonl``: one request per line, as captured from the unmodified SDK. Only the endpoint
(and, where it was made up, the model's name) is ours, so each is signed anew over the headers its SDK signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arkway.testing import CHAT_CARD, EMBEDDING_CARD, RunningServer, says
from arkway.wire import json
from tests.sdk.python import plain
from tests.sdk.python.plain import Reply
from tests.sdk.scenes import play

pytestmark = pytest.mark.sdk

RECORDED = Path(__file__).resolve().parents[1] / "data" / "wire" / "recorded_maas.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_bytes().splitlines()]
NAMES = [f"{case['client']} {case['case']}" for case in CASES]


def operation(case: dict[str, Any]) -> str:
    """The path behind the endpoint, such as ``chat`` or ``images/quick-gen``."""
    target: str = case["target"]
    return target.removeprefix("/api/v1/") if "/v1/" in target else target.split("/", 5)[5]


def localised(server: RunningServer, case: dict[str, Any]) -> tuple[str, bytes]:
    """Target and body with our endpoint and our models in them."""
    embeds = operation(case) == "embeddings"
    ours = server.embedding_endpoint_id if embeds else server.endpoint_id
    target = f"/api/v2/endpoint/{ours}/{operation(case)}" if "/v2/" in case["target"] else case["target"]
    name = EMBEDDING_CARD.name if embeds else CHAT_CARD.name
    body: str = case["body"]
    for form in ('"name": "{}"', '"name":"{}"'):
        body = body.replace(form.format("m"), form.format(name))
    return target, body.encode()


def replay(server: RunningServer, case: dict[str, Any]) -> Reply:
    target, body = localised(server, case)
    headers: dict[str, str] = case["headers"]
    if case["auth"] == "bearer":
        proof = {"Authorization": f"Bearer {server.api_key}"}
    else:
        session = case["auth"] == "session"
        proof = plain.signature(server, target, headers, body, signed=case["signed"], session=session)
    return plain.post(server, target, {**headers, **proof}, body)


def expected(case: dict[str, Any]) -> tuple[int, int]:
    """Status, and ``code_n`` where it is an error."""
    asked = json.load_object(case["body"].encode())
    match operation(case):
        case "cert" | "images/quick-gen" | "images/flex-gen" | "audio/speech":
            return 405, 1709828
        case "classification" | "embeddings" if "/v1/" in case["target"] and "model" not in asked:
            return 400, 1709807
        case "classification" if len(asked["labels"]) < 2:
            return 400, 1709808
        case "chat" if "crypto_token" in asked:
            return 400, 1709808
        case _:
            return 200, 0


def check_stream(case: dict[str, Any], reply: Reply) -> None:
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = [json.load_object(frame.encode()) for frame in plain.frames(reply)]
    assert "".join(text(case, frame) for frame in frames) == "好的"
    assert frames[-1]["usage"]["total_tokens"] == 9


def text(case: dict[str, Any], reply: dict[str, Any]) -> str:
    choice = reply["choice"] if "/v1/" in case["target"] else reply["choices"][0]
    content: str = choice["message"]["content"]
    return content


def check_answer(case: dict[str, Any], document: dict[str, Any]) -> None:
    match operation(case):
        case "chat":
            assert text(case, document) == "好的"
            assert document["usage"]["total_tokens"] == 9
        case "embeddings":
            assert document["data"][0]["index"] == 0
        case "tokenization":
            assert document["total_tokens"] == 2
        case "classification":
            assert document["label"] in json.load_object(case["body"].encode())["labels"]
        case other:
            raise AssertionError(f"{other} is not to succeed")


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_recorded_request(server: RunningServer, case: dict[str, Any]) -> None:
    play(server, says("好", "的"))

    reply = replay(server, case)

    status, code_n = expected(case)
    assert reply.status == status, reply.body
    is_java_v2 = case["client"].startswith("volc-sdk-java") and "/v2/" in case["target"]
    if code_n:
        assert reply.error[2] == code_n
    elif json.load_object(case["body"].encode()).get("stream"):
        check_stream(case, reply)
    else:
        check_answer(case, reply.document)
        assert ("req_id" in reply.document) is not is_java_v2


def test_every_sdk_is_there() -> None:
    clients = {case["client"].split(" ")[0] for case in CASES}

    assert clients == {"volcengine", "volc-sdk-golang", "volc-sdk-java"}
    assert sum(expected(case)[0] == 200 for case in CASES) > 40
