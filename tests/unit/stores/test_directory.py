from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import KeyInfo, Keys
from arkway.core.caller import Caller
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import Pepper, pepper
from arkway.stores.sqlite import SqliteStore
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable, KeyTable
from tests.tools.polls import by_the_next_polls
from tests.tools.waiting import until

NOW_S = 1_750_000_000


@pytest.fixture
def hashed(tmp_path: Path) -> Pepper:
    return pepper(tmp_path)


@pytest.fixture
def directory(store: Store, hashed: Pepper) -> CachedDirectory:
    return CachedDirectory(store, hashed, used_every_polls=1)


@pytest.fixture
def keys(store: Store, hashed: Pepper) -> Keys:
    return Keys(KeyTable(store), hashed.digest)


@pytest.fixture
def endpoints(store: Store) -> Endpoints:
    return Endpoints(EndpointTable(store))


def test_a_new_key_works_at_once_and_a_revoked_one_stops_at_once(directory: CachedDirectory, keys: Keys) -> None:
    key, secret = keys.create("one", NOW_S, endpoints=("ep-1", "ep-2"))
    assert directory.caller(secret, NOW_S) == Caller("default", "default", key.id, ("ep-1", "ep-2"))
    keys.revoke(key.id, NOW_S)
    assert directory.caller(secret, NOW_S) is None


def test_an_expired_key_is_unknown_from_its_second_on(directory: CachedDirectory, keys: Keys) -> None:
    _, secret = keys.create("one", NOW_S, expires_at=NOW_S + 60)
    assert directory.caller(secret, NOW_S + 59) is not None
    assert directory.caller(secret, NOW_S + 60) is None


HOSTILE = [
    "",
    "ark-",
    "\x00",
    "ark-\x00",
    "' OR 1=1 --",
    "../../pepper",
    "ключ",
    "\ud800",
    "ark-" + "x" * (1 << 20),
    "é" * 600,
    "\r\nX: y",
]


def test_hostile_secrets_are_unknown(directory: CachedDirectory, keys: Keys) -> None:
    _, secret = keys.create("one", NOW_S)
    near = [secret[:-1], secret + "x", secret + "\x00", " " + secret, secret.upper(), secret + " " * 600]
    for text in HOSTILE + near:
        assert directory.caller(text, NOW_S) is None
    assert directory.caller(secret, NOW_S) is not None


def test_a_very_long_secret_costs_no_more_than_a_short_one(directory: CachedDirectory) -> None:
    huge = "x" * (64 << 20)
    began = time.process_time()
    for _ in range(1000):
        directory.caller(huge, NOW_S)
    assert time.process_time() - began < 10  # the processor's own time: to read them all would take a minute of it


@pytest.mark.sqlite
def test_the_secret_is_nowhere_in_the_files(
    tmp_path: Path, directory: CachedDirectory, keys: Keys, store: Store
) -> None:
    secrets = [keys.create(f"k{number}", NOW_S)[1] for number in range(5)]
    assert all(directory.caller(secret, NOW_S) for secret in secrets)
    store.checkpoint_sync()
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert not any(secret[4:].encode() in content for secret in secrets), file


def test_endpoints_are_seen_as_soon_as_they_change(directory: CachedDirectory, endpoints: Endpoints) -> None:
    (first,), (second,) = endpoints.ensure(["small"], NOW_S), endpoints.ensure(["large"], NOW_S + 1)
    assert directory.endpoint(first.id) == first
    assert directory.endpoints("default", "default") == (first, second)
    assert directory.endpoints("other", "default") == ()
    endpoints.stop(first.id, NOW_S)
    stopped = directory.endpoint(first.id)
    assert stopped is not None
    assert stopped.status == "stopped"
    endpoints.delete(first.id, NOW_S)
    assert directory.endpoint(first.id) is None
    assert directory.endpoint("ep-unknown") is None


def test_the_last_use_is_written_in_the_background(directory: CachedDirectory, keys: Keys) -> None:
    key, secret = keys.create("one", NOW_S)
    unused, _ = keys.create("two", NOW_S)
    directory.caller(secret, NOW_S + 5)
    directory.caller(secret, NOW_S + 9)

    def used() -> dict[str, KeyInfo]:
        return {found.id: found for found in keys.list()}

    until(lambda: used()[key.id].last_used_at is not None)
    assert used()[key.id].last_used_at == NOW_S + 9
    assert used()[unused.id].last_used_at is None


REVOKE = """
import pathlib, sys
from arkway.admin.keys import Keys
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import KeyTable

with SqliteStore(pathlib.Path(sys.argv[1])) as store:
    Keys(KeyTable(store), lambda secret: b"").revoke(sys.argv[2], 1)
"""


def test_a_revocation_by_another_process_is_effective_within_two_seconds(tmp_path: Path) -> None:
    hashed = pepper(tmp_path)
    with SqliteStore(tmp_path / "arkway.db") as store:  # the polling interval of a real server
        directory = CachedDirectory(store, hashed)
        key, secret = Keys(KeyTable(store), hashed.digest).create("one", NOW_S)
        _, other = Keys(KeyTable(store), hashed.digest).create("two", NOW_S)
        assert directory.caller(secret, NOW_S) is not None
        subprocess.run([sys.executable, "-c", REVOKE, store.path, key.id], check=True)
        assert by_the_next_polls(store, lambda: directory.caller(secret, NOW_S) is None)
        assert directory.caller(other, NOW_S) is not None


@pytest.mark.sqlite
def test_known_keys_go_on_when_the_database_is_broken(
    tmp_path: Path, directory: CachedDirectory, keys: Keys, store: Store
) -> None:
    _, secret = keys.create("one", NOW_S)
    store.run_sync(lambda connection: connection.exec_driver_sql("DROP TABLE endpoints"))
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE x (y)')",
            tmp_path / "arkway.db",
        ],
        check=True,
    )
    time.sleep(0.3)
    assert directory.caller(secret, NOW_S) is not None
