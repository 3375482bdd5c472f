"""A migration killed at every statement and every rename leaves the old database whole."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.stores.migration import migrate, revision_of
from arkway.stores.schema import REVISION
from arkway.stores.sqlite import SqliteStore
from tests.tools.forking import forking

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "0005"


def upgrade():
    op.add_column("accounts", sa.Column("colour", sa.String, nullable=False, server_default="none"))
    op.create_table("colours", sa.Column("name", sa.String, primary_key=True))
    op.execute("INSERT INTO colours SELECT DISTINCT colour FROM accounts")
    op.execute("UPDATE accounts SET name = upper(name)")
"""

DIE_AT_STEP = """
import os, pathlib, signal, sys
import alembic.command
from sqlalchemy import event
from sqlalchemy.engine import Engine
from arkway.stores.migration import migrate

path, versions = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
WATCHED = {"os.rename", "os.remove", "sqlite3.connect"}

def act(fatal):
    step = 0

    def count(*_):
        nonlocal step
        step += 1
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    sys.addaudithook(lambda name, _: count() if name in WATCHED else None)
    migrate(path, "9999", extra_versions=(versions,))
    return 0
"""


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "m9999_next.py").write_text(NEXT)
    return folder


def content(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT id, name FROM accounts ORDER BY id").fetchall()


def test_killed_at_every_step(tmp_path: Path, versions: Path) -> None:
    path = tmp_path / "arkway.db"
    with SqliteStore(path) as store:
        store.run_sync(
            lambda c: c.exec_driver_sql("INSERT INTO accounts (id, name, created_at) VALUES ('x', 'Xaver', 1)")
        )
    before = content(path)
    with forking(DIE_AT_STEP, path, versions) as tried:
        for fatal in range(1, 100):
            status = tried(fatal)
            if status == 0:
                break
            assert status == -signal.SIGKILL
            assert revision_of(path) == REVISION
            assert content(path) == before
        else:
            pytest.fail("the migration never came to its end")
    assert fatal > 15
    assert revision_of(path) == "9999"
    assert content(path) == [("default", "DEFAULT ACCOUNT"), ("x", "XAVER")]
    assert not list(tmp_path.glob("*.migrating*"))


def test_rows_that_are_only_in_the_log_are_taken_along(tmp_path: Path, versions: Path) -> None:
    path = tmp_path / "arkway.db"
    SqliteStore(path).close()
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA wal_autocheckpoint = 0')\n"
        "c.execute(\"INSERT INTO accounts (id, name, created_at) VALUES ('x', 'Xaver', 1)\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert path.with_name("arkway.db-wal").stat().st_size > 0
    migrate(path, "9999", extra_versions=(versions,))
    assert content(path)[1] == ("x", "XAVER")


def test_a_database_in_use_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "arkway.db"
    with SqliteStore(path) as store:
        store.run_sync(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'"))
        with pytest.raises(Misconfigured, match="in use by another Arkway process"):
            SqliteStore(path)


def test_a_damaged_database_is_refused(tmp_path: Path, versions: Path) -> None:
    path = tmp_path / "arkway.db"
    SqliteStore(path).close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 8] = b"\xa5" * (4096 * 5)
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match="damaged"):
        migrate(path, "9999", extra_versions=(versions,))
    assert path.read_bytes() == bytes(data)


def test_a_database_of_the_first_schema_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "arkway.db"
    migrate(path, "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('x', 'Xaver', 1)")
    with SqliteStore(path) as store:
        tables = store.run_sync(lambda c: set(c.exec_driver_sql("SELECT name FROM sqlite_schema").scalars()), read=True)
    assert revision_of(path) == REVISION
    assert {"access_keys", "aliases"} <= tables
    assert content(path)[1] == ("x", "Xaver")
