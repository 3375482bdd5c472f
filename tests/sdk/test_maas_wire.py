"""MaaS v1 and v2 without an SDK: how answers are framed, and what signers made by hand are told."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from urllib.parse import quote

import pytest

from arkway.testing import RunningServer
from arkway.wire import json
from tests.sdk.conftest import QUESTION
from tests.sdk.python import plain
from tests.sdk.python.plain import Reply
from tests.sdk.scenes import breaks_off, play

pytestmark = pytest.mark.sdk

SURFACES = pytest.mark.parametrize("surface", ["v1", "v2"])


def chat(server: RunningServer, surface: str, **fields: Any) -> tuple[str, bytes]:
    """Target and body of one chat call."""
    if surface == "v1":
        return "/api/v1/chat", json.dumps(
            {"model": {"endpoint_id": server.endpoint_id}, "messages": QUESTION, **fields}
        )
    return f"/api/v2/endpoint/{server.endpoint_id}/chat", json.dumps({"messages": QUESTION, **fields})


def signed(server: RunningServer, surface: str, **fields: Any) -> Reply:
    target, body = chat(server, surface, **fields)
    return plain.post(server, target, {**plain.JSON, **plain.signature(server, target, plain.JSON, body)}, body)


@SURFACES
def test_answer(server: RunningServer, surface: str) -> None:
    reply = signed(server, surface)

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    ours = server.backend.calls[0].request_id
    assert reply.headers["x-tt-logid"] == reply.headers["x-request-id"] == reply.document["req_id"] == ours
    key = "choice" if surface == "v1" else "choices"
    assert set(reply.document) == {"req_id", key, "usage"}
    assert reply.document["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert "你好，世界".encode() in reply.body  # UTF-8 as it is, not escaped


@SURFACES
def test_stream_is_framed_as_every_client_needs_it(server: RunningServer, surface: str) -> None:
    reply = signed(server, surface, stream=True)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["transfer-encoding"] == "chunked"
    frames = [json.load_object(frame.encode()) for frame in plain.frames(reply)]
    assert frames[-1]["usage"]["total_tokens"] == 10
    assert all(("choice" if surface == "v1" else "choices") in frame for frame in frames)


@SURFACES
def test_stream_that_breaks_ends_in_an_error_frame(server: RunningServer, surface: str) -> None:
    play(server, breaks_off("一"))

    reply = signed(server, surface, stream=True)

    assert reply.status == 200
    last = json.load_object(plain.frames(reply)[-1].encode())
    assert (last["error"]["code"], last["error"]["code_n"]) == ("InternalServiceError", 1709806)
    assert "choice" not in last
    assert "choices" not in last


@SURFACES
@pytest.mark.parametrize("query", ["", "?", "?Action=chat&Version=2023-08-01", "?b=%E4%BA%91%20%E9%9B%80&a=~1"])
def test_any_query_is_signed_over(server: RunningServer, surface: str, query: str) -> None:
    path, body = chat(server, surface)
    target = path + query

    reply = plain.post(server, target, {**plain.JSON, **plain.signature(server, target, plain.JSON, body)}, body)
    unsigned = plain.post(server, target, {**plain.JSON, **plain.signature(server, path, plain.JSON, body)}, body)

    assert reply.status == 200, reply.body
    assert unsigned.status == (401 if query.strip("?") else 200)


@SURFACES
def test_headers_signed_beside_the_four(server: RunningServer, surface: str) -> None:
    """As the Go SDK of v2 does, whose ``x-tt-logid`` can be empty."""
    target, body = chat(server, surface)
    headers = {**plain.JSON, "X-Tt-Logid": "", "X-Extra": "  a  b  "}

    reply = plain.post(server, target, {**headers, **plain.signature(server, target, headers, body)}, body)

    assert reply.status == 200, reply.body


@SURFACES
def test_body_in_chunks(server: RunningServer, surface: str) -> None:
    target, body = chat(server, surface)
    headers = {**plain.JSON, **plain.signature(server, target, plain.JSON, body), "Transfer-Encoding": "chunked"}

    assert plain.post(server, target, headers, body).status == 200


@SURFACES
@pytest.mark.parametrize("stream", [False, True])
def test_without_credentials(server: RunningServer, surface: str, stream: bool) -> None:
    target, body = chat(server, surface, stream=stream)

    reply = plain.post(server, target, plain.JSON, body)

    assert reply.error == (401, "MissingAuthenticationHeader", 1709804)
    assert "Authorization" in reply.document["error"]["message"]
    assert server.backend.requests == []


@SURFACES
def test_body_changed_on_the_way(server: RunningServer, surface: str) -> None:
    target, body = chat(server, surface)
    headers = {**plain.JSON, **plain.signature(server, target, plain.JSON, body)}

    reply = plain.post(server, target, headers, body.replace("你好".encode(), "再见".encode()))

    assert reply.error == (401, "SignatureDoesNotMatch", 1709801)
    assert "X-Content-Sha256" in reply.document["error"]["message"]


@SURFACES
def test_signed_for_another_host(server: RunningServer, surface: str) -> None:
    target, body = chat(server, surface)
    elsewhere = {**plain.JSON, "Host": "maas-api.ml-platform-cn-beijing.volces.com"}

    proof = plain.signature(server, target, elsewhere, body)
    reply = plain.post(server, target, {**plain.JSON, **proof}, body)

    assert reply.error == (401, "SignatureDoesNotMatch", 1709801)
    message = reply.document["error"]["message"]
    assert plain.host(server) in message  # the Host that was received: a proxy may have rewritten it
    assert _expected(server, target, plain.JSON, body, proof) not in reply.body.decode()


def _expected(server: RunningServer, target: str, headers: dict[str, str], body: bytes, proof: dict[str, str]) -> str:
    """The signature the request should have had at the time it was signed."""
    fields = {**headers, "Host": plain.host(server), **proof}
    return by_hand(server, target, fields, body, "HMAC-SHA256", "request").rpartition("=")[2]


def by_hand(
    server: RunningServer, target: str, fields: dict[str, str], body: bytes, algorithm: str, terminator: str
) -> str:
    """An Authorization header from the published description alone, or from AWS's: nothing of Arkway's signs it."""
    names = ["content-type", "host", "x-content-sha256", "x-date"]
    values = {name.lower(): value for name, value in fields.items()}
    date = values["x-date"]
    lines = "".join(f"{name}:{values[name]}\n" for name in names)
    digest = hashlib.sha256(body).hexdigest()
    path = quote(target, safe="/-_.~")
    canonical = "\n".join(["POST", path, "", lines, ";".join(names), digest])
    scope = f"{date[:8]}/cn-beijing/ml_maas/{terminator}"
    text = "\n".join([algorithm, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" if algorithm.startswith("AWS4") else "").encode() + server.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{server.access_key_id}/{scope}"
    return f"{algorithm} Credential={credential}, SignedHeaders={';'.join(names)}, Signature={proof}"


def sent_by_hand(server: RunningServer, surface: str, algorithm: str, terminator: str, **fields: Any) -> Reply:
    target, body = chat(server, surface, **fields)
    headers = {**plain.JSON, "X-Date": plain.x_date(), "X-Content-Sha256": hashlib.sha256(body).hexdigest()}
    everything = {**headers, "Host": plain.host(server)}
    proof = by_hand(server, target, everything, body, algorithm, terminator)
    return plain.post(server, target, {**headers, "Authorization": proof}, body)


@SURFACES
def test_signer_made_by_hand(server: RunningServer, surface: str) -> None:
    assert sent_by_hand(server, surface, "HMAC-SHA256", "request").status == 200


@SURFACES
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "terminator", "told"),
    [
        ("AWS4-HMAC-SHA256", "aws4_request", "`AWS4-HMAC-SHA256`"),
        ("AWS4-HMAC-SHA256", "request", "`AWS4-HMAC-SHA256`"),
        ("HMAC-SHA256", "aws4_request", "`request`"),
        ("HMAC-SHA1", "request", "`HMAC-SHA1`"),
    ],
)
def test_wrong_signers_are_told_what_is_wrong(
    server: RunningServer, surface: str, stream: bool, algorithm: str, terminator: str, told: str
) -> None:
    reply = sent_by_hand(server, surface, algorithm, terminator, stream=stream)

    assert reply.error == (401, "AuthenticationHeaderIsInvalid", 1709805)
    assert told in reply.document["error"]["message"]


@SURFACES
def test_unserved_operation(server: RunningServer, surface: str) -> None:
    target, _ = chat(server, surface)
    target = target.replace("/chat", "/nowhere")

    reply = plain.ask(server, target, {})

    assert reply.error == (405, "APINotSupport", 1709828)


@SURFACES
def test_certificates_are_not_given_out_by_default(server: RunningServer, surface: str) -> None:
    target, _ = chat(server, surface)
    model = {"model": {"endpoint_id": server.endpoint_id}} if surface == "v1" else {}

    reply = plain.ask(server, target.replace("/chat", "/cert"), model)

    assert reply.error == (405, "APINotSupport", 1709828)
