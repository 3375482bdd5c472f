"""What a temporary key and an owner may not do, however they came by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arkway.admin.access_keys import AccessKeys
from arkway.config import load
from arkway.core.caller import Caller
from arkway.core.errors import Misconfigured
from arkway.ports import Grant
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.keyring import KeyRing, open_ring
from arkway.stores.sqlite import SqliteStore
from arkway.stores.temporary import TemporaryKeys

NOW_S = 1_800_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "arkway.db") as opened:
        yield opened


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return open_ring(tmp_path)


def held(store: SqliteStore, ring: KeyRing, home: Path, role: str, endpoints: tuple[str, ...]) -> Caller | None:
    """Who calls with a temporary key for ``ep-1`` and ``ep-2`` of an access key of this role and these endpoints."""
    keys = AccessKeys(AccessKeyTable(store, ring))
    made = keys.create("holder", NOW_S, endpoints, role=role)  # type: ignore[arg-type]
    spice = pepper(home)
    secret = TemporaryKeys(spice).issue(Grant(made.info.id, "default", "default", ("ep-1", "ep-2"), NOW_S + 3600))
    return CachedDirectory(store, spice, ring).caller(secret, NOW_S)


def test_a_temporary_key_is_held_to_what_its_access_key_may_do_now(
    store: SqliteStore, ring: KeyRing, tmp_path: Path
) -> None:
    assert held(store, ring, tmp_path, "viewer", ()) is None
    whole = held(store, ring, tmp_path, "developer", ())
    assert whole is not None
    assert whole.endpoints == ("ep-1", "ep-2")
    some = held(store, ring, tmp_path, "developer", ("ep-2", "ep-3"))
    assert some is not None
    assert some.endpoints == ("ep-2",)
    assert held(store, ring, tmp_path, "developer", ("ep-3",)) is None


@pytest.mark.parametrize("key", ["database.url", "limits.valkey"])
def test_a_password_in_a_mistake_is_not_repeated(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    file = tmp_path / "arkway.toml"
    file.write_text(f'[{section}]\n{name} = ["scheme://user:hunter2@host/x"]\n')
    with pytest.raises(Misconfigured) as found:
        load(file, environ={})
    assert "hunter2" not in found.value.message
    assert key in found.value.message
