"""Upstreams that go wrong behind a real server: every fault in every dialect, alone and beside one that is well.

Deadlines are short here, so that silence ends: what is asserted is which end it was, not how soon it came.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest

from arkway.backends.group import Group, Groups
from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core import errors as e
from arkway.core.upstream import Credential, Member, Policy, Upstream
from arkway.core.upstream import Group as GroupValue
from arkway.testing import CHAT_CARD, MemoryLedger, RunningServer, running_server
from tests.tools.client import Connection, Reply
from tests.tools.faultproxy import (
    FAULTS,
    IN_THE_ANSWER,
    RETRY_AFTER_S,
    Fault,
    FaultProxy,
    ScriptedUpstream,
    fault_proxy,
    scripted_upstream,
)
from tests.tools.waiting import PATIENCE_S, until
from tests.tools.wires import V3, WIRES, Wire

SECRET = "sk-upstream-canary-5d41402abc4b2a76b9719d91"
NAMES = ("faulty-upstream-canary", "other-upstream-canary")
SAID = "春眠不觉晓"

# What only silence ends is given this long, and nothing else is: a machine that stands still breaks no other call.
SHORT_S = 0.3
QUIET = {
    Fault.SILENT: "first_byte_s",
    Fault.SLOW_HEAD: "first_byte_s",
    Fault.TRICKLE: "first_byte_s",
    Fault.STALL: "idle_s",
}

KINDS: dict[Fault, type[e.ArkwayError]] = {
    Fault.REFUSE: e.BackendUnavailable,
    Fault.SILENT: e.BackendTimeout,
    Fault.RESET: e.BackendUnavailable,
    Fault.GARBAGE: e.BackendFailed,
    Fault.SLOW_HEAD: e.BackendTimeout,
    Fault.ERROR: e.BackendFailed,
    Fault.UNAVAILABLE: e.Overloaded,
    Fault.LIMITED: e.RateLimited,
    Fault.CUT_HEAD: e.BackendFailed,
    Fault.ENDLESS_HEAD: e.BackendFailed,
    Fault.TRICKLE: e.BackendTimeout,
    Fault.CUT_AFTER_FRAME: e.BackendFailed,
    Fault.CUT_IN_FRAME: e.BackendFailed,
    Fault.HALF_CLOSE: e.BackendFailed,
    Fault.STALL: e.BackendTimeout,
}

WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
DIALECTS = pytest.mark.parametrize("wire", WIRES, ids=repr)


class Scene:
    """A server over a group of proxies, which all have the same scripted upstream behind them; the first is to fail."""

    def __init__(self, upstream: ScriptedUpstream, proxies: list[FaultProxy], **policy: Any) -> None:
        self.upstream, self.proxies = upstream, proxies
        self.ledger = MemoryLedger()
        self.groups = Groups()
        self._servers: dict[Upstream, UpstreamServer] = {}
        self._policy = Policy(**policy)
        self.renew()

    @property
    def faulty(self) -> FaultProxy:
        return self.proxies[0]

    def renew(self, *, first: bool = False, **deadlines: float) -> None:
        """Members of whom nothing is known. ``first``: the one that is to fail is asked first; its ``deadlines``."""
        names = NAMES[: len(self.proxies)]
        members = tuple(Member(upstream=name, model="m", priority=first * place) for place, name in enumerate(names))
        servers = {
            name: self._server(name, proxy, **({} if place else deadlines))
            for place, (name, proxy) in enumerate(zip(names, self.proxies, strict=True))
        }
        value = GroupValue(card=CHAT_CARD, members=members, policy=self._policy)
        self.groups.replace([Group(value, lambda member: servers[member.upstream].model(member.model))])

    @contextmanager
    def broken(self, fault: Fault, *, first: bool = False) -> Generator[None]:
        self.renew(first=first, **({QUIET[fault]: SHORT_S} if fault in QUIET else {}))
        self.faulty.break_(fault)
        try:
            yield
        finally:
            self.faulty.mend()

    async def close(self) -> None:
        for server in self._servers.values():
            await server.aclose()

    def running(self) -> int:
        return sum(reading.running for reading in self.groups.readings())

    def failures(self) -> list[int]:
        return [reading.failures for reading in self.groups.readings()]

    def _server(self, name: str, proxy: FaultProxy, **deadlines: float) -> UpstreamServer:
        patient = Upstream(
            name=name,
            base_url=proxy.url,
            auth="key",
            connect_s=PATIENCE_S,
            first_byte_s=PATIENCE_S,
            idle_s=PATIENCE_S,
        )
        upstream = msgspec.structs.replace(patient, **deadlines)
        if upstream not in self._servers:
            self._servers[upstream] = UpstreamServer(upstream, Credential(key=SECRET))
        return self._servers[upstream]


@contextmanager
def scene_of(count: int, **policy: Any) -> Generator[tuple[Scene, RunningServer]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(scripted_upstream())
        proxies = [stack.enter_context(fault_proxy(upstream)) for _ in range(count)]
        scene = Scene(upstream, proxies, **policy)
        server = stack.enter_context(
            running_server(
                ledger=scene.ledger,
                settings={"stream": dict.fromkeys(("first_event_s", "next_event_s", "total_s"), 2 * PATIENCE_S)},
                backends={"scripted": scene.groups},
                shutdown=scene.close,
            )
        )
        yield scene, server


@pytest.fixture(scope="module")
def alone() -> Iterator[tuple[Scene, RunningServer]]:
    with scene_of(1) as made:
        yield made


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Scene, RunningServer]]:
    with scene_of(2) as made:
        yield made


def ask(server: RunningServer, wire: Wire, *, stream: bool) -> Reply:
    with Connection(server.url, timeout_s=2 * PATIENCE_S) as client:
        return client.post(*wire.chat(stream=stream))


def answered(wire: Wire, reply: Reply, *, stream: bool) -> bool:
    if reply.status != 200:
        return False
    if stream:
        return wire.text(reply.body) == SAID and wire.finish_reasons(reply.body) == ["stop"]
    return wire.text_of(reply) == SAID


def is_told(wire: Wire, error: dict[str, Any], kind: type[e.ArkwayError], reply: Reply) -> None:
    """The dialect's code of this kind, and nothing of the upstream."""
    meant = kind("x", 1.0) if issubclass(kind, e.RateLimited | e.Overloaded) else kind("x")
    expected = wire.error_of(meant, reply)
    assert (error["code"], error.get("code_n")) == (expected["code"], expected.get("code_n"))
    seen = reply.body + repr(reply.headers).encode()
    for canary in (SECRET, *NAMES, "127.0.0.1", "10.1.2.3", "localhost"):
        assert canary.encode() not in seen


@DIALECTS
@WAYS
def test_without_a_fault_the_answer_comes_through(two: tuple[Scene, RunningServer], wire: Wire, stream: bool) -> None:
    scene, server = two
    assert answered(wire, ask(server, wire, stream=stream), stream=stream)
    assert scene.upstream.keys[-1] == f"Bearer {SECRET}"


@DIALECTS
@WAYS
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_alone_is_the_right_error(
    alone: tuple[Scene, RunningServer], fault: Fault, wire: Wire, stream: bool
) -> None:
    scene, server = alone
    with scene.broken(fault):
        reply = ask(server, wire, stream=stream)
    kind = KINDS[fault]
    if stream and fault in IN_THE_ANSWER:
        assert reply.status == 200
        frames = wire.frames(reply.body)
        is_told(wire, wire.failure(frames[-2]), kind, reply)
        assert frames[-1] == "[DONE]"
        assert wire.text(reply.body) == "春"
        assert wire.finish_reasons(reply.body) == []
    else:
        meant = kind("x", 1.0) if issubclass(kind, e.RateLimited | e.Overloaded) else kind("x")
        assert reply.status == wire.dialect.encode_error(meant, "r").status
        is_told(wire, wire.error(reply, stream=stream), kind, reply)
        after = str(RETRY_AFTER_S) if fault in (Fault.UNAVAILABLE, Fault.LIMITED) else None
        assert reply.headers.get("retry-after") == after
    settled = scene.ledger.settlements[reply.headers["x-request-id"]]
    assert settled.error == kind.__name__
    assert scene.ledger.attempts.keys() == scene.ledger.settlements.keys()
    until(lambda: scene.running() == 0)
    # Nothing of the fault stays behind: the next call goes through, and the connection of this one is not used again.
    scene.renew()
    assert answered(wire, ask(server, wire, stream=stream), stream=stream)


@DIALECTS
@WAYS
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_beside_one_that_is_well_no_call_is_lost_that_has_not_begun(
    two: tuple[Scene, RunningServer], fault: Fault, wire: Wire, stream: bool
) -> None:
    """The faulty one is asked first. A stream that has begun is not begun again."""
    scene, server = two
    with scene.broken(fault, first=True):
        reply = ask(server, wire, stream=stream)
    if stream and fault in IN_THE_ANSWER:
        assert wire.finish_reasons(reply.body) == []
        is_told(wire, wire.failure(wire.frames(reply.body)[-2]), KINDS[fault], reply)
        retries = 0
    else:
        assert answered(wire, reply, stream=stream)
        retries = 1
    assert [(reading.calls, reading.retries) for reading in scene.groups.readings()] == [(1, 0), (retries, retries)]
    settled = scene.ledger.settlements[reply.headers["x-request-id"]]
    assert settled.outcome == ("done" if retries else "upstream_error")


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in IN_THE_ANSWER], ids=lambda fault: fault.name)
def test_under_load_with_one_of_two_faulty_every_call_succeeds(two: tuple[Scene, RunningServer], fault: Fault) -> None:
    """From the first call on, eight at a time, in all dialects, streamed and not."""
    scene, server = two
    calls = 120

    def one(number: int) -> bool:
        wire, stream = WIRES[number % len(WIRES)], number % 8 < 4
        return answered(wire, ask(server, wire, stream=stream), stream=stream)

    with scene.broken(fault), ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(calls)))
    readings = {reading.upstream: reading for reading in scene.groups.readings()}
    assert sum(reading.calls - reading.retries for reading in readings.values()) == calls
    assert readings[NAMES[1]].failures == 0
    until(lambda: scene.running() == 0)


def test_a_dead_upstream_that_comes_back_serves_again() -> None:
    """Three hundred calls: it dies after fifty and is back after a hundred and fifty."""
    with scene_of(2, breaker_open_s=0.2) as (scene, server), Connection(server.url, timeout_s=PATIENCE_S) as client:
        for number in range(300):
            if number == 50:
                scene.faulty.break_(Fault.RESET)
            if number == 150:
                scene.faulty.mend()
            stream = number % 2 == 0
            assert answered(V3, client.post(*V3.chat(stream=stream)), stream=stream)
        met = scene.faulty.met

        def serves() -> bool:
            assert answered(V3, client.post(*V3.chat()), stream=False)
            return scene.faulty.met > met + 20

        until(serves)
        assert {reading.condition for reading in scene.groups.readings()} == {"well"}


def test_when_both_fail_asking_again_adds_a_fifth_at_most() -> None:
    """By the budget alone: the breakers never open here."""
    with scene_of(2, breaker_calls=10**6) as (scene, server):
        for proxy in scene.proxies:
            proxy.break_(Fault.ERROR)
        calls = 200
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: ask(server, V3, stream=False), range(calls)))
        assert {reply.status for reply in replies} == {500}
        assert calls < sum(proxy.met for proxy in scene.proxies) <= 1.2 * calls + 4


def test_with_breakers_open_nobody_is_asked() -> None:
    with scene_of(2, breaker_open_s=3600.0, breaker_window_s=3600.0) as (scene, server):
        for proxy in scene.proxies:
            proxy.break_(Fault.ERROR)
        for _ in range(60):
            assert ask(server, V3, stream=False).status == 500
        asked = sum(proxy.met for proxy in scene.proxies)
        assert asked <= 30
        error = V3.error(ask(server, V3, stream=False))
        assert error["code"] == "InternalServiceError"
        assert sum(proxy.met for proxy in scene.proxies) == asked
        assert {reading.condition for reading in scene.groups.readings()} == {"broken"}


@DIALECTS
@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.STALL], ids=lambda fault: fault.name)
def test_a_client_that_leaves_takes_its_call_along(
    alone: tuple[Scene, RunningServer], fault: Fault, wire: Wire
) -> None:
    """Before the answer and in the middle of it: the upstream's connection is closed, nobody is blamed."""
    scene, server = alone
    scene.renew()
    scene.faulty.break_(fault)
    try:
        path, body, headers = wire.chat(stream=True)
        with Connection(server.url) as client:
            client.send("POST", path, body, headers)
            if fault is Fault.STALL:
                assert client.head()[0] == 200
            until(lambda: scene.faulty.spoiling == 1)
        until(lambda: scene.faulty.spoiling == 0)
    finally:
        scene.faulty.mend()
    until(lambda: scene.running() == 0)
    assert scene.failures() == [0]


def test_calls_end_where_they_began_when_the_groups_are_replaced() -> None:
    with scene_of(1) as (scene, server), ThreadPoolExecutor(1) as pool:
        scene.renew(idle_s=SHORT_S)
        scene.faulty.break_(Fault.STALL)
        call = pool.submit(ask, server, V3, stream=True)
        until(lambda: scene.faulty.met == 1)
        before = scene.groups.group(CHAT_CARD.served_name)
        scene.faulty.mend()
        scene.renew()
        assert answered(V3, ask(server, V3, stream=True), stream=True)
        reply = call.result(PATIENCE_S)
        assert V3.text(reply.body) == "春"
        assert V3.finish_reasons(reply.body) == []
        assert before is not None
        until(lambda: before.running == 0)
        assert [reading.failures for reading in before.readings()] == [1]
