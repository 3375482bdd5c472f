"""A host for platform files: its commands over one open transaction of an empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from arkway.cli.platform import Host, Within
from arkway.core.audit import Actor
from arkway.stores.home import pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.store import Store, open_store

T = TypeVar("T")


COLLECTIONS = ("manual", "faq")


class Undone(Exception):
    """Ends a transaction without its changes."""


class Ground:
    """Hands out an empty host again and again: each `on` is one transaction, which is undone."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store = store
        self._pepper, self._ring = pepper(home), KeyRing(home)

    def host(self, connection: sa.Connection) -> Host:
        return Host(Within(connection), self._pepper, lambda: self._ring, Actor("cli:anna", "02-request"), self._has)

    def _has(self, *named: str) -> bool:
        return named[2] in COLLECTIONS

    def on(self, work: Callable[[Host], T]) -> T:
        results: list[T] = []

        def undone(connection: sa.Connection) -> None:
            results.append(work(self.host(connection)))
            raise Undone

        with pytest.raises(Undone):
            self.store.run_sync(undone)
        return results[0]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("home")
    url = request.getfixturevalue("postgres").database() if request.param == "postgresql" else ""
    with open_store(home / "arkway.db", url) as store:
        yield Ground(store, home)
