"""Databases that have their tables already: making those costs a fifth of a second, a copy next to nothing."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from arkway.files import private_directory
from arkway.stores.home import database_path
from arkway.stores.sqlite import SqliteStore


def made(path: Path) -> Path:
    """A new SQLite file of this version at ``path``, as the first opening leaves it."""
    private_directory(path.parent)
    shutil.copyfile(_template(), path)
    path.chmod(0o600)
    return path


def made_in(home: Path) -> Path:
    """The data directory, with its database in it."""
    made(database_path(home))
    return home


@cache
def _template() -> Path:
    """One for each process, for as long as it runs."""
    folder, owner = Path(tempfile.mkdtemp(prefix="arkway-database-")), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    path = folder / "arkway.db"
    SqliteStore(path).close()
    assert not path.with_name(path.name + "-wal").exists()
    return path
