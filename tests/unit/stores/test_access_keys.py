"""Access key pairs: made, found by a running server, revoked; their secrets in the database only as ciphertext."""

from __future__ import annotations

import base64
import logging
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from arkway.admin.access_keys import AccessKeys, NewAccessKey, new_secret
from arkway.core.caller import Caller
from arkway.core.errors import InvalidField, Misconfigured, UnknownCredentials
from arkway.core.raw import RawRequest, Tap
from arkway.flow.identify import Identity
from arkway.signing import KeyPair, Policy, signed_headers
from arkway.stores import schema
from arkway.stores.access_keys import AccessKeyTable, rotate
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.store import Store
from tests.tools.forking import forking
from tests.tools.polls import by_the_next_polls
from tests.tools.waiting import until

NOW_S = 1_750_000_000


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def pairs(store: Store, ring: KeyRing) -> AccessKeys:
    return AccessKeys(AccessKeyTable(store, ring))


@pytest.fixture
def directory(tmp_path: Path, store: Store, ring: KeyRing) -> CachedDirectory:
    return CachedDirectory(store, pepper(tmp_path), ring, used_every_polls=1)


def secret_in(directory: CachedDirectory, made: NewAccessKey) -> str:
    key = directory.access_key(made.info.id, NOW_S)
    return key.secret.decode() if key is not None else ""


def ciphertexts(store: Store) -> dict[str, bytes]:
    rows = store.run_sync(lambda c: c.execute(schema.access_keys.select()).all(), read=True)
    return {row.id: row.secret for row in rows}


def test_pairs_have_the_vendors_form_and_256_random_bits() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9]{58}==", secret) for secret in secrets)
    assert all(re.fullmatch(r"[A-Za-z0-9]{43}", base64.b64decode(secret).decode()) for secret in secrets)


def test_a_new_pair_is_known_at_once_and_a_revoked_one_is_not(directory: CachedDirectory, pairs: AccessKeys) -> None:
    made = pairs.create("one", NOW_S, endpoints=("ep-1", "ep-2"))
    key = directory.access_key(made.info.id, NOW_S)
    assert key is not None
    assert re.fullmatch(r"AKLT[A-Za-z0-9]{43}", made.info.id)
    assert (key.secret.decode(), key.session_token) == (made.secret, "")
    assert key.caller == Caller("default", "default", made.info.id, ("ep-1", "ep-2"), "owner")
    pairs.revoke(made.info.id, NOW_S)
    assert directory.access_key(made.info.id, NOW_S) is None


def test_a_temporary_pair_has_a_token_and_an_end(directory: CachedDirectory, pairs: AccessKeys) -> None:
    made = pairs.create("session", NOW_S, expires_at=NOW_S + 60, temporary=True)
    key = directory.access_key(made.info.id, NOW_S + 59)
    assert key is not None
    assert re.fullmatch(r"AKTP[A-Za-z0-9]{43}", made.info.id)
    assert re.fullmatch(r"STS2[A-Za-z0-9]{86}", made.session_token)
    assert (key.secret.decode(), key.session_token) == (made.secret, made.session_token)
    assert directory.access_key(made.info.id, NOW_S + 60) is None
    with pytest.raises(InvalidField):
        pairs.create("session", NOW_S, temporary=True)


@pytest.mark.parametrize("access_key_id", ["", "AKLT", "aklt", "\x00", "\ud800", "AKLT" + "x" * (1 << 20)])
def test_unknown_ids_are_unknown(directory: CachedDirectory, pairs: AccessKeys, access_key_id: str) -> None:
    made = pairs.create("one", NOW_S)
    for asked in (access_key_id, made.info.id.lower(), made.info.id + "x", made.info.id[:-1]):
        assert directory.access_key(asked, NOW_S) is None


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nfeed", "\x1b[31m"])
def test_unusable_names_and_times_are_refused(pairs: AccessKeys, name: str) -> None:
    with pytest.raises(InvalidField):
        pairs.create(name, NOW_S)
    with pytest.raises(InvalidField):
        pairs.create("one", NOW_S, expires_at=NOW_S)
    assert pairs.list() == ()


def test_pairs_are_listed_oldest_first_without_anything_secret(pairs: AccessKeys) -> None:
    made = [pairs.create(f"key {number}", NOW_S + number, expires_at=NOW_S + 10) for number in range(3)]
    assert list(pairs.list()) == [each.info for each in made]
    assert [pair.status(NOW_S + 10) for pair in pairs.list()] == ["expired"] * 3
    pairs.revoke(made[0].info.id, NOW_S + 1)
    pairs.revoke(made[0].info.id, NOW_S + 2)
    assert pairs.list()[0].revoked_at == NOW_S + 1
    shown = repr(pairs.list()) + repr(made)
    assert not any(each.secret in shown for each in made)


def test_nothing_of_another_tenant_is_seen_or_changed(store: Store, ring: KeyRing, pairs: AccessKeys) -> None:
    account = {"id": "other", "name": "other", "created_at": 1}
    store.run_sync(lambda c: c.execute(schema.accounts.insert().values(account)))
    project = {"account": "other", "id": "default", "name": "p", "created_at": 1}
    store.run_sync(lambda c: c.execute(schema.projects.insert().values(project)))
    theirs = AccessKeys(AccessKeyTable(store, ring), "other", "default")
    made = theirs.create("theirs", NOW_S)
    assert pairs.list() == ()
    with pytest.raises(InvalidField, match="there is no access key"):
        pairs.revoke(made.info.id, NOW_S)
    assert theirs.list() == (made.info,)


def test_no_secret_is_in_any_file_nor_shown_by_what_holds_it(
    tmp_path: Path, directory: CachedDirectory, pairs: AccessKeys, store: Store
) -> None:
    made = [pairs.create(f"k{number}", NOW_S, expires_at=NOW_S + 9, temporary=True) for number in range(5)]
    store.checkpoint_sync()
    hidden = [text.encode() for each in made for text in (each.secret, each.session_token)]
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert not any(text in content for text in hidden), file
    assert made[0].secret not in repr(directory.access_key(made[0].info.id, NOW_S))


def test_a_use_is_written_in_the_background(directory: CachedDirectory, pairs: AccessKeys) -> None:
    made, claimed = pairs.create("one", NOW_S), pairs.create("two", NOW_S)
    directory.access_key(claimed.info.id, NOW_S + 5)
    directory.used("AKLTunknown", NOW_S + 5)
    directory.used(made.info.id, NOW_S + 5)
    directory.used(made.info.id, NOW_S + 9)
    until(lambda: any(pair.last_used_at is not None for pair in pairs.list()))
    assert {pair.id: pair.last_used_at for pair in pairs.list()} == {made.info.id: NOW_S + 9, claimed.info.id: None}


def test_ciphertexts_that_change_places_are_skipped_and_named(
    directory: CachedDirectory, pairs: AccessKeys, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = (pairs.create(name, NOW_S) for name in ("one", "two", "three"))
    moved = ciphertexts(store)[two.info.id]
    change = schema.access_keys.update().where(schema.access_keys.c.id == one.info.id).values(secret=moved)
    with caplog.at_level(logging.WARNING, "arkway.store"):
        store.run_sync(lambda c: c.execute(change), tell=True)
        pairs.create("four", NOW_S)
    assert directory.access_key(one.info.id, NOW_S) is None
    assert secret_in(directory, two) == two.secret
    assert secret_in(directory, three) == three.secret
    (line,) = caplog.messages
    assert one.info.id in line
    assert two.info.id not in line


REVOKE = """
import pathlib, sys
from arkway.admin.access_keys import AccessKeys
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore

home = pathlib.Path(sys.argv[1])
with SqliteStore(home / "arkway.db") as store:
    AccessKeys(AccessKeyTable(store, KeyRing(home))).revoke(sys.argv[2], 1)
"""


def test_a_revocation_by_another_process_is_effective_within_two_seconds(tmp_path: Path, ring: KeyRing) -> None:
    with SqliteStore(tmp_path / "arkway.db") as store:  # the polling interval of a real server
        directory = CachedDirectory(store, pepper(tmp_path), ring)
        pairs = AccessKeys(AccessKeyTable(store, ring))
        made, other = pairs.create("one", NOW_S), pairs.create("two", NOW_S)
        subprocess.run([sys.executable, "-c", REVOKE, tmp_path, made.info.id], check=True)
        assert by_the_next_polls(store, lambda: directory.access_key(made.info.id, NOW_S) is None)
        assert secret_in(directory, other) == other.secret


# The wrong ring


def test_a_ring_that_knows_no_key_in_use_is_refused(tmp_path: Path, store: Store, pairs: AccessKeys) -> None:
    made = pairs.create("one", NOW_S)
    wrong = AccessKeyTable(store, KeyRing(tmp_path / "elsewhere", [b"w" * 32]))
    with pytest.raises(Misconfigured, match=r"no access key can be used.*restore the file from a backup"):
        wrong.check_ring(NOW_S)
    with pytest.raises(Misconfigured):
        AccessKeys(wrong).create("two", NOW_S)
    assert pairs.list() == (made.info,)
    pairs.revoke(made.info.id, NOW_S)
    wrong.check_ring(NOW_S)
    assert AccessKeys(wrong).create("two", NOW_S).secret


async def _nothing(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


def test_a_pair_that_is_revoked_while_its_body_comes_in_is_refused(
    directory: CachedDirectory, pairs: AccessKeys
) -> None:
    made = pairs.create("one", NOW_S)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW_S))
    sent = signed_headers(KeyPair(made.info.id, made.secret), "POST", "http://ark.example/api/v1/chat", b"{}", stamp)
    headers = {name.lower(): value for name, value in sent.items()}
    fields = tuple((name.encode(), value.encode()) for name, value in headers.items())
    path = "/api/v1/chat"
    raw = RawRequest("POST", path, "", headers, "0217", NOW_S * 1000, _nothing, raw_path=path, fields=fields)
    identity = Identity(directory, Policy())
    early, late = identity.begin(raw, "any"), identity.begin(raw, "any")
    for proof in (early, late):
        assert proof.tap is not None
        proof.tap(b"{}")
    assert early.caller().key_id == made.info.id
    pairs.revoke(made.info.id, NOW_S)
    with pytest.raises(UnknownCredentials):
        late.caller()


def test_expired_pairs_do_not_hold_a_wrong_ring_up(tmp_path: Path, store: Store, pairs: AccessKeys) -> None:
    pairs.create("one", NOW_S, expires_at=NOW_S + 1)
    wrong = AccessKeyTable(store, KeyRing(tmp_path / "elsewhere", [b"w" * 32]))
    wrong.check_ring(NOW_S + 1)
    with pytest.raises(Misconfigured):
        wrong.check_ring(NOW_S)


# Rotation


def test_a_rotation_changes_every_row_and_a_running_server_follows(
    tmp_path: Path, directory: CachedDirectory, pairs: AccessKeys, store: Store, another: Store
) -> None:
    made = [pairs.create(str(number), NOW_S, expires_at=NOW_S + 9, temporary=True) for number in range(250)]
    before, progress = ciphertexts(store), list[tuple[int, int]]()
    done = rotate(another, KeyRing(tmp_path), drop_old=True, progress=lambda *step: progress.append(step))
    assert (done.new_key, done.rows, len(done.dropped), done.unreadable) == (True, 250, 1, ())
    assert progress == [(200, 250), (250, 250)]
    after = ciphertexts(store)
    assert all(after[each.info.id] != before[each.info.id] for each in made)
    late = pairs.create("late", NOW_S)  # through the server's own ring, which has the old key
    assert ciphertexts(store)[late.info.id][:8].hex() == done.current
    assert all(secret_in(directory, each) == each.secret for each in (*made, late))
    assert set(orjson.loads((tmp_path / "keyring").read_bytes())["keys"]) == {done.current}


def test_without_dropping_the_old_keys_stay(tmp_path: Path, pairs: AccessKeys, store: Store) -> None:
    pairs.create("one", NOW_S)
    ring = KeyRing(tmp_path)
    kids = {ring.current, rotate(store, ring, drop_old=False).current, rotate(store, ring, drop_old=False).current}
    assert len(kids) == 3
    assert set(orjson.loads(ring.path.read_bytes())["keys"]) == kids


def test_a_given_key_takes_over_and_no_other_is_made(tmp_path: Path, pairs: AccessKeys, store: Store) -> None:
    made = pairs.create("one", NOW_S)
    given = KeyRing(tmp_path, [b"g" * 32])
    done = rotate(store, given, drop_old=True)
    assert (done.new_key, done.rows, len(done.dropped)) == (False, 1, 1)
    assert rotate(store, given, drop_old=True).rows == 0
    reopened = CachedDirectory(store, pepper(tmp_path), KeyRing(tmp_path, [b"g" * 32]))
    assert secret_in(reopened, made) == made.secret


def test_a_key_that_a_damaged_row_needs_is_kept(tmp_path: Path, pairs: AccessKeys, store: Store) -> None:
    made, damaged = pairs.create("one", NOW_S), pairs.create("two", NOW_S)
    cut = ciphertexts(store)[damaged.info.id][:-1]
    change = schema.access_keys.update().where(schema.access_keys.c.id == damaged.info.id).values(secret=cut)
    store.run_sync(lambda c: c.execute(change))
    done = rotate(store, KeyRing(tmp_path), drop_old=True)
    assert (done.rows, done.dropped, done.unreadable) == (1, (), (damaged.info.id,))
    assert secret_in(CachedDirectory(store, pepper(tmp_path), KeyRing(tmp_path)), made) == made.secret


DIE_AT_STEP = """
import os, pathlib, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from arkway.stores import access_keys
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore

home = pathlib.Path(sys.argv[1])

def act(fatal):
    step = 0

    def count(*_):
        nonlocal step
        step += 1
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    with SqliteStore(home / "arkway.db") as store:
        ring = KeyRing(home)
        event.listen(Engine, "before_cursor_execute", count)
        event.listen(Engine, "commit", count)
        sys.addaudithook(lambda name, _: count() if name in {"os.rename", "os.remove"} else None)
        access_keys.BATCH_ROWS = 2
        access_keys.rotate(store, ring, drop_old=True)
        return 10
"""


def test_killed_at_every_step_no_secret_is_lost(tmp_path: Path, ring: KeyRing) -> None:
    path = tmp_path / "arkway.db"
    with SqliteStore(path) as store:
        pairs = AccessKeys(AccessKeyTable(store, ring))
        made = [pairs.create(str(n), NOW_S, expires_at=NOW_S + 9, temporary=True) for n in range(3)]
    with forking(DIE_AT_STEP, tmp_path) as tried:
        for fatal in range(1, 200):
            status = tried(fatal)
            with SqliteStore(path) as store:
                directory = CachedDirectory(store, pepper(tmp_path), KeyRing(tmp_path))
                assert [secret_in(directory, each) for each in made] == [each.secret for each in made]
            if status == 10:
                break
            assert status == -signal.SIGKILL
        else:
            pytest.fail("the rotation never came to its end")
    assert fatal > 15
