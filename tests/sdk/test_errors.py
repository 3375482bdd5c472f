"""What every client makes of refusals and failures: the exception, its fields, and how often it tries again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from arkway.core.errors import (
    BackendFailed,
    BackendUnavailable,
    ContextTooLong,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from arkway.testing import MemoryLedger, RunningServer
from tests.sdk.cells import cell
from tests.sdk.conftest import Client
from tests.sdk.scenes import breaks_off, fails, play

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
ATTEMPTS = 3  # every client tries twice more by default


def facts(error: dict[str, Any]) -> tuple[Any, ...]:
    return error["class"], error["status"], error["code"], error["param"]


def expected(client: Client, name: str, status: int, ark_code: str, openai_code: str, param: str) -> tuple[Any, ...]:
    """``param`` is empty on v3 and null on OpenAI's API when no field is at fault."""
    code = ark_code if client.is_ark else openai_code
    return client.error_class(name), status, code, param or ("" if client.is_ark else None)


@OPERATIONS
@cell("error 400")
def test_bad_parameter_is_named(client: Client, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, temperature=3)

    assert facts(error) == expected(client, "BadRequestError", 400, "InvalidParameter", "invalid_value", "temperature")
    assert error["type"] == ("BadRequest" if client.is_ark else "invalid_request_error")
    assert server.backend.requests == []


def test_bad_message_is_named(client: Client, server: RunningServer) -> None:
    turns = [{"role": "user", "content": "一"}, {"role": "robot", "content": "二"}]

    assert client.error(server, "chat", messages=turns)["param"] == "messages[1].role"


def test_too_long_for_the_context(client: Client, server: RunningServer) -> None:
    play(server, fails(ContextTooLong(9000, 100, 8192)))

    assert facts(client.error(server, "stream")) == expected(
        client, "BadRequestError", 400, "InvalidParameter", "context_length_exceeded", "messages"
    )


@OPERATIONS
@cell("error 401")
def test_wrong_key(client: Client, server: RunningServer, operation: str) -> None:
    assert facts(client.error(server, operation, api_key="not-a-key")) == expected(
        client, "AuthenticationError", 401, "AuthenticationError", "invalid_api_key", ""
    )


@OPERATIONS
@cell("error 404")
def test_unknown_endpoint(client: Client, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, model=server.endpoint_id.replace("tests", "testz"))

    assert facts(error) == expected(
        client, "NotFoundError", 404, "InvalidEndpointOrModel.NotFound", "model_not_found", "model"
    )
    assert server.endpoint_id in error["message"]


def test_embedding_model_does_not_chat(client: Client, server: RunningServer) -> None:
    assert facts(client.error(server, "chat", model=server.embedding_endpoint_id)) == expected(
        client, "BadRequestError", 400, "InvalidParameter.UnsupportedModel", "unsupported_model", "model"
    )


@OPERATIONS
@cell("error 429")
def test_overloaded_is_tried_again(client: Client, server: RunningServer, operation: str) -> None:
    play(server, fails(Overloaded("the waiting line is full", retry_after_s=1)))
    started_s = time.monotonic()

    error = client.error(server, operation)

    assert facts(error) == expected(client, "RateLimitError", 429, "ServerOverloaded", "server_overloaded", "")
    assert len(server.backend.requests) == ATTEMPTS
    if not client.is_ark:  # the Ark SDKs wait by their own clock
        assert time.monotonic() - started_s >= 2 * 1.0


def test_second_attempt_succeeds(client: Client, server: RunningServer) -> None:
    answer = server.backend.script
    refusal = fails(RateLimited("too many requests", retry_after_s=1))
    play(server, lambda request: (refusal if len(server.backend.requests) == 1 else answer)(request))

    assert client.result(server, "chat")["choices"][0]["message"]["content"] == "你好，世界"
    assert len(server.backend.requests) == 2


def test_spent_quota_is_not_tried_again(client: Client, server: RunningServer) -> None:
    play(server, fails(QuotaExhausted("the quota of this endpoint is spent")))

    assert facts(client.error(server, "chat")) == expected(
        client, "PermissionDeniedError", 403, "QuotaExceeded", "insufficient_quota", ""
    )
    assert len(server.backend.requests) == 1


def test_unavailable_backend_is_tried_again(client: Client, server: RunningServer) -> None:
    play(server, fails(BackendUnavailable("nothing serves this endpoint just now")))

    error = client.error(server, "chat")

    assert error["class"] == client.error_class("InternalServerError")
    assert error["code"] == ("InternalServiceError" if client.is_ark else "model_unavailable")
    assert len(server.backend.requests) == ATTEMPTS


def test_failure_before_the_answer_is_a_status(client: Client, server: RunningServer) -> None:
    play(server, fails(BackendFailed("the engine stopped")))

    error = client.error(server, "stream")

    assert (error["class"], error["status"]) == (client.error_class("InternalServerError"), 500)


@cell("mid-stream error")
def test_stream_that_breaks_raises(client: Client, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream", extra_headers={"X-Client-Request-Id": "breaking-1"})

    assert [chunk["choices"][0]["delta"]["content"] for chunk in answer["chunks"]] == ["一", "二", "三"]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in answer["chunks"])
    error = answer["error"]
    assert error["class"] == client.error_class("APIError")
    assert error["code"] == ("InternalServiceError" if client.is_ark else "internal_error")
    assert "the engine stopped" in error["message"].lower()
    assert len(server.backend.requests) == 1
    if client.is_ark:
        assert error["request_id"] == "breaking-1"
    assert isinstance(server.ledger, MemoryLedger)
    settled = server.ledger.settlements[server.backend.calls[0].request_id]
    assert (settled.outcome, settled.usage.completion_tokens) == ("upstream_error", 3)


def test_answer_that_breaks_is_an_error(client: Client, server: RunningServer) -> None:
    play(server, breaks_off("一"))

    error = client.error(server, "chat")

    assert (error["class"], error["status"]) == (client.error_class("InternalServerError"), 500)
    assert len(server.backend.requests) == ATTEMPTS


def test_errors_carry_the_request_id(client: Client, server: RunningServer) -> None:
    error = client.error(server, "chat", temperature=3, extra_headers={"X-Client-Request-Id": "failing-1"})

    if client.is_ark:
        assert error["request_id"] == "failing-1"
        assert "Request id: 02" in error["message"]
    else:
        assert error["request_id"].startswith("02")
        assert len(error["request_id"]) == 53


def test_unserved_paths_are_not_found(client: Client, server: RunningServer) -> None:
    error = client.error(server, "chat", base_url=f"{client.base_url(server)}/nowhere")

    assert facts(error) == expected(client, "NotFoundError", 404, "NotFound", "unknown_url", "")
