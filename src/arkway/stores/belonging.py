"""Which pepper a database's API keys were hashed under: a host that has another one would refuse every key."""

from __future__ import annotations

import hmac
from pathlib import Path

import sqlalchemy as sa

from arkway.core.errors import Misconfigured
from arkway.stores.home import Pepper, pepper, pepper_path
from arkway.stores.portable import insert
from arkway.stores.schema import installation
from arkway.stores.store import Store

NAME = "pepper"


def pepper_of(home: Path, store: Store) -> Pepper:
    """The pepper of this data directory, made on first use, when it is the one that the database knows.

    Raises Misconfigured when it is another or when it is missing, StoreUnavailable.
    """
    known = store.run_sync(_known, read=True)
    if known and not pepper_path(home).exists():
        raise Misconfigured(f"there is no {pepper_path(home)}, {_mend(home)}")
    own = pepper(home)
    mark = hmac.digest(own.digest("arkway pepper"), b"mark", "sha256")[:8].hex()
    if not known:
        known = store.run_sync(lambda connection: _keep(connection, mark))
    if not hmac.compare_digest(known, mark):
        raise Misconfigured(f"{pepper_path(home)} is not the file {_mend(home)}")
    return own


def _mend(home: Path) -> str:
    return (
        "that the API keys in this database were hashed under; copy `pepper` from the data directory of a host that "
        f"uses this database (or from a backup) to {home}, readable for its owner alone"
    )


def _known(connection: sa.Connection) -> str:
    query = sa.select(installation.c.value).where(installation.c.name == NAME)
    return str(connection.execute(query).scalar() or "")


def _keep(connection: sa.Connection, mark: str) -> str:
    """Of two hosts that begin at once, both find the mark of the first."""
    connection.execute(insert(connection, installation).on_conflict_do_nothing(), [{"name": NAME, "value": mark}])
    return _known(connection)
