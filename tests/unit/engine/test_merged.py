"""Several answers at once: every event is marked with its choice and keeps what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from arkway.backends.engine.chat import _merged
from arkway.core.chat import Usage
from arkway.core.events import Delta, Event, Finished, UsageReport


async def answer(*events: Event) -> AsyncGenerator[Event, None]:
    for event in events:
        yield event


async def test_every_end_keeps_what_moderation_has_found() -> None:
    ends = (Finished("stop"), Finished("content_filter", hit="violence"))
    streams = [answer(Delta("a", completion_tokens=1), end, UsageReport(Usage(3, 1))) for end in ends]
    events = [event async for event in _merged(streams)]
    found = {event.index: event for event in events if isinstance(event, Finished)}
    assert found == {0: Finished("stop", 0), 1: Finished("content_filter", 1, "violence")}
    assert events[-1] == UsageReport(Usage(3, 2))
