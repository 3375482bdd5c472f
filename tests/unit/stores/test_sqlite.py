from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.stores import schema
from arkway.stores.migration import MIGRATIONS
from arkway.stores.sqlite import SqliteStore
from arkway.stores.store import Store
from tests.tools.waiting import until


def account_ids(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(sa.select(schema.accounts.c.id)))


def add_account(connection: sa.Connection, name: str) -> None:
    connection.execute(schema.accounts.insert().values(id=name, name=name, created_at=1))


def test_the_first_start_makes_a_private_file_with_the_default_tenant(tmp_path: Path) -> None:
    path = tmp_path / "home" / "arkway.db"
    with SqliteStore(path) as store:
        assert store.run_sync(account_ids, read=True) == {"default"}
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o777 == 0o600 for file in path.parent.iterdir())
    assert sorted(file.name for file in path.parent.iterdir()) == ["arkway.db", "arkway.db.lock", "arkway.db.users"]


def test_the_migrated_schema_is_the_declared_one(store: Store) -> None:
    def difference(connection: sa.Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, schema.metadata)

    assert store.run_sync(difference, read=True) == []
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == schema.REVISION


@pytest.mark.sqlite
def test_the_pragmas_that_the_decision_names(store: Store) -> None:
    def value(name: str) -> object:
        return store.run_sync(lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar(), read=True)

    assert value("journal_mode") == "wal"
    assert value("wal_autocheckpoint") == 0
    assert value("synchronous") == 1
    assert value("foreign_keys") == 1


def test_an_error_rolls_the_transaction_back_and_the_store_goes_on(store: Store) -> None:
    def broken(connection: sa.Connection) -> None:
        add_account(connection, "half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.run_sync(broken)
    store.run_sync(lambda connection: add_account(connection, "whole"))
    assert store.run_sync(account_ids, read=True) == {"default", "whole"}


async def test_work_from_many_tasks_and_threads_is_done_one_after_the_other(store: Store) -> None:
    import asyncio

    inside = threading.Lock()

    def exclusive(name: str) -> None:
        def work(connection: sa.Connection) -> None:
            assert inside.acquire(blocking=False)
            add_account(connection, name)
            inside.release()

        store.run_sync(work)

    await asyncio.gather(*(asyncio.to_thread(exclusive, f"a{number}") for number in range(50)))
    assert len(await store.run(account_ids, read=True)) == 51


@pytest.mark.sqlite
def test_what_nobody_else_has_changed_is_not_read_again(store: Store) -> None:
    """Not at the first poll after a start either, which would read a large database twice."""
    readings, polls = list[None](), list[None]()
    store.watch(lambda _: readings.append(None))
    store.every_poll(lambda: polls.append(None))
    until(lambda: len(polls) >= 3)
    assert len(readings) == 1
    store.run_sync(lambda connection: None, tell=True)
    assert len(readings) == 2


def test_a_foreign_key_is_kept(store: Store) -> None:
    row = {"account": "nobody", "id": "p", "name": "p", "created_at": 1}
    with pytest.raises(StoreUnavailable, match=r"(?i)foreign key"):
        store.run_sync(lambda connection: connection.execute(schema.projects.insert().values(row)))


def test_another_process_in_a_write_makes_us_wait_and_then_say_so(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "arkway.db", busy_s=0.1) as store:
        lock = os.open(tmp_path / "arkway.db.lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match=r"held the lock .*arkway.db.lock"):
            store.run_sync(lambda connection: add_account(connection, "late"))
        assert store.run_sync(account_ids, read=True) == {"default"}
        threading.Timer(0.03, os.close, [lock]).start()
        store.run_sync(lambda connection: add_account(connection, "late"))


def test_a_foreign_tool_that_holds_the_database_does_not_break_the_store(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "arkway.db", busy_s=0.1) as store:
        tool = sqlite3.connect(tmp_path / "arkway.db", isolation_level=None)
        tool.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.run_sync(lambda connection: add_account(connection, "late"))
        tool.execute("ROLLBACK")
        store.run_sync(lambda connection: add_account(connection, "late"))
        assert "late" in store.run_sync(account_ids, read=True)
        tool.close()


def test_a_checkpoint_empties_the_log_and_waits_for_no_reader(tmp_path: Path) -> None:
    log = tmp_path / "arkway.db-wal"
    with SqliteStore(tmp_path / "arkway.db") as store:
        store.run_sync(lambda connection: add_account(connection, "a"))
        assert log.stat().st_size > 0
        assert store.checkpoint_sync()
        assert log.stat().st_size == 0
        reader = sqlite3.connect(tmp_path / "arkway.db", isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM accounts").fetchone() == (2,)
        store.run_sync(lambda connection: add_account(connection, "b"))
        assert not store.checkpoint_sync()
        reader.execute("COMMIT")
        assert store.checkpoint_sync()
        reader.close()


def test_a_closed_store_refuses_work(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "arkway.db")
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.run_sync(account_ids, read=True)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arkway.db").write_bytes(b"this is a text and not a database" * 100)
    with pytest.raises(Misconfigured, match="damaged or not a database"):
        SqliteStore(tmp_path / "arkway.db")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "arkway.db")
    other.execute("CREATE TABLE songs (name)")
    other.close()
    with pytest.raises(Misconfigured, match="not one of Arkway's"):
        SqliteStore(tmp_path / "arkway.db")


def test_a_database_of_a_newer_version_is_refused_and_untouched(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "arkway.db").close()
    later = sqlite3.connect(tmp_path / "arkway.db")
    later.execute("UPDATE alembic_version SET version_num = '9999'")
    later.commit()
    later.close()
    before = (tmp_path / "arkway.db").read_bytes()
    with pytest.raises(Misconfigured, match="written by a newer version of Arkway"):
        SqliteStore(tmp_path / "arkway.db")
    assert (tmp_path / "arkway.db").read_bytes()[100:] == before[100:]


def test_a_place_where_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be made"):
        SqliteStore(tmp_path / "file" / "arkway.db")
