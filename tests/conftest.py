"""Fixtures of every folder: databases, and real servers, which start when the first test asks for them.

A test that asks for ``store`` runs on SQLite and on PostgreSQL, unless it is marked ``sqlite``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from arkway.stores.store import Store, open_store
from tests.tools.databases import made
from tests.tools.servers import migrated_postgres_url as migrated_postgres_url
from tests.tools.servers import own_postgres as own_postgres
from tests.tools.servers import own_valkey as own_valkey
from tests.tools.servers import postgres as postgres
from tests.tools.servers import postgres_url as postgres_url
from tests.tools.servers import valkey_server as valkey_server
from tests.tools.servers import valkey_url as valkey_url

OpenStore = Callable[[], Store]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sqlite: about the file of SQLite, not about any database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    other = [item for item in items if item.get_closest_marker("sqlite") and "[postgresql" in item.name]
    items[:] = [item for item in items if item not in other]
    config.hook.pytest_deselected(items=other)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite, else a PostgreSQL database of the test's own, with its tables."""
    return str(request.getfixturevalue("migrated_postgres_url")) if request.param == "postgresql" else ""


@pytest.fixture
def new_store(tmp_path: Path, database_url: str) -> Iterator[OpenStore]:
    """Opens the test's database, each time as another process does; SQLite's file is ``tmp_path / "arkway.db"``."""
    if not database_url:
        made(tmp_path / "arkway.db")
    with ExitStack() as opened:
        yield lambda: opened.enter_context(open_store(tmp_path / "arkway.db", database_url, poll_s=0.05))


@pytest.fixture
def store(new_store: OpenStore) -> Store:
    return new_store()


@pytest.fixture
def another(store: Store, new_store: OpenStore) -> Store:
    """The same database as ``store``, opened a second time."""
    return new_store()
