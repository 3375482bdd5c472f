"""Usage as it is told of a list of rows, which is what every way of adding it up has to agree with."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from arkway.core.chat import Usage
from arkway.ports import Attempt, Outcome, Settlement
from arkway.stores.drain import usage_row
from arkway.stores.rollups import COUNTS, FAILED
from arkway.stores.schema import projects
from arkway.stores.store import Store, open_store
from tests.tools.databases import made

Row = dict[str, Any]
NAMES = {"key": "key_id", "endpoint": "endpoint_id", "model": "model", "caller": "caller"}
FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}


class Place:
    """A database that can be closed and opened again."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self.store = open_store(path, url, poll_s=60)

    def restart(self) -> None:
        self.store.close()
        self.store = open_store(self._path, self._url, poll_s=60)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database of its own; empty for SQLite."""
    return str(request.getfixturevalue("migrated_postgres_url")) if request.param == "postgresql" else ""


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[Store]:
    with open_store(made(tmp_path / "arkway.db"), url, poll_s=60) as opened:
        yield opened


@pytest.fixture
def shared_place(tmp_path: Path, url: str) -> Iterator[Place]:
    """One database for many histories, each in a project of its own."""
    place = Place(made(tmp_path / "shared.db"), url)
    yield place
    place.store.close()


MakeRow = Callable[..., Row]


@pytest.fixture(scope="session")
def make_row() -> MakeRow:
    """A settled call; what is not given follows from its number."""

    def make(
        number: int,
        opened_ms: int,
        *,
        project: str = "default",
        outcome: Outcome = "done",
        model: str = "",
        caller: str | None = None,
    ) -> Row:
        attempt = Attempt(
            id=f"{project}-{number:06d}",
            request_id=f"r{number}",
            account="default",
            project=project,
            key_id=f"key-{number % 3}",
            endpoint_id=f"ep-{number % 2}",
            model=model or f"model-{number % 2}",
            dialect="v3",
            operation="chat",
            opened_ms=opened_ms,
            caller=("", "anna", "bert")[number % 3] if caller is None else caller,
        )
        usage = Usage(10 + number, number % 7, number % 5, number % 3)
        return usage_row(attempt, Settlement(outcome, usage, opened_ms + 500, 20, 500))

    return make


def told(
    rows: Iterable[Row], since_ms: int, until_ms: int, by: Sequence[str], where: dict[str, Sequence[str]]
) -> list[Row]:
    """What `UsageTable.totals` has to answer."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        kept = all(not values or row[NAMES[name]] in values for name, values in where.items())
        if since_ms <= row["opened_ms"] < until_ms and kept:
            entry = sums.setdefault(tuple(_group(row, name) for name in by), [0] * len(COUNTS))
            counts = (1, int(row["outcome"] in FAILED), *(row[name] for name in COUNTS[2:]))
            entry[:] = [old + new for old, new in zip(entry, counts, strict=True)]
    return [dict(zip((*by, *COUNTS), (*group, *entry), strict=True)) for group, entry in sorted(sums.items())]


def _group(row: Row, name: str) -> str:
    if name in FORMATS:
        return datetime.datetime.fromtimestamp(row["opened_ms"] / 1000, datetime.UTC).strftime(FORMATS[name])
    return str(row[NAMES.get(name, name)])


@pytest.fixture(scope="session")
def tell() -> Callable[..., list[Row]]:
    return told


def make_project(connection: sa.Connection, project: str) -> None:
    connection.execute(projects.insert().values(account="default", id=project, name=project, created_at=1))
