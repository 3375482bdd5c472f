"""Limits on the road: in every dialect, under load, and true to what was used however a call ends."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from arkway.core import errors as e
from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta
from arkway.core.limit import Kind, Period, Rule, Scope
from arkway.testing import (
    ACCESS_KEY_ID,
    ENDPOINT_ID,
    Gate,
    MemoryLedger,
    RunningServer,
    Script,
    Step,
    running_server,
    says,
)
from tests.tools.client import Connection, Reply
from tests.tools.waiting import PATIENCE_S, until
from tests.tools.wires import OPERATIONS, WIRES, Wire

V3 = next(wire for wire in WIRES if wire.route == "v3")


def rule(
    kind: Kind,
    amount: float,
    period: Period = "",
    *,
    scope: Scope = "project",
    subject: str = "",
    shadow: bool = False,
) -> Rule:
    return Rule("default", "" if scope == "account" else "default", scope, subject, kind, period, amount, shadow)


def asked(server: RunningServer, wire: Wire = V3, *, stream: bool = False, max_tokens: int = 16) -> Reply:
    with Connection(server.url) as client:
        name = "max_new_tokens" if wire.route in ("v1", "v2") else "max_tokens"
        parameters: dict[str, Any] = {name: max_tokens}
        return client.post(*wire.chat(stream=stream, **parameters))


def settled(server: RunningServer, count: int) -> None:
    """Until the ledger has so many endings: what follows them has no answer to wait for."""
    ledger = server.ledger
    assert isinstance(ledger, MemoryLedger)
    until(lambda: len(ledger.settlements) >= count)
    with Connection(server.url) as client:
        assert client.get("/livez").status == 200  # the server's loop has come to its next turn


CODES: dict[str, tuple[object, ...]] = {
    "v3": ("RateLimitExceeded.EndpointRPMExceeded", "RateLimitExceeded.EndpointTPMExceeded", "QuotaExceeded"),
    "openai": ("rate_limit_exceeded", "rate_limit_exceeded", "insufficient_quota"),
    "v1": (1709820, 1709821, 1709835),
    "v2": (1709820, 1709821, 1709835),
    "bots": (1709820, 1709821, 1709835),
    "v3-bots": ("RateLimitExceeded.EndpointRPMExceeded", "RateLimitExceeded.EndpointTPMExceeded", "QuotaExceeded"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_every_dialect_tells_which_limit_and_whether_to_come_back(wire: Wire, stream: bool) -> None:
    cases = [(rule("rpm", 1), 429), (rule("tpm", 100), 429), (rule("tokens", 2, "day"), 403)]
    for place, (limit, status) in enumerate(cases):
        with running_server(says("一", "二"), rules=[limit]) as server:
            first, second = asked(server, wire, max_tokens=90), asked(server, wire, stream=stream, max_tokens=90)
            while limit.kind == "tpm" and second.status == 200:
                second = asked(server, wire, stream=stream, max_tokens=90)
        assert first.status == 200
        assert second.status == status
        error = wire.error(second, stream=stream)
        assert CODES[wire.route][place] in (error["code"], error.get("code_n"))
        if status == 429:
            assert 1 <= int(second.headers["retry-after"]) <= 60
            assert "x-should-retry" not in second.headers
        else:
            assert "retry-after" not in second.headers
            assert second.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("wire, operation", [pair for pair in OPERATIONS if pair[1] != "cert"], ids=str)
def test_every_operation_is_under_the_limits(wire: Wire, operation: str) -> None:
    with running_server(rules=[rule("rpm", 2)]) as server, Connection(server.url) as client:
        statuses = [client.post(*wire.call(operation)).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize(
    "limit", [rule("rpm", 1), rule("tokens", 1, "total"), rule("concurrency", 1), rule("tpm", 1)], ids=lambda r: r.kind
)
def test_200_at_once_on_a_quota_of_one_are_one_that_is_served(limit: Rule) -> None:
    gate, start = Gate(), threading.Barrier(200)

    def held(_: ChatRequest) -> Iterable[Step]:
        yield gate
        yield from says("一")(_)

    def one() -> int:
        start.wait(PATIENCE_S)
        return asked(server).status

    with running_server(held, rules=[limit]) as server, ThreadPoolExecutor(200) as pool:
        answers = [pool.submit(one) for _ in range(200)]
        until(lambda: sum(answer.done() for answer in answers) >= 199)
        gate.open()
        counts = Counter(answer.result(PATIENCE_S) for answer in answers)
        assert len(server.backend.requests) == 1
    assert counts == {200: 1, 429: 199}


def test_refused_calls_leave_no_trace_in_the_ledger_and_do_not_eat_the_window() -> None:
    ledger = MemoryLedger()
    with running_server(ledger=ledger, rules=[rule("rpm", 60)], settings={"limits": {"burst_s": 1}}) as server:
        served = 1
        while (reply := asked(server)).status == 200:
            served += 1
        while reply.status == 429:
            assert int(reply.headers["retry-after"]) <= 1
            reply = asked(server)
        assert reply.status == 200
    assert len(ledger.attempts) == len(ledger.settlements) == served


def breaks(_: ChatRequest) -> Iterable[Step]:
    yield e.BackendFailed("broken")


def busy(_: ChatRequest) -> Iterable[Step]:
    yield e.Overloaded("64 calls are waiting already")


def too_long(_: ChatRequest) -> Iterable[Step]:
    yield e.ContextTooLong(9000, 100, 8192)


@pytest.mark.parametrize("script", [breaks, busy])
def test_a_call_that_fails_before_its_first_token_costs_nothing(script: Script) -> None:
    rules = [rule("rpm", 1), rule("tpm", 200), rule("concurrency", 1), rule("tokens", 200, "day")]
    with running_server(script, rules=rules) as server:
        statuses = {asked(server).status for _ in range(5)}
        server.backend.script = says("一")
        assert asked(server).status == 200
        assert asked(server).status == 429
    assert statuses in ({500}, {429})
    assert len(server.backend.requests) == 6


def test_a_mistake_that_only_the_model_finds_counts_as_a_request_and_as_no_token() -> None:
    with running_server(too_long, rules=[rule("rpm", 2), rule("tokens", 50, "day")]) as server:
        assert [asked(server).status for _ in range(4)] == [400, 400, 429, 429]


def test_a_client_that_leaves_pays_for_what_it_had_and_frees_its_place() -> None:
    def endless(_: ChatRequest) -> Iterable[Step]:
        for count in range(1, 4):
            yield Delta("字", completion_tokens=count, prompt_tokens=7)
        yield Gate()

    rules = [rule("concurrency", 1), rule("tokens", 30, "day")]
    with running_server(endless, rules=rules) as server:
        with Connection(server.url) as client:
            client.send("POST", *V3.chat(stream=True, max_tokens=10))
            said = b""
            while said.count("字".encode()) < 3:
                said += client.socket.recv(65536)
            assert asked(server, max_tokens=2).status == 429
            client.socket.shutdown(socket.SHUT_RDWR)
        settled(server, 1)
        server.backend.script = says("一", prompt_tokens=7)
        # Ten tokens of thirty are spent: 7 read and 3 written.
        assert asked(server, max_tokens=17).status == 403
        assert asked(server, max_tokens=5).status == 200


def test_a_quota_is_never_overdrawn_by_calls_in_parallel() -> None:
    """Every call uses what it may at most: 23 tokens by the guess, 12 in truth."""
    ledger = MemoryLedger()
    script = says(*"一二三四五六七", prompt_tokens=5)
    with running_server(script, ledger=ledger, rules=[rule("tokens", 600, "total")]) as server:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda _: asked(server, max_tokens=7), range(100)))
        while (reply := asked(server, max_tokens=7)).status == 200:
            pass
    used = sum(settlement.usage.total_tokens for settlement in ledger.settlements.values())
    assert reply.status == 403
    assert 600 - 12 < used <= 600


def test_shadows_are_counted_and_refuse_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rules = [rule("rpm", 1, shadow=True), rule("tokens", 1, "day", shadow=True)]
    with running_server(rules=rules) as server, Connection(server.url) as client:
        assert [asked(server).status for _ in range(4)] == [200] * 4
        metrics = client.call("GET", "/metrics").body.decode()
    assert 'arkway_limited_total{kind="rpm",scope="project",shadow="yes"} 3.0' in metrics
    assert 'arkway_limited_total{kind="tokens",scope="project",shadow="yes"} 3.0' in metrics
    assert caplog.text.count("the limit is in shadow") == 2


@pytest.mark.parametrize(
    "limit, meets",
    [
        (rule("rpm", 1, scope="key", subject="key-testing"), True),
        (rule("rpm", 1, scope="key", subject=ACCESS_KEY_ID), False),
        (rule("rpm", 1, scope="endpoint", subject=ENDPOINT_ID), True),
        (rule("rpm", 1, scope="endpoint", subject="ep-20240701000000-other"), False),
        (rule("rpm", 1, scope="account"), True),
        (Rule("other", "default", "key", "key-testing", "rpm", "", 1), False),
        (Rule("default", "other", "project", "", "rpm", "", 1), False),
    ],
    ids=str,
)
def test_whom_a_limit_binds(limit: Rule, meets: bool) -> None:
    with running_server(rules=[limit]) as server:
        assert [asked(server).status for _ in range(2)] == [200, 429 if meets else 200]


def test_money_is_a_quota_too() -> None:
    def cost_of(model: str, usage: Usage, at_ms: int) -> float:
        return usage.total_tokens / 100

    with running_server(says("一", prompt_tokens=9), rules=[rule("cost", 0.5, "month")], cost_of=cost_of) as server:
        # Ten tokens are a tenth; a call may cost up to (5 + 5) / 100.
        assert [asked(server, max_tokens=5).status for _ in range(7)] == [200] * 5 + [403] * 2


def test_quotas_go_on_where_the_ledger_is() -> None:
    with running_server(says("一"), rules=[rule("tokens", 100, "day")], spent=lambda *_: 95.0) as server:
        reply = asked(server)
    assert reply.status == 403
    assert "5 left" in reply.error()["message"]


def test_two_servers_on_one_valkey_are_as_one(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"limits": {"valkey": valkey_url, "timeout_s": 1.0}}
    rules = [rule("rpm", 10), rule("tokens", 10_000, "day"), rule("concurrency", 8)]
    with (
        running_server(says("一"), rules=rules, settings=settings) as one,
        running_server(says("一"), rules=rules, settings=settings) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        began_s = time.monotonic()
        answers = Counter(pool.map(lambda place: asked((one, two)[place % 2]).status, range(40)))
        passed_s = time.monotonic() - began_s
    # On a machine that stands still for half a second the server may be missed: then each gives its own half.
    missed = "does not answer" in caplog.text
    assert (1 if missed else 10) <= answers[200] <= (20 if missed else 10) + passed_s / 6
    assert answers[200] + answers[429] == 40
    assert one.backend.requests
    assert two.backend.requests
