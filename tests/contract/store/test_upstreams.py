"""Upstreams and groups in the database: ciphertext alone, told to every process, kept over a rotation of keys."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from arkway.admin.access_keys import AccessKeys
from arkway.admin.groups import Groups, card_of
from arkway.admin.upstreams import UpstreamChange, Upstreams
from arkway.core.errors import Misconfigured
from arkway.core.upstream import Credential, Group, Member, Policy, Upstream
from arkway.stores import schema
from arkway.stores.access_keys import AccessKeyTable, rotate
from arkway.stores.keyring import KeyRing
from arkway.stores.store import Store
from arkway.stores.upstreams import GroupTable, Known, UpstreamTable, follow_upstreams, known

NOW_S = 1_750_000_000
WITHIN_S = 20.0
SERVER = Upstream(name="vllm", base_url="http://127.0.0.1:8000/v1", idle_s=5.0, ca_file="/etc/ca.pem")
SECRET = "sk-CANARY-of-an-upstream"
GROUP = Group(
    card=card_of("qwen3", "8b", capabilities=("chat", "tools"), context_tokens=1000, default_output_tokens=10),
    members=(
        Member(upstream="vllm", model="Qwen/Qwen3-8B", weight=3),
        Member(upstream="vllm", model="new", role="canary", share=2.5),
    ),
    policy=Policy(stick_to="prefix", attempts=3),
)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


def upstreams(store: Store, ring: KeyRing) -> Upstreams:
    return Upstreams(UpstreamTable(store, ring))


def groups(store: Store) -> Groups:
    return Groups(GroupTable(store))


def ciphertexts(store: Store) -> dict[str, bytes]:
    query = sa.select(schema.upstreams.c.name, schema.upstreams.c.secret)
    rows = store.run_sync(lambda connection: connection.execute(query).all(), read=True)
    return {row.name: row.secret for row in rows}


class Heard:
    """What a process is told, the newest last."""

    def __init__(self, store: Store, ring: KeyRing) -> None:
        self.all: list[Known] = []
        self._told = threading.Condition()
        follow_upstreams(store, ring, self._hear)

    def _hear(self, now: Known) -> None:
        with self._told:
            self.all.append(now)
            self._told.notify_all()

    def wait(self, wanted: Callable[[Known], bool]) -> Known:
        with self._told:
            assert self._told.wait_for(lambda: wanted(self.all[-1]), WITHIN_S)
            return self.all[-1]


def test_what_goes_in_comes_out_as_values(store: Store, ring: KeyRing) -> None:
    upstreams(store, ring).add(SERVER, Credential(SECRET), NOW_S)
    pair = Credential(access_key_id="AKLTid", secret_access_key="c2VjcmV0")
    upstreams(store, ring).add(msgspec.structs.replace(SERVER, name="ark", kind="ark"), pair, NOW_S)
    upstreams(store, ring).add(msgspec.structs.replace(SERVER, name="open"), Credential(), NOW_S)
    groups(store).set(GROUP, NOW_S)
    there = known(store, ring)
    assert there.groups == (GROUP,)
    assert [(server.name, server.auth, credential) for server, credential in there.upstreams] == [
        ("ark", "aksk", pair),
        ("open", "none", Credential()),
        ("vllm", "key", Credential(SECRET)),
    ]
    assert there.upstreams[2][0] == msgspec.structs.replace(SERVER, auth="key")


def test_another_process_is_told(store: Store, another: Store, ring: KeyRing, tmp_path: Path) -> None:
    heard = Heard(store, ring)
    assert heard.all == [Known()]
    theirs = upstreams(another, KeyRing(tmp_path))
    theirs.add(SERVER, Credential(SECRET), NOW_S)
    assert heard.wait(lambda now: bool(now.upstreams)).upstreams[0][1] == Credential(SECRET)
    groups(another).set(GROUP, NOW_S)
    assert heard.wait(lambda now: bool(now.groups)).groups == (GROUP,)
    theirs.update("vllm", UpstreamChange(credential=Credential("another")), NOW_S)
    heard.wait(lambda now: now.upstreams[0][1] == Credential("another"))
    groups(another).remove("qwen3")
    theirs.remove("vllm")
    heard.wait(lambda now: now == Known())


def test_a_change_of_ones_own_is_told_when_the_command_returns(store: Store, ring: KeyRing) -> None:
    heard = Heard(store, ring)
    upstreams(store, ring).add(SERVER, Credential(), NOW_S)
    assert [server.name for server, _ in heard.all[-1].upstreams] == ["vllm"]


def test_the_database_has_no_secret_in_clear_and_none_fits_another_upstream(store: Store, ring: KeyRing) -> None:
    ours = upstreams(store, ring)
    ours.add(SERVER, Credential(SECRET), NOW_S)
    ours.add(msgspec.structs.replace(SERVER, name="other"), Credential("other"), NOW_S)
    found = ciphertexts(store)
    assert SECRET.encode() not in found["vllm"]
    moved = schema.upstreams.update().where(schema.upstreams.c.name == "other").values(secret=found["vllm"])
    store.run_sync(lambda connection: connection.execute(moved))
    assert [server.name for server, _ in known(store, ring).upstreams] == ["vllm"]
    assert not ours.has_secret("other", SECRET)


def test_an_upstream_whose_secret_does_not_decrypt_is_left_out_and_told_of_once(
    store: Store, ring: KeyRing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams(store, ring).add(SERVER, Credential(SECRET), NOW_S)
    upstreams(store, ring).add(msgspec.structs.replace(SERVER, name="open"), Credential(), NOW_S)
    stranger = KeyRing(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING, "arkway.store"):
        heard = Heard(store, stranger)
        groups(store).set(msgspec.structs.replace(GROUP, members=(Member(upstream="open", model="m"),)), NOW_S)
    assert heard.all[-1].groups
    assert {tuple(server.name for server, _ in told.upstreams) for told in heard.all} == {("open",)}
    (said,) = [record.getMessage() for record in caplog.records if "vllm" in record.getMessage()]
    assert "does not decrypt" in said
    with pytest.raises(Misconfigured, match="not in"):
        upstreams(store, stranger).add(msgspec.structs.replace(SERVER, name="third"), Credential("k"), NOW_S)


def test_a_rotation_takes_the_upstreams_along(store: Store, ring: KeyRing, tmp_path: Path) -> None:
    pairs = AccessKeys(AccessKeyTable(store, ring))
    pairs.create("pair", NOW_S)
    upstreams(store, ring).add(SERVER, Credential(SECRET), NOW_S)
    upstreams(store, ring).add(msgspec.structs.replace(SERVER, name="open"), Credential(), NOW_S)
    before = ring.current
    done = rotate(store, KeyRing(tmp_path), drop_old=True)
    assert (done.rows, done.dropped, done.unreadable, done.new_key) == (2, (before,), (), True)
    assert ciphertexts(store)["vllm"][:8].hex() == done.current != before
    assert known(store, KeyRing(tmp_path)).upstreams[1][1] == Credential(SECRET)
    # A ring that was read before the rotation finds the new key by itself.
    assert known(store, ring).upstreams[1][1] == Credential(SECRET)


def test_a_key_that_only_an_upstream_needs_is_not_dropped(store: Store, ring: KeyRing) -> None:
    upstreams(store, ring).add(SERVER, Credential(SECRET), NOW_S)
    first = ring.current
    ring.advance()  # a rotation that was killed before it encrypted anything
    done = rotate(store, ring, drop_old=True)
    assert (done.new_key, done.rows, done.dropped) == (False, 1, (first,))
    assert known(store, ring).upstreams[0][1] == Credential(SECRET)


def test_a_secret_that_does_not_decrypt_is_told_of_by_a_rotation_and_its_key_id_kept(
    store: Store, ring: KeyRing
) -> None:
    upstreams(store, ring).add(SERVER, Credential(SECRET), NOW_S)
    spoilt = ciphertexts(store)["vllm"][:-1] + b"\0\0"
    change = schema.upstreams.update().values(secret=spoilt)
    store.run_sync(lambda connection: connection.execute(change))
    done = rotate(store, ring, drop_old=True)
    assert (done.rows, done.unreadable, done.dropped) == (0, ("upstream/vllm",), ())


def test_two_that_set_and_remove_at_once_leave_no_member_without_its_upstream(
    store: Store, another: Store, ring: KeyRing, tmp_path: Path
) -> None:
    """Whichever comes first, the other is refused."""
    theirs = upstreams(another, KeyRing(tmp_path))
    results: list[Any] = []

    def outcome(work: Callable[[], Any]) -> None:
        try:
            work()
            results.append("done")
        except Exception as error:
            results.append(type(error).__name__)

    for _ in range(10):
        upstreams(store, ring).add(SERVER, Credential(), NOW_S)
        results.clear()
        threads = [
            threading.Thread(target=outcome, args=(lambda: groups(store).set(GROUP, NOW_S),)),
            threading.Thread(target=outcome, args=(lambda: theirs.remove("vllm"),)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["InvalidField", "done"]
        for info in groups(store).list():
            groups(store).remove(info.card.name)
        for server in upstreams(store, ring).list():
            upstreams(store, ring).remove(server.name)


def test_what_a_newer_program_wrote_is_left_out(store: Store, ring: KeyRing) -> None:
    upstreams(store, ring).add(SERVER, Credential(), NOW_S)
    groups(store).set(GROUP, NOW_S)
    change = schema.groups.update().values(policy={"stick_to": "the moon"})
    store.run_sync(lambda connection: connection.execute(change))
    assert known(store, ring).groups == ()
    assert [server.name for server, _ in known(store, ring).upstreams] == ["vllm"]
