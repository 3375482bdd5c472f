"""Bringing a database to this version's schema.

A SQLite file is migrated on a copy, which then takes the place of the original: killed at any moment, the original is
whole, for the copy is only renamed over it when it is complete and on the disk. PostgreSQL is migrated in one
transaction, under a lock that makes other processes wait.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from arkway.core.errors import Misconfigured
from arkway.files import sync_directory
from arkway.stores.portable import insert
from arkway.stores.schema import OLDEST_REVISION, REVISION, installation

MIGRATIONS = Path(__file__).parent / "migrations"


def revision_of(path: Path) -> str:
    """The schema revision of the file; empty for a file that is missing or empty. Raises Misconfigured."""
    if not path.exists():
        return ""
    try:
        with closing(_opened(path)) as connection:
            tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables:
                return ""
            if "alembic_version" not in tables:
                raise Misconfigured(f"{path} is a database, but not one of Arkway's; move it away or name another file")
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(row[0]) if row else ""
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise Misconfigured(f"{path} is damaged or not a database ({error}); restore it from a backup") from error


def migrate(path: Path, target: str = REVISION, *, extra_versions: Sequence[Path] = ()) -> None:
    """Bring the file to the revision ``target``. The caller is alone with the file.

    ``extra_versions`` are folders with further migration scripts. Raises Misconfigured when the file is newer than
    this program or damaged.
    """
    copy = path.with_name(path.name + ".migrating")
    _remove(copy)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if path.exists():
        _copy(path, copy)
    _upgrade_copy(copy, path, target, extra_versions)
    _sync(copy)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.replace(copy, path)
    sync_directory(path.parent)


def _copy(path: Path, copy: Path) -> None:
    """Every committed row into one file, the write-ahead log emptied: after this, the original needs no second file."""
    with closing(_opened(path)) as source, closing(_opened(copy)) as target:
        busy, *_ = source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise Misconfigured(f"another program has {path} open; close it, then start again")
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        if (verdict := target.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Misconfigured(f"{path} is damaged ({verdict}); restore it from a backup")


def _upgrade_copy(copy: Path, path: Path, target: str, extra_versions: Sequence[Path]) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(copy), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _upgrade(connection, str(path), target, extra_versions)
            connection.commit()
    finally:
        engine.dispose()


def migrate_shared(
    connection: sa.Connection,
    name: str,
    target: str = REVISION,
    *,
    oldest: str = OLDEST_REVISION,
    extra_versions: Sequence[Path] = (),
) -> None:
    """Bring a PostgreSQL database to the revision ``target``, in the transaction that the caller has begun.

    The caller is alone with the schema. ``oldest`` is the revision of the oldest program that can go on with it. A
    newer schema that this program can use is left as it is. Raises Misconfigured when it cannot, and when the tables
    are another program's.
    """
    found = _shared_revision(connection, name)
    if found == target or (found > target and _oldest_program(connection) <= target):
        return
    _upgrade(connection, name, target, extra_versions)
    row = {"name": "oldest_program", "value": oldest}
    statement = insert(connection, installation).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": oldest}))


def _shared_revision(connection: sa.Connection, name: str) -> str:
    """Empty for a database without tables. Raises Misconfigured."""
    tables = sa.inspect(connection).get_table_names()
    if not tables:
        return ""
    if "alembic_version" not in tables:
        raise Misconfigured(f"the database {name} has tables, but not Arkway's; make one for Arkway alone")
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")


def _oldest_program(connection: sa.Connection) -> str:
    query = sa.select(installation.c.value).where(installation.c.name == "oldest_program")
    return str(connection.execute(query).scalar_one())


def _upgrade(connection: sa.Connection, name: str, target: str, extra_versions: Sequence[Path]) -> None:
    from alembic import command  # a quarter of a second that only a migration should cost
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    folders = (MIGRATIONS / "versions", *extra_versions)
    config.set_main_option("version_locations", "\n".join(str(folder).replace("%", "%%") for folder in folders))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise Misconfigured(
            f"{name} was written by a newer version of Arkway ({error}); "
            "install that version again, or restore the database from a backup made before the update"
        ) from error


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(copy: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
