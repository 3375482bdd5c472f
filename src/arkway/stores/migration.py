"""Bringing a database file to this version's schema: on a copy, which then takes the place of the original.

Killed at any moment, the original is whole: the copy is only renamed over it when it is complete and on the disk.
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
from arkway.stores.schema import REVISION

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
    _upgrade(copy, path, target, extra_versions)
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


def _upgrade(copy: Path, path: Path, target: str, extra_versions: Sequence[Path]) -> None:
    from alembic import command  # a quarter of a second that only a migration should cost
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    folders = (MIGRATIONS / "versions", *extra_versions)
    config.set_main_option("version_locations", "\n".join(str(folder).replace("%", "%%") for folder in folders))
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(copy), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target)
            connection.commit()
    except CommandError as error:
        raise Misconfigured(
            f"{path} was written by a newer version of Arkway ({error}); "
            "install that version again, or restore the database from a backup made before the update"
        ) from error
    finally:
        engine.dispose()


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
