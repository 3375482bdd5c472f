from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement
from arkway.stores.drain import usage_row
from arkway.stores.home import database_path
from arkway.stores.sqlite import SqliteStore
from tests.tools.databases import made_in

Row = dict[str, Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made_in(tmp_path / "home")


@pytest.fixture
def store(home: Path) -> Iterator[SqliteStore]:
    with SqliteStore(database_path(home), poll_s=60) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_attempt() -> Callable[..., Attempt]:
    def make(number: int, opened_ms: int, *, model: str = "small-1", key: str = "key-1", caller: str = "") -> Attempt:
        name = f"a{number:04d}"
        return Attempt(name, name, "default", "default", key, "ep-1", model, "v3", "chat", opened_ms, 0, caller)

    return make


@pytest.fixture(scope="session")
def make_row(make_attempt: Callable[..., Attempt]) -> Callable[..., Row]:
    def make(number: int, opened_ms: int, usage: Usage = Usage(1000, 100), **attempt: str) -> Row:  # noqa: B008
        settlement = Settlement("done", usage, opened_ms + 500, 20, 500)
        return usage_row(make_attempt(number, opened_ms, **attempt), settlement)

    return make
