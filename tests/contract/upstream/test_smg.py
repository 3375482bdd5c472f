"""Through SGLang's model gateway, a router in front of two of llama.cpp's servers; one of them dies."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from arkway.backends.upstream.upstream import UpstreamModel
from arkway.core.chat import ChatRequest, Message, Sampling
from arkway.core.errors import BackendFailed, BackendUnavailable, ContextTooLong
from arkway.core.events import Completeness, Delta, Event, Quoted
from tests.contract.upstream.conftest import KEY, MakeServer, run
from tests.tools.client import Connection
from tests.tools.llama_server import llama_process
from tests.tools.pulled import pulled
from tests.tools.pushing import CALL, DEPLOYMENT
from tests.tools.random_gguf import write_random_gguf
from tests.tools.served_by import smg
from tests.tools.waiting import soon

pytestmark = pytest.mark.engine

GREEDY = ChatRequest("m", (Message("user", "hi"),), Sampling(temperature=0.0), max_tokens=16)
STREAM = msgspec.structs.replace(GREEDY, stream=True)
ENDLESS = msgspec.structs.replace(STREAM, max_tokens=60_000)
CONTEXT = 65_536  # so that no machine is so quick that an answer ends before a worker is killed
SCRIPTS = (("Hello", " wide", " 世界", "!"), ("Good", " day", " 你", "!"))
SAID = {"".join(script) for script in SCRIPTS}


class Worker:
    """One of the servers behind the gateway."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self._process = process

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def is_busy(self) -> bool:
        with Connection(self.url, KEY) as client:
            return any(slot["is_processing"] for slot in client.get("/slots").json())


class Routed:
    """A gateway's URL, and its two workers, whose model never stops."""

    def __init__(self, url: str, workers: tuple[Worker, Worker]) -> None:
        self.url = url
        self.workers = workers

    def at_work(self) -> tuple[Worker, Worker]:
        """The one worker that serves a call, and the other one."""
        busy = [worker for worker in self.workers if worker.is_busy()]
        assert len(busy) == 1
        return busy[0], self.workers[self.workers[0] is busy[0]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """In front of a server that says the first script, and of one that says the second."""
    folder = tmp_path_factory.mktemp("smg")
    models = [write_random_gguf(folder / f"{number}.gguf", script=script) for number, script in enumerate(SCRIPTS)]
    with ExitStack() as opened:
        workers = [opened.enter_context(llama_process(model, KEY))[0] for model in models]
        yield opened.enter_context(smg(workers, KEY))


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Routed]:
    model = write_random_gguf(tmp_path / "noise.gguf", context=CONTEXT)
    with ExitStack() as opened:
        one, two = (opened.enter_context(llama_process(model, KEY, context=CONTEXT)) for _ in range(2))
        yield Routed(opened.enter_context(smg((one[0], two[0]), KEY)), (Worker(*one), Worker(*two)))


@pytest.fixture
def model(upstream: MakeServer, gateway: str) -> UpstreamModel:
    return upstream(f"{gateway}/v1", KEY).model("generated")


@asynccontextmanager
async def begun(model: UpstreamModel) -> AsyncGenerator[tuple[AsyncGenerator[Event, None], Completeness]]:
    """A stream that has said something, and what is still missing to it."""
    whole = Completeness()
    async with aclosing(pulled(model, DEPLOYMENT, ENDLESS, CALL)) as events:
        whole.add(await anext(events))
        yield events, whole


async def to_the_end(events: AsyncGenerator[Event, None], whole: Completeness) -> None:
    async for event in events:
        whole.add(event)


async def goes_on(model: UpstreamModel) -> None:
    """Calls of both kinds, more than there are workers."""
    for stream in (False, True) * 3:
        reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=2, stream=stream))
        assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 2)


@pytest.mark.parametrize("request_", [GREEDY, STREAM], ids=["whole", "stream"])
async def test_every_worker_answers_with_its_text_and_usage(model: UpstreamModel, request_: ChatRequest) -> None:
    said = set()
    for _ in range(4):
        reply, events = await run(model, request_)
        (choice,) = reply.choices
        said.add(choice.text)
        assert choice.finish_reason == "stop"
        assert reply.usage.prompt_tokens > 0
        assert (reply.usage.completion_tokens, reply.usage.provenance) == (5, "reported")
        if request_.stream:
            assert len([event for event in events if isinstance(event, Delta | Quoted)]) == 4
    assert said == SAID


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_ends_it(model: UpstreamModel, stream: bool) -> None:
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=2, stream=stream))
    assert reply.choices[0].text in {"".join(script[:2]) for script in SCRIPTS}
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 2)


async def test_its_models_and_its_health(upstream: MakeServer, gateway: str) -> None:
    server = upstream(f"{gateway}/v1", KEY)
    assert await server.models() == ("generated",)
    await server.check("generated")
    with pytest.raises(BackendUnavailable):
        await server.check("another")
    with pytest.raises(BackendUnavailable):
        await upstream(f"{gateway}/v1", "wrong").check("generated")


async def test_a_prompt_that_is_too_long(model: UpstreamModel) -> None:
    with pytest.raises(ContextTooLong) as raised:
        await run(model, msgspec.structs.replace(STREAM, messages=(Message("user", "hi " * 3000),)))
    assert raised.value.prompt_tokens > raised.value.context_tokens == 1024


async def test_a_call_that_is_left_stops_at_the_worker(upstream: MakeServer, routed: Routed) -> None:
    model = upstream(f"{routed.url}/v1", KEY).model("generated")
    async with begun(model) as (events, _):
        serving, _ = routed.at_work()
        await events.aclose()
        await soon(lambda: not serving.is_busy())
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=1))
    assert reply.choices[0].finish_reason == "length"


async def test_a_worker_that_dies_in_a_stream_breaks_it_and_the_other_one_serves_on(
    upstream: MakeServer, routed: Routed
) -> None:
    model = upstream(f"{routed.url}/v1", KEY).model("generated")
    async with begun(model) as (events, whole):
        serving, _ = routed.at_work()
        serving.kill()
        with pytest.raises(BackendFailed) as raised:
            await to_the_end(events, whole)
    assert not whole.reached()
    assert "127.0.0.1" not in raised.value.message
    await goes_on(model)


async def test_a_worker_that_dies_between_calls_is_passed_over(upstream: MakeServer, routed: Routed) -> None:
    model = upstream(f"{routed.url}/v1", KEY).model("generated")
    await goes_on(model)
    routed.workers[0].kill()
    await goes_on(model)


@pytest.mark.parametrize("stream", [False, True])
async def test_without_any_worker_a_call_fails_and_names_none(
    upstream: MakeServer, routed: Routed, stream: bool
) -> None:
    for worker in routed.workers:
        worker.kill()
    model = upstream(f"{routed.url}/v1", KEY).model("generated")
    with pytest.raises((BackendFailed, BackendUnavailable)) as raised:
        await run(model, msgspec.structs.replace(GREEDY, stream=stream))
    assert "127.0.0.1" not in raised.value.message
