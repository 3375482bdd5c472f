"""Metrics count what observers are told, under bounded labels."""

from __future__ import annotations

from typing import Any

from arkway.core.chat import Usage
from arkway.ports import CallRecord
from arkway.telemetry.log import Observers, together
from arkway.telemetry.metrics import Metrics


def record(**changes: Any) -> CallRecord:
    facts: dict[str, Any] = {
        "request_id": "02",
        "dialect": "v3",
        "operation": "chat",
        "endpoint_id": "ep-1",
        "model": "m-1",
        "status": 200,
        "error": "",
        "outcome": "done",
        "usage": Usage(10, 5, 2),
        "first_token_s": 0.1,
        "duration_s": 0.5,
        "stream": True,
        "key_id": "key-SECRET",
    }
    return CallRecord(**facts | changes)


def lines(metrics: Metrics) -> dict[str, float]:
    pairs = (line.rpartition(" ") for line in metrics.render().decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_calls_tokens_and_times_are_counted() -> None:
    metrics = Metrics()
    metrics.started("v3", "chat")
    metrics.started("v3", "chat")
    metrics.ended(record())
    found = lines(metrics)
    where = 'dialect="v3",operation="chat"'
    assert found['arkway_requests_total{dialect="v3",model="m-1",operation="chat",status="200"}'] == 1
    assert found[f"arkway_inflight{{{where}}}"] == 1
    assert found['arkway_tokens_total{kind="prompt",model="m-1"}'] == 10
    assert found['arkway_tokens_total{kind="completion",model="m-1"}'] == 5
    assert found['arkway_tokens_total{kind="cached",model="m-1"}'] == 2
    assert found['arkway_ttft_seconds_sum{model="m-1"}'] == 0.1
    assert found['arkway_tpot_seconds_sum{model="m-1"}'] == 0.1


def test_errors_are_counted_by_class_and_cost_no_times() -> None:
    metrics = Metrics()
    metrics.started("v3", "chat")
    metrics.ended(record(status=404, error="EndpointNotFound", usage=Usage(), first_token_s=-1.0, model=""))
    found = lines(metrics)
    assert found['arkway_errors_total{dialect="v3",error="EndpointNotFound",operation="chat"}'] == 1
    assert not any("ttft" in name or "tokens_total" in name for name in found)


def test_calls_that_differ_in_status_or_model_share_what_is_not_told_apart_by_it() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.started("v3", "chat")
    metrics.ended(record(duration_s=0.005))
    metrics.ended(record(model="m-2", duration_s=200.0))
    metrics.ended(record(status=500, error="BackendFailed", usage=Usage(4, 1), duration_s=0.006))
    found = lines(metrics)
    where = 'dialect="v3",operation="chat"'
    assert found[f"arkway_inflight{{{where}}}"] == 0
    assert found['arkway_requests_total{dialect="v3",model="m-1",operation="chat",status="200"}'] == 1
    assert found['arkway_requests_total{dialect="v3",model="m-1",operation="chat",status="500"}'] == 1
    assert found['arkway_tokens_total{kind="prompt",model="m-1"}'] == 14
    assert found['arkway_tokens_total{kind="prompt",model="m-2"}'] == 10
    bucket = 'arkway_request_seconds_bucket{{dialect="v3",le="{}",operation="chat"}}'
    assert [found[bucket.format(bound)] for bound in ("0.005", "0.01", "120.0", "+Inf")] == [1, 2, 2, 3]
    assert found[f"arkway_request_seconds_sum{{{where}}}"] == 200.011
    assert found['arkway_ttft_seconds_count{model="m-1"}'] == 2
    assert found['arkway_tpot_seconds_count{model="m-1"}'] == 1


def test_what_has_never_counted_is_not_shown_but_for_a_gauge() -> None:
    metrics = Metrics()
    metrics.started("v3", "tokenization")
    metrics.ended(record(operation="tokenization", usage=Usage(), first_token_s=-1.0))
    found = lines(metrics)
    assert found['arkway_inflight{dialect="v3",operation="tokenization"}'] == 0
    assert not any("tokens" in name or "ttft" in name or "tpot" in name for name in found)


def test_no_label_holds_a_key_or_an_endpoint() -> None:
    metrics = Metrics(lambda: {"queue_length": 3.0})
    metrics.started("v3", "chat")
    metrics.ended(record())
    text = metrics.render().decode()
    assert "SECRET" not in text
    assert "ep-1" not in text
    assert lines(metrics)["arkway_queue_length"] == 3


def test_several_observers_are_told_alike() -> None:
    first, second = Metrics(), Metrics()
    both = Observers(first, second)
    both.started("openai", "embeddings")
    both.ended(record(dialect="openai", operation="embeddings"))
    assert lines(first).keys() == lines(second).keys()


def test_one_observer_alone_is_told_directly() -> None:
    metrics = Metrics()
    assert together(metrics) is metrics
    assert isinstance(together(metrics, Metrics()), Observers)
