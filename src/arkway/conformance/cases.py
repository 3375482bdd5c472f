"""The cases: one function each, found by surface and name. A case that returns has passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from arkway.conformance.target import Failed, Skipped, Target
from arkway.core.errors import ArkwayError

Surface = Literal["v1", "v2", "v3", "openai", "bots", "v3-bots"]
Run = Callable[[Target], Awaitable[None]]

SURFACES: tuple[Surface, ...] = ("v1", "v2", "v3", "openai", "bots", "v3-bots")
QUESTION = {"role": "user", "content": "天为什么这么蓝？Answer in one short sentence."}


class Case(msgspec.Struct, frozen=True):
    """One thing that a client relies on; ``source`` is where the wire's description says so."""

    surface: Surface
    name: str
    source: str
    run: Run


class Result(msgspec.Struct, frozen=True):
    """How a case went. ``detail`` is empty for a pass."""

    surface: Surface
    name: str
    verdict: Literal["pass", "fail", "skip"]
    detail: str = ""


CASES: list[Case] = []


def case(surface: Surface, name: str, source: str) -> Callable[[Run], Run]:
    """Registers a function as a case."""

    def registered(run: Run) -> Run:
        CASES.append(Case(surface, name, source, run))
        return run

    return registered


async def graded(each: Case, target: Target) -> Result:
    """Runs one case. Nothing that the server does ends the examination."""
    try:
        await each.run(target)
    except Failed as failure:
        return Result(each.surface, each.name, "fail", str(failure))
    except Skipped as skipped:
        return Result(each.surface, each.name, "skip", str(skipped))
    except (ArkwayError, LookupError, TypeError, ValueError, AttributeError) as surprise:
        return Result(each.surface, each.name, "fail", f"the answer has another form: {surprise!r}")
    return Result(each.surface, each.name, "pass")


def text_of(frames: list[dict[str, Any]], path: Callable[[dict[str, Any]], str | None]) -> str:
    """What a stream says, its frames joined."""
    return "".join(path(frame) or "" for frame in frames)
