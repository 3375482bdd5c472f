"""A model that gets another file, card or projector while it runs, and one that is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from arkway.backends.engine.footprint import footprint_bytes
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.embedding import TokenizeRequest
from arkway.core.errors import ArkwayError, BackendUnavailable, Overloaded, UnsupportedInput
from arkway.core.events import Completeness, Delta, Event
from tests.tools.random_projector import TOKENS, png, write_random_projector
from tests.tools.waiting import soon
from tests.unit.engine.conftest import Bench, card_of, request
from tests.unit.engine.test_seeing import ask

pytestmark = pytest.mark.engine

SLOTS = 2
NEW = ("another", " file")
OTHER_SHAPE = msgspec.structs.replace(card_of("slow", 8192), max_output_tokens=5, default_output_tokens=5)


def children() -> set[int]:
    """Engine processes of ours that still run."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if "arkway.backends.engine.child" in child.cmdline():
                found.add(child.pid)
    return found


class Replacing(Bench):
    """A pool over the slow model, under a name that gets other models."""

    def __init__(self, path: Path, **settings: Any) -> None:
        fields = {"threads": 1, "idle_stop_s": 0.0, "slots": SLOTS, **settings}
        super().__init__(path, EngineSettings(**fields), 8192)
        self.model = EngineModel(path, self.deployment.card)

    @property
    def pid(self) -> int:
        (status,) = self.pool.status()
        return status.pid

    def becomes(self, **fields: Any) -> None:
        self.model = msgspec.structs.replace(self.model, **fields)
        self.pool.add(self.name, self.model)

    async def lent(self, text: str) -> tuple[int, ...]:
        (found,) = await self.pool.lend(self.deployment, TokenizeRequest("m", (text,)), Call("req"))
        return found.ids


class Underway:
    """A call that has begun to be answered, and whose answer is being written."""

    def __init__(self, one: Bench, max_tokens: int) -> None:
        self._stream = one.stream(request(max_tokens=max_tokens))
        self._events: list[Event] = []

    async def begun(self) -> None:
        while not any(isinstance(event, Delta) for event in self._events):
            self._events.append(await anext(self._stream))

    async def ended(self) -> bool:
        """Whether its answer came whole."""
        completeness = Completeness()
        async with aclosing(self._stream) as stream:
            self._events += [event async for event in stream]
        for event in self._events:
            completeness.add(event)
        return completeness.reached()


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Replacing]]:
    pools: list[Replacing] = []

    def make(path: Path, **settings: Any) -> Replacing:
        pools.append(Replacing(path, **settings))
        return pools[-1]

    yield make
    for one in pools:
        await one.pool.aclose()
    await soon(lambda: not children())


async def underway(one: Replacing, max_tokens: int = 300) -> Underway:
    call = Underway(one, max_tokens)
    await call.begun()
    return call


async def test_calls_that_begin_after_another_file_came_are_answered_from_it(
    made: Callable[..., Replacing], slow_model: Path, scripted_model: Callable[..., Path]
) -> None:
    one = made(slow_model)
    call, old = await underway(one), one.pid
    one.becomes(path=scripted_model(*NEW))

    assert (await one.run(request(max_tokens=8))).text == "".join(NEW)
    assert children() == {old, one.pid}
    assert [(status.name, status.in_flight) for status in one.pool.status()] == [(one.name, 0)]
    assert await call.ended()
    await soon(lambda: children() == {one.pid})


async def test_an_engine_that_nobody_uses_ends_at_once(
    made: Callable[..., Replacing], slow_model: Path, scripted_model: Callable[..., Path]
) -> None:
    one = made(slow_model)
    await one.pool.load(one.name)
    one.becomes(path=scripted_model(*NEW))

    assert not one.pool.status()[0].loaded
    await soon(lambda: not children())
    assert (await one.run(request(max_tokens=8))).text == "".join(NEW)


async def test_another_card_holds_for_calls_that_begin_from_then_on(
    made: Callable[..., Replacing], slow_model: Path
) -> None:
    one = made(slow_model)
    call = await underway(one)
    one.becomes(card=OTHER_SHAPE)

    assert (await one.run(request(max_tokens=None))).usage.completion_tokens == 5
    assert await call.ended()
    await soon(lambda: children() == {one.pid})


async def test_a_projector_that_comes_while_the_model_runs_is_used(
    made: Callable[..., Replacing], random_model: Path, tmp_path: Path
) -> None:
    one = made(random_model)
    plain = await one.run(ask("hello"))
    with pytest.raises(UnsupportedInput):
        await one.run(ask(png(28, 28), "hello"))
    one.becomes(projector=write_random_projector(tmp_path / "projector.gguf"))

    seen = await one.run(ask(png(28, 28), "hello"))
    assert seen.usage.prompt_tokens == plain.usage.prompt_tokens + TOKENS
    await soon(lambda: children() == {one.pid})


async def test_the_same_model_again_changes_nothing(made: Callable[..., Replacing], slow_model: Path) -> None:
    one = made(slow_model)
    call, old = await underway(one), one.pid
    one.becomes(path=Path(str(slow_model)))
    one.pool.keep([one.name])

    assert (await one.run(request(max_tokens=1))).usage.completion_tokens == 1
    assert (one.pid, children()) == (old, {old})
    assert await call.ended()


async def test_what_is_to_end_counts_in_the_memory_cap_until_it_has(
    made: Callable[..., Replacing], slow_model: Path
) -> None:
    needed = footprint_bytes(slow_model, 8192, SLOTS)
    one = made(slow_model, memory_bytes=needed * 3 // 2)
    call, old = await underway(one), one.pid
    one.becomes(card=OTHER_SHAPE)

    with pytest.raises(Overloaded, match="no memory"):
        await one.run(request(max_tokens=1))
    assert children() == {old}
    assert await call.ended()
    assert (await one.run(request(max_tokens=1))).usage.completion_tokens == 1
    assert children() == {one.pid} != {old}


async def test_room_is_made_by_what_is_to_end_before_another_idle_model(
    made: Callable[..., Replacing], slow_model: Path, random_model: Path
) -> None:
    small = EngineModel(random_model, card_of("small"))
    needed = footprint_bytes(slow_model, 8192, SLOTS) + footprint_bytes(random_model, 2048, SLOTS)
    one = made(slow_model, memory_bytes=needed + 1)
    one.pool.add(small.card.served_name, small)
    await one.pool.load(small.card.served_name)
    await one.pool.load(one.name)
    one.becomes(card=OTHER_SHAPE)
    await one.pool.load(one.name)

    assert [status.ready for status in one.pool.status()] == [True, True]


async def test_closing_ends_what_is_still_answering_too(
    made: Callable[..., Replacing], slow_model: Path, random_model: Path
) -> None:
    one = made(slow_model)
    call = await underway(one, 4000)
    one.becomes(path=random_model)
    await one.pool.load(one.name)
    await one.pool.aclose()

    assert not children()
    with pytest.raises(ArkwayError):
        await call.ended()
    await soon(lambda: not children())


async def test_a_removed_model_is_found_no_more_and_ends_after_its_calls(
    made: Callable[..., Replacing], slow_model: Path
) -> None:
    one = made(slow_model)
    call, old = await underway(one), one.pid
    one.pool.keep([])

    with pytest.raises(BackendUnavailable, match="not installed"):
        await one.run(request(max_tokens=1))
    assert (one.pool.status(), children()) == ((), {old})
    assert await call.ended()
    await soon(lambda: not children())
    one.becomes()
    assert (await one.run(request(max_tokens=1))).usage.completion_tokens == 1


async def test_a_file_that_does_not_load_is_no_trouble_once_it_is_replaced(
    made: Callable[..., Replacing], tmp_path: Path, random_model: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(random_model.read_bytes()[:200_000])
    one = made(broken, backoff_first_s=600.0, backoff_limit_s=600.0)
    with pytest.raises(BackendUnavailable, match="broken"):
        await one.pool.load(one.name)
    assert len(one.pool.troubles()) == 1
    one.becomes(path=random_model, card=card_of("broken"))

    assert one.pool.troubles() == ()
    assert (await one.run(request(max_tokens=1))).usage.completion_tokens == 1


async def test_texts_are_cut_by_the_vocabulary_of_the_file_that_is_there(
    made: Callable[..., Replacing], slow_model: Path, random_model: Path, tmp_path: Path
) -> None:
    one = made(slow_model)
    before = await one.lent("hello")
    first = children()
    unmerged = tmp_path / "unmerged.gguf"
    unmerged.write_bytes(random_model.read_bytes().replace(b"h e", b"x e", 1))
    one.becomes(path=unmerged)

    assert len(before) == 1
    assert len(await one.lent("hello")) > 1
    assert len(first) == 1
    await soon(lambda: len(children()) == 1 and not children() & first)
    one.pool.keep([])
    await soon(lambda: not children())


async def test_texts_that_are_being_cut_are_cut_to_the_end(
    made: Callable[..., Replacing], slow_model: Path, scripted_model: Callable[..., Path]
) -> None:
    one = made(slow_model)
    wanted = await one.lent("hello")
    cutting = asyncio.create_task(one.lent("hello"))
    await asyncio.sleep(0)
    one.becomes(path=scripted_model(*NEW))

    assert await cutting == wanted
    assert await one.lent("hello")
    await soon(lambda: len(children()) == 1)
