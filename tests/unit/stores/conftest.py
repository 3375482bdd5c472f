from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement
from arkway.stores.journal import Journal
from arkway.stores.segment import segment_path

MakeAttempt = Callable[..., Attempt]
MakeSettlement = Callable[..., Settlement]


@pytest.fixture
def make_attempt() -> MakeAttempt:
    def make(number: int = 1, *, opened_ms: int = 1_750_000_000_000, key_id: str = "key-one") -> Attempt:
        return Attempt(
            id=f"attempt-{number:08d}",
            request_id=f"02{number:051d}",
            account="default",
            project="default",
            key_id=key_id,
            endpoint_id="ep-20250101000000-abcde",
            model="small",
            dialect="v3",
            operation="chat",
            opened_ms=opened_ms,
            estimate_tokens=100,
        )

    return make


@pytest.fixture
def make_settlement() -> MakeSettlement:
    def make(prompt: int = 3, completion: int = 5, error: str = "") -> Settlement:
        return Settlement("done", Usage(prompt, completion), 1_750_000_000_500, 20, 500, error)

    return make


@pytest.fixture
def written(tmp_path: Path, make_attempt: MakeAttempt, make_settlement: MakeSettlement) -> Path:
    """The one segment of a journal that was left with one attempt settled and one open."""
    journal = Journal(tmp_path / "left" / "journal")
    journal.reserve(make_attempt(1))
    journal.settle(make_attempt(1).id, make_settlement())
    journal.reserve(make_attempt(2))
    journal.checkpoint(make_attempt(2).id, 3, 16)
    journal.close()
    return segment_path(tmp_path / "left" / "journal", 1)
