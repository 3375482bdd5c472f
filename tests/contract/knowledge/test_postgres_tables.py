"""What only PostgreSQL has: several processes that make the tables, extensions, a server that goes away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.stores.postgres import PostgresStore
from tests.contract.knowledge.conftest import opened
from tests.tools.servers import Postgres
from tests.tools.shelf import collection, shelved, texts

BOOK = collection()


def name_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def test_processes_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: opened(Path("/"), postgres_url), range(6)))
    assert sum(store.create(BOOK) for store in stores) == 1
    assert [len(store.collections("acme")) for store in stores] == [1] * 6
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("knowledge_url", "kind"), [("pgvector", "vector"), ("postgresql", "bytea")], indirect=["knowledge_url"]
)
def test_vectors_are_pgvectors_where_the_extension_may_be_made(
    postgres: Postgres, knowledge_url: str, kind: str
) -> None:
    opened(Path("/"), knowledge_url).close()
    statement = (
        "SELECT udt_name FROM information_schema.columns "
        "WHERE table_name = 'knowledge_vectors' AND column_name = 'vector'"
    )
    assert postgres.execute(statement, name_of(knowledge_url)) == [(kind,)]
    store = opened(Path("/"), knowledge_url)
    store.create(BOOK)
    [piece] = shelved(store, BOOK, "a.md", "apples")
    store.add_vectors(BOOK.id, {piece.id: [1.0, 2.0]})
    assert texts(store.near(BOOK.id, [1.0, 2.0], 5)) == ["apples"]
    store.close()


def test_the_tables_stand_beside_the_main_ones(migrated_postgres_url: str) -> None:
    store = opened(Path("/"), migrated_postgres_url)
    assert store.create(BOOK)
    PostgresStore(migrated_postgres_url).close()
    again = opened(Path("/"), migrated_postgres_url)
    assert [one.name for one in again.collections("acme")] == ["handbook"]
    again.close()
    store.close()


def test_tables_of_a_newer_version_are_refused(postgres: Postgres, postgres_url: str) -> None:
    opened(Path("/"), postgres_url).close()
    postgres.execute("UPDATE knowledge_version SET version = 99", name_of(postgres_url))
    with pytest.raises(Misconfigured, match="newer version of Arkway"):
        opened(Path("/"), postgres_url)


def test_a_server_that_goes_away_and_comes_back(own_postgres: Postgres) -> None:
    url = own_postgres.database()
    store = opened(Path("/"), url)
    store.create(BOOK)
    shelved(store, BOOK, "a.md", "apples")
    own_postgres.stop()
    for work in (lambda: store.words([BOOK.id], "apples", 5), lambda: store.drop(BOOK.id)):
        with pytest.raises(StoreUnavailable):
            work()
    with pytest.raises(StoreUnavailable):
        opened(Path("/"), url)
    own_postgres.start()
    assert texts(store.words([BOOK.id], "apples", 5)) == ["apples"]
    assert store.drop(BOOK.id)
    store.close()
