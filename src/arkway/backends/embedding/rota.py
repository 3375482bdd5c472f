"""Whose turn it is: callers take turns, and so do the requests of one caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from arkway.backends.embedding.frames import Answer


@dataclass(slots=True)
class Job:
    """One request, worked off piece by piece: each ``next(pieces)`` is a few milliseconds of work."""

    id: int
    caller: str
    pieces: Iterator[Answer]
    dropped: bool = False


class Rota:
    """The jobs that want a turn. Not thread-safe."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Job]] = {}

    def add(self, job: Job) -> None:
        """To the end of its caller's line; a caller without a line goes behind all others."""
        self._lines.setdefault(job.caller, deque()).append(job)

    def take(self) -> Job | None:
        """The job whose turn it is, taken out; ``add`` it again when it has pieces left."""
        caller = next(iter(self._lines), None)
        if caller is None:
            return None
        line = self._lines.pop(caller)
        job = line.popleft()
        if line:
            self._lines[caller] = line
        return job
