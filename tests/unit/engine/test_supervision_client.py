"""What the client makes of an engine that is slow, silent or left: against a scripted engine on a Unix socket."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import types
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from arkway.backends.engine.client import EngineClient
from tests.tools.waiting import PATIENCE_S

FRAME = b'data: {"content": "a"}\n\n'


class ScriptedEngine:
    """Answers the tokenizer at once and a completion when told to; then it writes until its client is gone."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.hang_up = asyncio.Event()

    async def completion(self, asked: web.Request) -> web.StreamResponse:
        self.asked.set()
        await self.answer.wait()
        response = web.StreamResponse()
        await response.prepare(asked)
        await response.write(FRAME)
        await self.hang_up.wait()
        return response

    async def tokenize(self, asked: web.Request) -> web.Response:
        return web.json_response({"tokens": [1]})


@pytest.fixture
async def engine() -> AsyncIterator[tuple[ScriptedEngine, EngineClient]]:
    scripted = ScriptedEngine()
    app = web.Application()
    app.router.add_post("/completion", scripted.completion)
    app.router.add_post("/tokenize", scripted.tokenize)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    folder = tempfile.mkdtemp(prefix="ark")
    path = str(Path(folder) / "e.sock")
    await web.UnixSite(runner, path).start()
    client = EngineClient(path, "key")
    yield scripted, client
    scripted.answer.set()
    scripted.hang_up.set()
    await client.aclose()
    await runner.cleanup()
    shutil.rmtree(folder)


async def test_leaving_before_the_first_byte_waits_for_the_engine_to_hang_up(
    engine: tuple[ScriptedEngine, EngineClient],
) -> None:
    scripted, client = engine
    completion = client.complete({"prompt": [1]})
    reading = asyncio.create_task(anext(completion.frames()))
    await scripted.asked.wait()
    reading.cancel()
    await asyncio.wait([reading])
    drain = completion.abandon()
    assert drain is not None
    await asyncio.sleep(0.05)
    assert not drain.done()
    scripted.answer.set()
    async with asyncio.timeout(PATIENCE_S):
        await drain


async def test_a_completion_that_was_never_begun_holds_nothing(engine: tuple[ScriptedEngine, EngineClient]) -> None:
    _, client = engine
    assert client.complete({"prompt": [1]}).abandon() is None


async def test_closing_the_client_ends_a_drain_that_waits_for_the_first_byte(
    engine: tuple[ScriptedEngine, EngineClient],
) -> None:
    scripted, client = engine
    completion = client.complete({"prompt": [1]})
    reading = asyncio.create_task(anext(completion.frames()))
    await scripted.asked.wait()
    reading.cancel()
    await asyncio.wait([reading])
    drain = completion.abandon()
    assert drain is not None
    await asyncio.sleep(0)
    await client.aclose()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait([drain])


async def test_an_answering_tokenizer_does_not_hide_a_silent_completion(
    engine: tuple[ScriptedEngine, EngineClient],
) -> None:
    scripted, client = engine
    assert client.silent_s == 0
    completion = client.complete({"prompt": [1]})
    reading = asyncio.create_task(anext(completion.frames()))
    await scripted.asked.wait()
    for _ in range(4):
        await asyncio.sleep(0.05)
        await client.ids("x", special=False)
    assert client.silent_s > 0.15
    scripted.answer.set()
    await reading
    assert client.silent_s == 0
    completion.abandon()


async def test_a_completion_that_is_left_leaves_no_generator_open(engine: tuple[ScriptedEngine, EngineClient]) -> None:
    scripted, client = engine
    scripted.answer.set()
    begun: list[types.AsyncGeneratorType[object, object]] = []
    before = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[object, object]) -> None:
        begun.append(cast(types.AsyncGeneratorType[object, object], generator))

    sys.set_asyncgen_hooks(firstiter=note)
    try:
        completion = client.complete({"prompt": [1]})
        async with aclosing(completion.frames()) as frames:
            assert (await anext(frames)).content == "a"
        own = [one for one in begun if one.ag_code.co_filename.endswith("client.py")]
    finally:
        sys.set_asyncgen_hooks(*before)
    assert [one.ag_code.co_name for one in own][:2] == ["frames", "_events"]
    assert all(one.ag_frame is None for one in own)
    completion.abandon()
