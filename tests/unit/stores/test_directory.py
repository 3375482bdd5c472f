from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from arkway.admin.access_keys import AccessKeys
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import KeyInfo, Keys
from arkway.core.caller import Caller
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import Pepper, pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.schema import api_keys
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


def test_of_what_has_not_changed_nothing_is_made_anew(
    directory: CachedDirectory, keys: Keys, endpoints: Endpoints
) -> None:
    """A caller that is another object has to be identified anew, on every connection, and its way found anew."""
    (first,), (second,) = endpoints.ensure(["small"], NOW_S), endpoints.ensure(["large"], NOW_S)
    made = [
        keys.create(name, NOW_S, endpoints=(first.id,) if name == "two" else ()) for name in ("one", "two", "three")
    ]
    before = {key.name: directory.caller(secret, NOW_S) for key, secret in made}
    seen = directory.endpoint(first.id)
    endpoints.stop(second.id, NOW_S)
    keys.revoke(made[2][0].id, NOW_S)
    after = {key.name: directory.caller(secret, NOW_S) for key, secret in made}
    assert after["one"] is before["one"] is not None
    assert after["two"] is before["two"] is not None
    assert after["three"] is None
    assert [caller is not None and directory.stands(caller, NOW_S) for caller in before.values()] == [True, True, False]
    assert directory.endpoint(first.id) is seen is not None


def test_whatever_changes_of_a_key_is_in_force_at_once(directory: CachedDirectory, keys: Keys) -> None:
    key, secret = keys.create("one", NOW_S)

    def told() -> Caller:
        """By the key itself, after a caller of before has lost its standing."""
        caller = directory.caller(secret, NOW_S)
        assert caller is not None
        assert directory.stands(caller, NOW_S)
        return caller

    callers = [told()]
    for change in ({"role": "viewer"}, {"endpoints": ("ep-1",)}, {"endpoints": ("ep-1", "ep-2")}, {"endpoints": ()}):
        keys.update(key.id, **change)
        callers.append(told())
        assert not directory.stands(callers[-2], NOW_S)
    assert [(caller.role, caller.endpoints) for caller in callers] == [
        ("inference", ()),
        ("viewer", ()),
        ("viewer", ("ep-1",)),
        ("viewer", ("ep-1", "ep-2")),
        ("viewer", ()),
    ]
    keys.update(key.id, expires_at=NOW_S + 10)
    assert directory.stands(told(), NOW_S + 9)
    assert not directory.stands(told(), NOW_S + 10)
    assert directory.caller(secret, NOW_S + 10) is None


def test_a_pair_is_decrypted_once_and_forgotten_with_the_rings_key(
    store: Store, hashed: Pepper, tmp_path: Path
) -> None:
    ring = KeyRing(tmp_path)
    directory = CachedDirectory(store, hashed, ring)
    pairs = AccessKeys(AccessKeyTable(store, ring))
    made = [pairs.create(name, NOW_S).info.id for name in ("one", "two")]
    before = [directory.access_key(each, NOW_S) for each in made]
    pairs.update(made[1], role="viewer")
    after = [directory.access_key(each, NOW_S) for each in made]
    assert after[0] is before[0] is not None
    assert after[1] is not None
    assert after[1].caller.role == "viewer"
    ring.path.write_bytes(b"{}")
    ring.reload()
    store.run_sync(lambda connection: None, tell=True)
    assert [directory.access_key(each, NOW_S) for each in made] == [None, None]


class Counted(Pepper):
    """Counts how often it was asked."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.asked = 0

    def digest(self, secret: str) -> bytes:
        self.asked += 1
        return super().digest(secret)


@pytest.mark.sqlite
def test_each_of_very_many_keys_is_hashed_once_and_forgotten_with_the_key(store: Store) -> None:
    count, hashed = 66_000, Counted(b"p" * 32)
    secrets = [f"ark-{number:040d}" for number in range(count)]
    row = {"account": "default", "project": "default", "name": "k", "last4": "0000", "endpoints": [], "created_at": 1}
    rows = [
        {**row, "id": f"key-{number:012d}", "digest": hashed.digest(secret)} for number, secret in enumerate(secrets)
    ]
    store.run_sync(lambda connection: connection.execute(api_keys.insert(), rows) and None)
    directory = CachedDirectory(store, hashed)
    assert all(directory.caller(secret, NOW_S) for secret in secrets)
    hashed.asked = 0
    assert all(directory.caller(secret, NOW_S) for secret in secrets)
    assert hashed.asked == 0
    store.run_sync(lambda connection: connection.execute(api_keys.delete()) and None, tell=True)
    assert not any(directory.caller(secret, NOW_S) for secret in secrets[:100])
    assert len(directory._digests) == 0


def test_a_project_that_has_had_a_key_is_told_from_one_that_has_not(store: Store, keys: Keys) -> None:
    table = KeyTable(store)
    assert not table.has_any("default", "default")
    key, _ = keys.create("one", NOW_S)
    keys.revoke(key.id, NOW_S)
    assert table.has_any("default", "default")
    assert not table.has_any("default", "another")


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
