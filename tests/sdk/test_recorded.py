"""Requests that the official SDKs sent (Python, Go, Java), replayed byte for byte; only the endpoint's id is ours.

``tests/data/wire/recorded_v3.jsonl``: one request per line, as captured from the unmodified SDK.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from arkway.testing import RunningServer, says
from arkway.wire import json
from tests.sdk.scenes import play

pytestmark = pytest.mark.sdk

RECORDED = Path(__file__).resolve().parents[1] / "data" / "wire" / "recorded_v3.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_bytes().splitlines()]

NOT_SERVED = (
    ("POST", "/api/v3/context/create"),
    ("POST", "/api/v3/context/chat/completions"),
    ("POST", "/api/v3/batch/chat/completions"),
    ("POST", "/api/v3/batch/embeddings"),
    ("POST", "/api/v3/embeddings/multimodal"),
    ("POST", "/api/v3/images/generations"),
    ("POST", "/api/v3/contents/generations/tasks"),
    ("GET", "/api/v3/contents/generations/tasks?page_size=3&filter.status=succeeded"),
    ("DELETE", "/api/v3/contents/generations/tasks/cgt-1"),
    ("POST", "/api/v3/files"),
    ("DELETE", "/api/v3/files/file-1"),
    ("POST", "/api/v3/responses"),
    ("GET", "/api/v3/responses/resp_1"),
    ("POST", "/api/v3/e2e/get/certificate"),
)


def send(
    server: RunningServer, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names lower-case) and body of the answer."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, target, body, {**headers, "Authorization": f"Bearer {server.api_key}"})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def replay(server: RunningServer, case: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """The case with our endpoint in it."""
    asked = json.load_object(case["body"].encode())["model"]
    ours = server.embedding_endpoint_id if "/embeddings" in case["target"] else server.endpoint_id
    body: str = case["body"].replace(f'"model":"{asked}"', f'"model":"{ours}"')
    return send(server, "POST", case["target"], case["headers"], body.encode())


@pytest.mark.parametrize("case", CASES, ids=[f"{case['client']} {case['case']}" for case in CASES])
def test_recorded_request(server: RunningServer, case: dict[str, Any]) -> None:
    play(server, says("好", "的"))

    status, headers, body = replay(server, case)

    assert status == 200, body
    sent_id = case["headers"].get("X-Client-Request-Id")
    assert headers.get("x-client-request-id") == sent_id
    if "/chat/" not in case["target"]:
        assert json.load_object(body)["data"][0]["index"] == 0
    elif json.load_object(case["body"].encode()).get("stream"):
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["transfer-encoding"] == "chunked"
        frames = body.split(b"\n\n")
        assert frames[-2:] == [b"data: [DONE]", b""]
        assert all(frame.startswith(b"data: {") for frame in frames[:-2])
    else:
        assert json.load_object(body)["choices"][0]["message"]["content"] == "好的"


@pytest.mark.parametrize(("method", "target"), NOT_SERVED)
def test_what_is_not_served_says_so(server: RunningServer, method: str, target: str) -> None:
    status, headers, body = send(server, method, target, {"Content-Type": "application/json"}, b'{"model":"ep-1"}')

    assert status == 404
    assert headers["content-type"] == "application/json; charset=utf-8"
    error = json.load_object(body)["error"]
    assert (error["code"], error["type"], error["param"]) == ("NotFound", "NotFound", "")
    assert headers["x-should-retry"] == "false"
