"""``/metrics`` of several processes: everything of each under its own label, whichever is asked."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from arkway.app.exposition import Exposition
from arkway.app.workers import Seat
from arkway.core.chat import Usage
from arkway.ports import CallRecord
from arkway.telemetry.metrics import Metrics

RECORD = CallRecord("r", "v3", "chat", "ep", "small", 200, "", "done", Usage(5, 2), 0.1, 0.3, stream=True)
Series = dict[tuple[str, str, str], float]


@asynccontextmanager
async def process(number: int, meeting: str, *, count: int = 2, calls: int = 0) -> AsyncIterator[Exposition]:
    metrics = Metrics(lambda: {"limits_away": float(number)})
    for _ in range(calls):
        metrics.started("v3", "chat")
        metrics.ended(RECORD)
    made = Exposition(metrics, Seat(number, count, meeting=meeting))
    await made.start()
    try:
        yield made
    finally:
        await made.aclose()


async def series(asked: Exposition) -> Series:
    """Values by name, process and the bucket, of a page that a scraper can read."""
    status, content_type, text = await asked.page()
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families), "a family comes in one piece"
    return {
        (sample.name, sample.labels.get("process", ""), sample.labels.get("le", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("kind", "prompt") == "prompt"
    }


async def test_whichever_is_asked_tells_of_all() -> None:
    meeting = secrets.token_hex(16)
    async with process(1, meeting, calls=3) as first, process(2, meeting, calls=4) as second:
        told, same = await series(first), await series(second)
        assert told == same
    requests = {number: told["arkway_requests_total", number, ""] for number in "12"}
    assert requests == {"1": 3, "2": 4}
    assert {number: told["arkway_tokens_total", number, ""] for number in "12"} == {"1": 15, "2": 20}
    assert told["arkway_request_seconds_bucket", "2", "+Inf"] == 4
    assert {number: told["arkway_limits_away", number, ""] for number in "12"} == {"1": 1, "2": 2}
    assert {number: told["arkway_process_up", number, ""] for number in "12"} == {"1": 1, "2": 1}
    assert {process for _, process, _ in told} == {"1", "2"}


async def test_one_that_is_gone_is_told_of_and_one_that_is_back_counts_from_nothing() -> None:
    meeting = secrets.token_hex(16)
    async with process(1, meeting, calls=3) as first:
        async with process(2, meeting, calls=4):
            assert ("arkway_requests_total", "2", "") in await series(first)
        alone = await series(first)
        assert (alone["arkway_process_up", "1", ""], alone["arkway_process_up", "2", ""]) == (1, 0)
        assert ("arkway_requests_total", "2", "") not in alone
        assert alone["arkway_requests_total", "1", ""] == 3
        async with process(2, meeting, calls=1):
            assert (await series(first))["arkway_requests_total", "2", ""] == 1


@pytest.mark.parametrize("said", [b"", b"\xff\xff", msgspec.msgpack.encode([1, 2])])
async def test_one_that_answers_nonsense_is_left_out(said: bytes) -> None:
    meeting = secrets.token_hex(16)
    with socket.socket(socket.AF_UNIX) as strange:
        strange.bind(f"\0arkway-{meeting}-2")
        strange.listen()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(process(1, meeting, calls=3))
            strange.setblocking(False)

            async def answer() -> None:
                connection, _ = await asyncio.get_running_loop().sock_accept(strange)
                connection.sendall(said)
                connection.close()

            answering = asyncio.create_task(answer())
            told = await series(first)
            await answering
    assert told["arkway_process_up", "2", ""] == 0
    assert told["arkway_requests_total", "1", ""] == 3


async def test_one_process_alone_has_no_label() -> None:
    told = await series(Exposition(Metrics(lambda: {"limits_away": 0.0})))
    assert {process for _, process, _ in told} == {""}
