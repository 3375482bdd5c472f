"""What only PostgreSQL has: a server that goes away and comes back, other programs' schemas, passwords."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from arkway.config import Database, load
from arkway.core.errors import ArkwayError, Misconfigured, StoreUnavailable
from arkway.stores import schema
from arkway.stores.belonging import pepper_of
from arkway.stores.listening import Listener
from arkway.stores.migration import migrate_shared
from arkway.stores.postgres import PostgresStore
from arkway.stores.postgres_link import Link
from arkway.stores.store import open_store
from tests.tools.servers import Postgres

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{before}"


def upgrade():
    op.add_column("accounts", sa.Column("colour", sa.String, nullable=False, server_default="none"))
    op.create_table("colours", sa.Column("name", sa.String, primary_key=True))
    {end}
"""


def add_account(connection: sa.Connection, name: str) -> None:
    connection.execute(schema.accounts.insert().values(id=name, name=name, created_at=1))


def account_ids(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(sa.select(schema.accounts.c.id)))


def soon(condition: Callable[[], bool], within_s: float = 5.0) -> float:
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s
        time.sleep(0.005)
    return time.monotonic() - began_s


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres_url, poll_s=0.05) as opened:
        yield opened


# The schema


def test_processes_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: PostgresStore(postgres_url), range(6)))
    assert [store.run_sync(account_ids, read=True) for store in stores] == [{"default"}] * 6
    for store in stores:
        store.close()


def test_a_database_of_another_program_is_refused(postgres: Postgres, postgres_url: str) -> None:
    postgres.execute("CREATE TABLE songs (name text)", postgres_url.partition("@/")[2].partition("?")[0])
    with pytest.raises(Misconfigured, match="not Arkway's"):
        PostgresStore(postgres_url)


def next_version(folder: Path, end: str = "") -> Path:
    """A migration script of the version after this one."""
    folder.mkdir()
    (folder / "m9999_next.py").write_text(NEXT.format(before=schema.REVISION, end=end))
    return folder


def migrate_to_next(url: str, versions: Path, oldest: str) -> None:
    with Link(url, busy_s=5).engine().begin() as connection:
        migrate_shared(connection, "test", "9999", oldest=oldest, extra_versions=(versions,))


def test_the_version_before_goes_on_and_starts_again_after_a_migration(
    tmp_path: Path, postgres_url: str, store: PostgresStore
) -> None:
    migrate_to_next(postgres_url, next_version(tmp_path / "versions"), oldest=schema.REVISION)
    store.run_sync(lambda connection: add_account(connection, "running"), tell=True)
    with PostgresStore(postgres_url) as restarted:
        restarted.run_sync(lambda connection: add_account(connection, "restarted"), tell=True)
        assert restarted.run_sync(account_ids, read=True) == {"default", "running", "restarted"}


def test_a_schema_that_this_version_cannot_use_is_refused(tmp_path: Path, postgres_url: str) -> None:
    PostgresStore(postgres_url).close()
    migrate_to_next(postgres_url, next_version(tmp_path / "versions"), oldest="9999")
    with pytest.raises(Misconfigured, match="newer version of Arkway"):
        PostgresStore(postgres_url)


def test_a_migration_that_does_not_come_to_its_end_changes_nothing(
    tmp_path: Path, postgres_url: str, store: PostgresStore
) -> None:
    versions = next_version(tmp_path / "versions", 'op.execute("SELECT 1 / 0")')
    with pytest.raises(sa.exc.DBAPIError):
        migrate_to_next(postgres_url, versions, oldest=schema.REVISION)
    tables = store.run_sync(lambda connection: sa.inspect(connection).get_table_names(), read=True)
    assert "colours" not in tables
    assert store.run_sync(lambda c: c.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()) == (
        schema.REVISION
    )


# Changes by other processes

REVOKE = """
import sys, time
import sqlalchemy as sa
from arkway.stores import schema
from arkway.stores.postgres import PostgresStore

with PostgresStore(sys.argv[1]) as store:
    row = {"id": "told", "name": "told", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(schema.accounts.insert().values(row)), tell=True)
    print(time.time())
"""


def test_a_notification_takes_effect_in_milliseconds(postgres_url: str) -> None:
    seen: list[tuple[float, set[str]]] = []
    with PostgresStore(postgres_url) as store:  # the polling interval of a real server
        soon(lambda: store.hears)
        store.watch(lambda connection: seen.append((time.time(), account_ids(connection))))
        done = subprocess.run([sys.executable, "-c", REVOKE, postgres_url], check=True, capture_output=True, text=True)
        soon(lambda: "told" in seen[-1][1])
    arrived_s = next(at_s for at_s, ids in seen if "told" in ids)
    assert arrived_s - float(done.stdout) < 0.25


class PooledConnection(psycopg.Connection[tuple[object, ...]]):
    """As through a pooler that shares connections between transactions: it is another one that listens."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[tuple[object, ...]]:
        listens = isinstance(query, bytes) and query.startswith(b"LISTEN")
        return super().execute(b"SELECT 1" if listens else query, params, **options)


class PooledLink(Link):
    def __init__(self, url: str) -> None:
        super().__init__(url, busy_s=5)
        self._url = url

    def connect(self) -> PooledConnection:
        return PooledConnection.connect(self._url)


def test_without_notifications_the_tables_are_read_again_and_again(postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store:
        seen: list[set[str]] = []
        listener = Listener(PooledLink(postgres_url), lambda connection: seen.append(account_ids(connection)), 0.1)
        soon(lambda: len(seen) >= 2)
        assert not listener.hears
        store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        soon(lambda: "a" in seen[-1], 2.0)
        listener.close()


def test_a_connection_that_is_ended_is_made_anew(postgres: Postgres, postgres_url: str, store: PostgresStore) -> None:
    seen: list[set[str]] = []
    store.watch(lambda connection: seen.append(account_ids(connection)))
    with PostgresStore(postgres_url) as another:
        soon(lambda: store.hears and another.hears)
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'arkway'")
        time.sleep(0.2)
        another.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        soon(lambda: "a" in seen[-1], 2.0)
        store.run_sync(lambda connection: add_account(connection, "b"), tell=True)
        assert store.trouble == ""


def test_another_process_that_keeps_the_lock_is_not_waited_for_long(postgres_url: str, store: PostgresStore) -> None:
    with PostgresStore(postgres_url, busy_s=0.2) as hurried, ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            store.run_sync, lambda connection: connection.exec_driver_sql("SELECT pg_sleep(1)"), tell=True
        )
        time.sleep(0.2)
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="another process"):
            hurried.run_sync(lambda connection: add_account(connection, "late"), tell=True)
        assert time.monotonic() - began_s < 0.8
        assert hurried.run_sync(account_ids, read=True) == {"default"}
        held.result()
        hurried.run_sync(lambda connection: add_account(connection, "late"), tell=True)


# The server goes away


def test_work_fails_at_once_while_the_server_is_away_and_goes_on_when_it_is_back(own_postgres: Postgres) -> None:
    seen: list[set[str]] = []
    with PostgresStore(own_postgres.database(), poll_s=0.05) as store:
        store.watch(lambda connection: seen.append(account_ids(connection)))
        own_postgres.stop()
        soon(lambda: store.trouble != "", 1.0)
        assert "has been away" in store.trouble
        began_s = time.monotonic()
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="cannot be reached just now"):
                store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        assert time.monotonic() - began_s < 1.0
        own_postgres.start()
        soon(lambda: store.trouble == "", 2.0)
        store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        assert seen[-1] == {"default", "a"}
        soon(lambda: store.hears)


def test_what_was_changed_while_nobody_could_hear_is_taken_in_afterwards(postgres: Postgres, postgres_url: str) -> None:
    seen: list[set[str]] = []
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres.execute("CREATE ROLE cut_off SUPERUSER LOGIN")
    with PostgresStore(postgres_url.replace("postgres@", "cut_off@"), poll_s=0.05) as store:
        store.watch(lambda connection: seen.append(account_ids(connection)))
        soon(lambda: store.hears)
        postgres.execute("ALTER ROLE cut_off NOLOGIN")
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cut_off'")
        soon(lambda: store.trouble != "", 2.0)
        postgres.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'a', 1)", database)
        postgres.execute("ALTER ROLE cut_off LOGIN")
        soon(lambda: "a" in seen[-1], 3.0)


def test_a_server_that_answers_nothing_is_noticed_and_does_not_hold_up_a_stop(own_postgres: Postgres) -> None:
    store = PostgresStore(own_postgres.database(), poll_s=0.05)
    own_postgres.freeze()
    try:
        waiting = store.submit(account_ids, read=True)
        soon(lambda: "has been away" in store.trouble, 15.0)
        assert not waiting.done()
        began_s = time.monotonic()
        store.close()
        assert time.monotonic() - began_s < 10
    finally:
        own_postgres.thaw()


def test_after_a_power_cut_what_was_committed_is_there(own_postgres: Postgres) -> None:
    import signal

    with PostgresStore(own_postgres.database(), poll_s=0.05) as store:
        store.run_sync(lambda connection: add_account(connection, "a"))
        own_postgres.stop(signal.SIGQUIT)
        own_postgres.start()
        soon(lambda: "a" in seen_again(store), 15.0)
        soon(lambda: store.trouble == "", 15.0)


def seen_again(store: PostgresStore) -> set[str]:
    """The accounts' ids; none while the connection that the power cut broke has not been noticed."""
    try:
        return store.run_sync(account_ids, read=True)
    except StoreUnavailable:
        return set()


# Passwords and places

HOSTILE_URLS = [
    "postgresql://arkway:s3cr3tw0rd@127.0.0.1:1/arkway",
    "postgres://arkway:s3cr3tw0rd@/arkway?host=/nonexistent",
    "postgresql://arkway:s3cr@t w0rd@127.0.0.1:1/arkway",
    "postgresql://arkway:s3cr3tw0rd/x@127.0.0.1:1/arkway",
    "postgresql://arkway:s3cr3tw0rd?x@127.0.0.1:1/arkway",
    "postgresql://arkway:s3cr3tw0rd#@127.0.0.1:1/arkway",
    "postgresql://arkway:s3cr3tw0rd@host:port/arkway",
    "postgresql://arkway:s3cr3tw0rd@127.0.0.1:1/arkway?nonsense=1",
    "postgresql+psycopg://arkway:s3cr3tw0rd@127.0.0.1:1/arkway",
    "postgresql:s3cr3tw0rd",
    "mysql://arkway:s3cr3tw0rd@127.0.0.1:1/arkway",
    "s3cr3tw0rd",
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_no_password_is_told(tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(ArkwayError) as caught:
        open_store(tmp_path / "arkway.db", url)
    told: BaseException | None = caught.value
    while told is not None:
        assert "s3cr" not in str(told)
        assert "w0rd" not in str(told)
        told = told.__cause__
    assert "s3cr" not in caplog.text
    assert not list(tmp_path.iterdir())


def test_the_settings_do_not_show_it_either(tmp_path: Path) -> None:
    url = "postgresql://arkway:s3cr3tw0rd@db/arkway"
    settings = load(environ={"ARKWAY__DATABASE__URL": url}, overrides={"home": str(tmp_path)})
    assert settings.database == Database(url=url)
    assert "s3cr3tw0rd" not in repr(settings)


def test_a_host_with_another_pepper_is_refused(tmp_path: Path, store: PostgresStore) -> None:
    first = pepper_of(tmp_path / "first", store)
    assert pepper_of(tmp_path / "first", store).digest("x") == first.digest("x")
    with pytest.raises(Misconfigured, match=r"there is no .*/second/pepper"):
        pepper_of(tmp_path / "second", store)
    assert not (tmp_path / "second" / "pepper").exists()
    (tmp_path / "second").mkdir(mode=0o700)
    (tmp_path / "second" / "pepper").write_bytes(b"x" * 32)
    (tmp_path / "second" / "pepper").chmod(0o600)
    with pytest.raises(Misconfigured, match="is not the file"):
        pepper_of(tmp_path / "second", store)
    (tmp_path / "second" / "pepper").write_bytes((tmp_path / "first" / "pepper").read_bytes())
    assert pepper_of(tmp_path / "second", store).digest("x") == first.digest("x")
