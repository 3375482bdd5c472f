"""The same store three times: SQLite, PostgreSQL with pgvector, and PostgreSQL where no extension may be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from arkway.knowledge.opening import open_knowledge
from arkway.ports.lookup import KnowledgeStore
from arkway.stores.postgres_link import Link
from tests.tools.servers import Postgres

OpenKnowledge = Callable[[], KnowledgeStore]


def opened(home: Path, url: str) -> KnowledgeStore:
    return open_knowledge(home, Link(url, busy_s=30).connect if url else None)


@pytest.fixture(params=["sqlite", "pgvector", "postgresql"])
def knowledge_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Empty for SQLite, else an empty PostgreSQL database of the test's own."""
    if request.param == "sqlite":
        yield ""
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.database()
    yield url if request.param == "pgvector" else _of_a_plain_user(server, url)
    server.drop(url)


@pytest.fixture
def new_knowledge(tmp_path: Path, knowledge_url: str) -> Iterator[OpenKnowledge]:
    """Opens the test's store, each time as another process does."""
    with ExitStack() as stores:

        def opening() -> KnowledgeStore:
            store = opened(tmp_path, knowledge_url)
            stores.callback(store.close)
            return store

        yield opening


@pytest.fixture
def knowledge(new_knowledge: OpenKnowledge) -> KnowledgeStore:
    return new_knowledge()


def _of_a_plain_user(server: Postgres, url: str) -> str:
    """The same database for somebody who may make tables and nothing else."""
    if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'plain'"):
        server.execute("CREATE ROLE plain LOGIN")
    server.execute("GRANT CREATE, USAGE ON SCHEMA public TO plain", url.partition("@/")[2].partition("?")[0])
    return url.replace("postgres@", "plain@")
