"""What only PostgreSQL has: a server that goes away and comes back, other programs' schemas, passwords."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
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
from arkway.stores.listening import RELOAD_S, Listener
from arkway.stores.migration import migrate_shared
from arkway.stores.postgres import PostgresStore
from arkway.stores.postgres_link import Link
from arkway.stores.store import open_store
from tests.tools.servers import Postgres
from tests.tools.waiting import PATIENCE_S, ends, until

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
import sys
import sqlalchemy as sa
from arkway.stores import schema
from arkway.stores.postgres import PostgresStore

with PostgresStore(sys.argv[1]) as store:
    row = {"id": "told", "name": "told", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(schema.accounts.insert().values(row)), tell=True)
"""


def test_a_notification_takes_effect_without_waiting_for_a_poll(postgres_url: str) -> None:
    seen: list[set[str]] = []
    with PostgresStore(postgres_url, poll_s=3600) as store:
        until(lambda: store.hears)
        store.watch(lambda connection: seen.append(account_ids(connection)))
        subprocess.run([sys.executable, "-c", REVOKE, postgres_url], check=True)
        until(lambda: "told" in seen[-1], patience_s=RELOAD_S / 2)


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
        until(lambda: len(seen) >= 2)
        assert not listener.hears
        store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        until(lambda: "a" in seen[-1])
        listener.close()


def test_a_connection_that_is_ended_is_made_anew(postgres: Postgres, postgres_url: str, store: PostgresStore) -> None:
    seen: list[set[str]] = []
    store.watch(lambda connection: seen.append(account_ids(connection)))
    with PostgresStore(postgres_url) as another:
        until(lambda: store.hears and another.hears)
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'arkway'")
        until(lambda: changed(another, "a"))
        until(lambda: "a" in seen[-1])
        until(lambda: changed(store, "b"))
        until(lambda: store.trouble == "")


def changed(store: PostgresStore, name: str) -> bool:
    """Whether the account is there now; the first try may meet the connection that was ended."""
    try:
        store.run_sync(lambda connection: add_account(connection, name), tell=True)
    except StoreUnavailable:
        return False
    return True


def test_another_process_that_keeps_the_lock_is_not_waited_for_long(postgres_url: str, store: PostgresStore) -> None:
    inside, over = threading.Event(), threading.Event()

    def hold(connection: sa.Connection) -> None:
        inside.set()
        assert over.wait(PATIENCE_S)

    with PostgresStore(postgres_url, busy_s=0.2) as hurried, ThreadPoolExecutor(1) as pool:
        held = pool.submit(store.run_sync, hold, tell=True)
        assert inside.wait(PATIENCE_S)
        try:
            with pytest.raises(StoreUnavailable, match="another process"):
                hurried.run_sync(lambda connection: add_account(connection, "late"), tell=True)
            assert not held.done()
            assert hurried.run_sync(account_ids, read=True) == {"default"}
        finally:
            over.set()
        held.result()
        hurried.run_sync(lambda connection: add_account(connection, "late"), tell=True)


# The server goes away


def test_work_fails_at_once_while_the_server_is_away_and_goes_on_when_it_is_back(own_postgres: Postgres) -> None:
    seen: list[set[str]] = []
    with PostgresStore(own_postgres.database(), poll_s=0.05) as store:
        store.watch(lambda connection: seen.append(account_ids(connection)))
        own_postgres.stop()
        until(lambda: store.trouble != "")
        assert "has been away" in store.trouble
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="cannot be reached just now"):
                store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        own_postgres.start()
        until(lambda: store.trouble == "")
        store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
        assert seen[-1] == {"default", "a"}
        until(lambda: store.hears)


def test_what_was_changed_while_nobody_could_hear_is_taken_in_afterwards(postgres: Postgres, postgres_url: str) -> None:
    seen: list[set[str]] = []
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres.execute("CREATE ROLE cut_off SUPERUSER LOGIN")
    with PostgresStore(postgres_url.replace("postgres@", "cut_off@"), poll_s=0.05) as store:
        store.watch(lambda connection: seen.append(account_ids(connection)))
        until(lambda: store.hears)
        postgres.execute("ALTER ROLE cut_off NOLOGIN")
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cut_off'")
        until(lambda: store.trouble != "")
        postgres.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'a', 1)", database)
        postgres.execute("ALTER ROLE cut_off LOGIN")
        until(lambda: "a" in seen[-1])


def test_a_server_that_answers_nothing_is_noticed_and_does_not_hold_up_a_stop(own_postgres: Postgres) -> None:
    store = PostgresStore(own_postgres.database(), poll_s=0.05)
    own_postgres.freeze()
    try:
        waiting = store.submit(account_ids, read=True)
        until(lambda: "has been away" in store.trouble)
        assert not waiting.done()
        ends(store.close)
    finally:
        own_postgres.thaw()


def test_after_a_power_cut_what_was_committed_is_there(own_postgres: Postgres) -> None:
    import signal

    with PostgresStore(own_postgres.database(), poll_s=0.05) as store:
        store.run_sync(lambda connection: add_account(connection, "a"))
        own_postgres.stop(signal.SIGQUIT)
        own_postgres.start()
        until(lambda: "a" in seen_again(store))
        until(lambda: store.trouble == "")


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
