"""Recorded shapes of upstream streams: the bytes, and what has to come of them, in ``tests/data/upstream/tails``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from arkway.core.errors import ArkwayError
from arkway.core.events import Event, Quoted
from arkway.wire.openai_shape.incoming import StreamReader

TAILS = Path(__file__).parents[2] / "data" / "upstream" / "tails"


def names() -> list[str]:
    return sorted(path.stem for path in TAILS.glob("*.txt"))


def raw(name: str) -> bytes:
    return (TAILS / f"{name}.txt").read_bytes()


def expected(name: str) -> dict[str, Any]:
    """``choices`` asked for, the ``events``, and the ``failure``'s class ("" = none)."""
    value = msgspec.json.decode((TAILS / f"{name}.json").read_bytes())
    assert isinstance(value, dict)
    return value


def read(pieces: Iterable[bytes], choices: int = 1) -> tuple[list[Event], ArkwayError | None]:
    """Everything that a stream of these pieces gives, and what it fails with."""
    reader, events = StreamReader(choices), list[Event]()
    for piece in pieces:
        events += reader.feed(piece)
    try:
        events += reader.end()
    except ArkwayError as error:
        return events, error
    return events, None


def seen(pieces: Iterable[bytes], choices: int = 1) -> dict[str, Any]:
    """What came, as the files write it: text as text, whether it was parsed or not; nothing that has its default."""
    events, failure = read(pieces, choices)
    return {"events": [written(event) for event in events], "failure": type(failure).__name__ if failure else ""}


def written(event: Event) -> dict[str, Any]:
    plain = event.delta() if isinstance(event, Quoted) else event
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plain))
    kept = {name: value for name, value in fields.items() if value or name in ("reason", "position")}
    return {"event": type(plain).__name__, **kept}
