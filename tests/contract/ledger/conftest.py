"""The adapters under contract: how each is made, and how what it recorded is read back after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, get_args

import pytest

from arkway.ports import Ledger, Settlement
from arkway.stores.framing import Opened, Settled
from arkway.stores.journal import Durability, Journal
from arkway.stores.recovery import read_segment
from arkway.stores.segment import segment_numbers, segment_path
from arkway.testing import MemoryLedger


class Recorder(Protocol):
    """One adapter in a place of its own."""

    survives: bool

    def open(self) -> Ledger: ...

    def close(self) -> None: ...

    def settled(self) -> dict[str, Settlement]:
        """The endings of attempts that were opened, the first of each."""


class JournalRecorder:
    survives = True

    def __init__(self, directory: Path, durability: Durability) -> None:
        self._directory, self._durability = directory, durability
        self._journal: Journal | None = None

    def open(self) -> Ledger:
        self._journal = Journal(self._directory, durability=self._durability, segment_bytes=4000)
        return self._journal

    def close(self) -> None:
        if self._journal:
            self._journal.close()
            self._journal = None

    def settled(self) -> dict[str, Settlement]:
        opened: set[str] = set()
        found: dict[str, Settlement] = {}
        for number in segment_numbers(self._directory):
            for record in read_segment(segment_path(self._directory, number), is_last=False)[0]:
                if isinstance(record, Opened):
                    opened.add(record.attempt.id)
                elif isinstance(record, Settled) and record.attempt_id in opened:
                    found.setdefault(record.attempt_id, record.settlement)
        return found


class MemoryRecorder:
    survives = False

    def __init__(self) -> None:
        self._ledger = MemoryLedger()

    def open(self) -> Ledger:
        return self._ledger

    def close(self) -> None:
        pass

    def settled(self) -> dict[str, Settlement]:
        return dict(self._ledger.settlements)


@pytest.fixture(params=[*get_args(Durability), "memory"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorder]:
    kind = request.param
    made: Recorder = MemoryRecorder() if kind == "memory" else JournalRecorder(tmp_path / "journal", kind)
    yield made
    made.close()


@pytest.fixture
def fresh_journal(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Recorder]:
    """A new, empty journal each time, for tests that play many histories."""
    return lambda: JournalRecorder(tmp_path_factory.mktemp("history"), "process")
