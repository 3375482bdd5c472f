"""What the official Python SDKs of MaaS v1 and v2 make of refusals and failures: one exception, all of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    ContextTooLong,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from arkway.testing import MemoryLedger, RunningServer, running_server
from tests.sdk.cells import cell
from tests.sdk.conftest import QUESTION, MaasClient, on_maas, on_v1, on_v2
from tests.sdk.scenes import breaks_off, fails, play

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

OPERATIONS = pytest.mark.parametrize("operation", ["chat", "stream"])
INVALID = (400, "InvalidParameter", 1709808)
MISSING = (400, "MissingParameter", 1709807)
UNKNOWN_ENDPOINT = (400, "EndpointIsInvalid", 1709810)
WRONG_SIGNATURE = (401, "SignatureDoesNotMatch", 1709801)
WRONG_HEADER = (401, "AuthenticationHeaderIsInvalid", 1709805)
STALE = (401, "AuthenticationExpire", 1709809)
UNSUPPORTED = (405, "APINotSupport", 1709828)

REFUSALS: tuple[tuple[ArkwayError, int, str, int], ...] = (
    (ContextTooLong(9000, 100, 8192), *INVALID),
    (QuotaExhausted("the quota of this endpoint is spent"), 403, "OperationDenied", 1709835),
    (Overloaded("the waiting line is full"), 412, "ServiceResourceWaitQueueFull", 1709822),
    (BackendFailed("the engine stopped"), 500, "InternalServiceError", 1709806),
    (BackendUnavailable("nothing serves this endpoint just now"), 503, "ServiceConnectionRefused", 1709816),
    (BackendTimeout("no answer within 1 s"), 504, "InferenceServiceConnetionTimeout", 1709803),
)


def facts(error: dict[str, Any]) -> tuple[int, str, int]:
    """Status, code and its number; fails where the SDK surfaced anything but a complete error of the server's."""
    assert error["class"] == "MaasException"
    assert error["message"]
    assert error["req_id"]
    return error["status"], error["code"], error["code_n"]


@on_maas
@OPERATIONS
@cell("error 400")
def test_bad_parameter_is_named(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, {"messages": QUESTION, "parameters": {"temperature": 3}})

    assert facts(error) == INVALID
    assert "temperature" in error["message"]
    assert server.backend.requests == []


@on_maas
@OPERATIONS
@cell("error 400")
def test_missing_messages_are_named(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, {})

    assert facts(error) == MISSING
    assert "messages" in error["message"]


@on_v1
@OPERATIONS
def test_missing_model_is_named(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, {"model": {}, "messages": QUESTION})

    assert facts(error) == MISSING
    assert "model" in error["message"]


@on_maas
@OPERATIONS
@cell("error 404")
def test_unknown_endpoint(client: MaasClient, server: RunningServer, operation: str) -> None:
    """v1 and v2 have no 404 for it: status 400, and a code of its own."""
    unknown = server.endpoint_id.replace("tests", "testz")
    request = {"messages": QUESTION, **({"model": {"endpoint_id": unknown}} if client.surface == "v1" else {})}

    error = client.error(server, operation, request, endpoint_id=unknown)

    assert facts(error) == UNKNOWN_ENDPOINT
    assert unknown in error["message"]


@on_v1
@cell("error 404")
@pytest.mark.parametrize("model", [{"name": "skylark-nowhere"}, {"name": "scripted-chat", "version": "99"}])
def test_unknown_model(client: MaasClient, server: RunningServer, model: dict[str, str]) -> None:
    assert facts(client.error(server, "chat", {"model": model, "messages": QUESTION})) == UNKNOWN_ENDPOINT


@on_maas
@OPERATIONS
@cell("error 401")
def test_unknown_access_key(client: MaasClient, server: RunningServer, operation: str) -> None:
    assert facts(client.error(server, operation, access_key_id="AKLTnobodys")) == WRONG_HEADER


@on_maas
@OPERATIONS
@cell("error 401")
def test_wrong_secret(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, secret_access_key="not-the-secret")

    assert facts(error) == WRONG_SIGNATURE
    assert server.secret_access_key not in error["message"]


@on_maas
@OPERATIONS
@cell("error 401")
@pytest.mark.parametrize(("ahead_s", "what"), [(-1000, "slow"), (1000, "fast")])
def test_wrong_clock(client: MaasClient, server: RunningServer, operation: str, ahead_s: int, what: str) -> None:
    error = client.error(server, operation, clock_ahead_s=ahead_s)

    assert facts(error) == STALE
    assert f"clock is {what}" in error["message"]


@on_maas
def test_clock_within_the_window(client: MaasClient, server: RunningServer) -> None:
    for ahead_s in (-840, 840):
        assert client.text(client.result(server, "chat", clock_ahead_s=ahead_s)) == "你好，世界"


@on_maas
@OPERATIONS
@cell("error 401")
def test_session_without_its_token(client: MaasClient, server: RunningServer, operation: str) -> None:
    pair = {"access_key_id": server.session_access_key_id, "secret_access_key": server.session_secret}

    without = client.error(server, operation, **pair)
    wrong = client.error(server, operation, **pair, session_token="another-token")

    assert facts(without) == facts(wrong) == WRONG_HEADER
    assert "X-Security-Token" in without["message"]
    assert server.session_token not in wrong["message"]


@on_v2
@OPERATIONS
@cell("error 401")
def test_wrong_api_key(client: MaasClient, server: RunningServer, operation: str) -> None:
    assert facts(client.error(server, operation, api_key="not-a-key")) == WRONG_HEADER


@pytest.fixture(scope="module")
def strict_about_regions() -> Iterator[RunningServer]:
    with running_server(settings={"signing": {"regions": ["cn-beijing", "cn-shanghai"]}}) as running:
        yield running


@on_maas
@OPERATIONS
@cell("error 401")
def test_wrong_region(client: MaasClient, strict_about_regions: RunningServer, operation: str) -> None:
    error = client.error(strict_about_regions, operation, region="Region")

    assert facts(error) == WRONG_HEADER
    assert "`Region`" in error["message"]
    assert "`cn-beijing` or `cn-shanghai`" in error["message"]
    assert client.result(strict_about_regions, operation, region="cn-shanghai")


@on_maas
def test_any_region_where_none_is_asked_for(client: MaasClient, server: RunningServer) -> None:
    assert client.text(client.result(server, "chat", region="Region")) == "你好，世界"


@on_maas
@OPERATIONS
@cell("error 429")
def test_too_many_requests(client: MaasClient, server: RunningServer, operation: str) -> None:
    play(server, fails(RateLimited("too many requests for this endpoint", retry_after_s=7)))

    answer = client.ask(server, operation)

    exchange = answer["exchanges"][-1]
    assert facts({**answer["error"], "status": exchange["status"]}) == (
        429,
        "EndpointAccountRpmRateLimitExceeded",
        1709820,
    )
    assert exchange["answered"]["retry-after"] == "7"
    assert len(server.backend.requests) == 1  # these SDKs do not try again


@on_maas
@OPERATIONS
@pytest.mark.parametrize("refusal", REFUSALS, ids=[type(refusal[0]).__name__ for refusal in REFUSALS])
def test_refusals(
    client: MaasClient, server: RunningServer, operation: str, refusal: tuple[ArkwayError, int, str, int]
) -> None:
    play(server, fails(refusal[0]))

    error = client.error(server, operation)

    assert facts(error) == refusal[1:]
    assert len(server.backend.requests) == 1


@on_maas
@cell("mid-stream error")
def test_stream_that_breaks_raises(client: MaasClient, server: RunningServer) -> None:
    play(server, breaks_off("一", "二", "三"))

    answer = client.ask(server, "stream")

    assert client.texts(answer["frames"]) == ["一", "二", "三"]
    assert not any(client.choices(frame)[0].get("finish_reason") for frame in answer["frames"])
    assert not any(frame.get("usage") for frame in answer["frames"])
    assert facts({**answer["error"], "status": answer["exchanges"][-1]["status"]}) == (
        200,
        "InternalServiceError",
        1709806,
    )
    assert "the engine stopped" in answer["error"]["message"].lower()
    assert isinstance(server.ledger, MemoryLedger)
    settled = server.ledger.settlements[server.backend.calls[0].request_id]
    assert (settled.outcome, settled.usage.completion_tokens) == ("upstream_error", 3)


@on_maas
@cell("mid-stream error")
def test_answer_that_breaks_is_an_error(client: MaasClient, server: RunningServer) -> None:
    play(server, breaks_off("一"))

    assert facts(client.error(server, "chat")) == (500, "InternalServiceError", 1709806)


@on_maas
def test_errors_carry_the_request_id(client: MaasClient, server: RunningServer) -> None:
    answer = client.ask(server, "chat", {})

    exchange = answer["exchanges"][-1]
    theirs = exchange["sent"].get("x-tt-logid")
    ours = exchange["answered"]["x-tt-logid"]
    assert len(ours) == 53
    assert answer["error"]["req_id"] == (theirs if client.surface == "v2" else ours)


@on_v2
@pytest.mark.parametrize("operation", ["quick_gen", "flex_gen", "speech"])
def test_what_is_not_served_says_so(client: MaasClient, server: RunningServer, operation: str) -> None:
    error = client.error(server, operation, {"prompt": "cat", "input": "hi", "voice": "v"})

    assert facts(error) == UNSUPPORTED


@on_maas
def test_embedding_model_does_not_chat(client: MaasClient, server: RunningServer) -> None:
    ours = server.embedding_endpoint_id
    request = {"messages": QUESTION, **({"model": {"endpoint_id": ours}} if client.surface == "v1" else {})}

    error = client.error(server, "chat", request, endpoint_id=ours)

    assert error["class"] == "MaasException"
    assert 400 <= error["status"] < 500
    assert 1709801 <= error["code_n"] <= 1709912
    assert server.backend.requests == []
