"""Who is told when the engine lets go of a schema: scripted answers, a process that only complains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from arkway.backends.engine.promise import Promises, acquired
from arkway.core.errors import BackendFailed, InvalidField, Overloaded
from arkway.core.events import Delta, Event, Finished, Progress

SCHEMA = {"type": "object"}
WHOLE = (Progress(1, 2), Delta("{"), Delta("}"), Finished("stop"))


class Complaining:
    def __init__(self) -> None:
        self.complaints: list[str] = []


async def answer(process: Complaining, *script: Event | str) -> AsyncGenerator[Event, None]:
    """A string is a complaint that is heard at once."""
    for step in script:
        if isinstance(step, str):
            process.complaints.append(step)
        else:
            yield step


async def run(book: Promises, process: Complaining, schema: dict[str, Any] | None, *script: Event | str) -> list[Event]:
    with book.promise(schema, "response_format") as promise:
        await promise.turn(1.0)
        async with aclosing(promise.kept(process, answer(process, *script))) as events:
            return [event async for event in events]


@pytest.mark.parametrize("script", [("bad", *WHOLE), (Progress(1, 2), "bad", Delta("x"))])
async def test_a_complaint_before_any_text_names_the_field(script: tuple[Event | str, ...]) -> None:
    book, process = Promises(), Complaining()
    for _ in range(2):
        with pytest.raises(InvalidField, match="bad") as raised:
            await run(book, process, SCHEMA, *script)
        assert raised.value.field == "response_format"
    assert not book.trial.locked()


@pytest.mark.parametrize("proven", [False, True])
async def test_a_complaint_in_the_middle_fails_the_answer_and_the_schemas_proof(*, proven: bool) -> None:
    book, process = Promises(), Complaining()
    if proven:
        assert tuple(await run(book, process, SCHEMA, *WHOLE)) == WHOLE
    with pytest.raises(BackendFailed):
        await run(book, process, SCHEMA, Progress(1, 2), Delta("{"), "Parser Error", Delta("x"), Finished("length"))
    with book.promise(SCHEMA, "f") as again:
        assert again.untried()


async def test_a_late_complaint_fails_the_first_answer_at_its_end() -> None:
    book, process = Promises(), Complaining()

    async def late() -> AsyncGenerator[Event, None]:
        yield Delta("{")
        asyncio.get_running_loop().call_later(0.02, process.complaints.append, "late")
        yield Finished("length")

    with book.promise(SCHEMA, "f") as promise:
        await promise.turn(1.0)
        events = promise.kept(process, late())
        assert await anext(events) == Delta("{")
        with pytest.raises(BackendFailed):
            await anext(events)


async def test_an_unproven_schema_takes_the_blame_from_a_proven_one() -> None:
    book, process = Promises(), Complaining()
    await run(book, process, SCHEMA, *WHOLE)
    with book.promise(SCHEMA, "f") as proven, book.promise({"type": "array"}, "f") as fresh:
        sound = proven.kept(process, answer(process, *WHOLE))
        broken = fresh.kept(process, answer(process, Delta("["), Delta("x"), Delta("y")))
        await anext(sound)
        await anext(broken)
        process.complaints.append("Parser Error")
        assert [event async for event in sound] == list(WHOLE[1:])
        with pytest.raises(BackendFailed):
            await anext(broken)


async def test_answers_without_a_schema_are_not_held_to_anything() -> None:
    book, process = Promises(), Complaining()
    script = (Delta("a"), Finished("stop"))
    assert tuple(await run(book, process, None, "bad", *script)) == script


async def test_one_schema_is_tried_at_a_time() -> None:
    book = Promises()
    with book.promise(SCHEMA, "f") as first, book.promise({"type": "array"}, "f") as second:
        await first.turn(1.0)
        with pytest.raises(Overloaded):
            await second.turn(0.01)
        first.end_trial()
        await second.turn(0.01)
        assert book.trial.locked()
    assert not book.trial.locked()


async def test_a_turn_that_does_not_come_is_overloaded() -> None:
    few = asyncio.Semaphore(1)
    await acquired(few, 0.01)
    with pytest.raises(Overloaded):
        await acquired(few, 0.01)
