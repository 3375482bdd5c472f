"""Tokens of a model that nobody has loaded: a child that knows its words and none of its weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.embedding import TokenizeRequest
from arkway.core.errors import BackendUnavailable
from tests.tools.waiting import soon
from tests.unit.engine.conftest import Bench, card_of, deployment_of

pytestmark = pytest.mark.engine

TEXTS = ("hello world", "你好，世界 👋", "", "<|im_start|>user\n<|im_end|>", " leading", "a\tb\r\n" * 40)
CALL = Call("req")
HERE = psutil.Process()


class Lender(Bench):
    """A pool that holds a model and has not loaded it."""

    async def lent(self, *texts: str) -> list[tuple[int, ...]]:
        found = await self.pool.lend(self.deployment, TokenizeRequest("m", texts), CALL)
        return [each.ids for each in found]


def children() -> list[psutil.Process]:
    return [child for child in HERE.children() if "arkway.backends.engine.child" in " ".join(child.cmdline())]


@pytest.fixture
async def lender(slow_model: Path) -> AsyncIterator[Lender]:
    made = Lender(slow_model, EngineSettings(threads=1, idle_stop_s=0.0), context=8192)
    yield made
    await made.pool.aclose()


async def test_texts_are_cut_as_the_model_itself_cuts_them(lender: Lender) -> None:
    request = TokenizeRequest("m", TEXTS)
    lent = await lender.pool.lend(lender.deployment, request, CALL)
    assert not lender.pool.status()[0].loaded

    assert lent == await lender.pool.tokenize(lender.deployment, request, CALL)
    assert [len(each.ids) for each in lent][:3] == [2, len(lent[1].ids), 0]
    assert len(lent[3].ids) > 10  # what spells a control token is text


async def test_no_weight_of_the_model_is_in_memory(lender: Lender, slow_model: Path) -> None:
    await lender.lent("hello")

    (child,) = children()
    mapped = {Path(region.path).name: region.rss for region in child.memory_maps()}
    assert 0 < mapped["vocabulary.gguf"] < slow_model.stat().st_size / 100
    assert slow_model.name not in mapped


async def test_one_child_serves_all_and_a_loaded_model_needs_none(lender: Lender) -> None:
    first, *others = await asyncio.gather(*(lender.lent("hello", "world") for _ in range(8)))
    assert all(each == first for each in others)
    assert len(children()) == 1
    await lender.pool.aclose()
    await lender.pool.load(lender.name)

    assert await lender.lent("hello", "world") == first
    assert [child.pid for child in children()] == [lender.pool.status()[0].pid]


async def test_it_stops_when_idle_and_comes_back(random_model: Path) -> None:
    lender = Lender(random_model, EngineSettings(threads=1, idle_stop_s=0.2))
    try:
        first = await lender.lent("hello")
        await soon(lambda: not children())
        assert await lender.lent("hello") == first
    finally:
        await lender.pool.aclose()
    assert not children()


async def test_a_child_that_dies_is_replaced(lender: Lender) -> None:
    first = await lender.lent("hello")
    children()[0].kill()
    assert await lender.lent("hello") == first


async def test_a_model_whose_file_is_gone_or_broken_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64)
    models = {
        card_of(path.stem).served_name: EngineModel(path, card_of(path.stem)) for path in (broken, tmp_path / "x.gguf")
    }
    pool = EnginePool(models, EngineSettings(threads=1))
    try:
        for name, reason in (
            ("broken", "broken.gguf does not load"),
            ("x", "x.gguf is missing"),
            ("other", "not installed"),
        ):
            with pytest.raises(BackendUnavailable, match=reason):
                await pool.lend(deployment_of(card_of(name)), TokenizeRequest("m", ("hello",)), CALL)
    finally:
        await pool.aclose()
