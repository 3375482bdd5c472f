"""The audit log: nothing changes without it, and it only grows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import arkway
from arkway.admin.access_keys import AccessKeys
from arkway.admin.aliases import Aliases
from arkway.admin.audit import AuditLog
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.admin.tenancy import Accounts, Projects
from arkway.core.audit import Actor, Entry
from arkway.core.errors import ArkwayError, EndpointNotFound, InvalidField, StoreUnavailable
from arkway.core.roles import PERMISSIONS
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.audit import AuditTable
from arkway.stores.home import Pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.schema import audit
from arkway.stores.store import Store
from arkway.stores.tables import AliasTable, EndpointTable, KeyTable
from arkway.stores.tenancy import AccountTable, ProjectTable

NOW_S = 1_750_000_000
ANNA = Actor("cli:anna", "02-request")


class Admin:
    """Every admin command over one store, given by Anna."""

    def __init__(self, store: Store, home: Path) -> None:
        self.accounts = Accounts(AccountTable(store), ANNA)
        self.projects = Projects(ProjectTable(store), "default", ANNA)
        self.keys = Keys(KeyTable(store), Pepper(b"p" * 32).digest, actor=ANNA)
        self.pairs = AccessKeys(AccessKeyTable(store, KeyRing(home)), actor=ANNA)
        self.endpoints = Endpoints(EndpointTable(store), actor=ANNA)
        self.aliases = Aliases(AliasTable(store), ANNA)

        self.known: dict[str, str] = {}

    def suspended(self) -> str:
        account = self.accounts.create(NOW_S, "acme").id
        self.accounts.suspend(account)
        return account

    def stopped(self) -> str:
        endpoint = self.endpoints.create("one", "small", NOW_S).id
        self.endpoints.stop(endpoint, NOW_S)
        return endpoint

    def key(self) -> str:
        key, secret = self.keys.create("one", NOW_S, ("ep-1",), NOW_S + 60)
        self.known["secret"] = secret
        return key.id

    def pair(self) -> str:
        made = self.pairs.create("one", NOW_S, expires_at=NOW_S + 60, temporary=True)
        self.known |= {"secret": made.secret, "token": made.session_token}
        return made.info.id


Command = Callable[[Admin], object]
PREPARED: dict[str, tuple[Command, Callable[[Admin, Any], object]]] = {
    "accounts.create": (lambda admin: "acme", lambda admin, name: admin.accounts.create(NOW_S, name)),
    "accounts.suspend": (
        lambda admin: admin.accounts.create(NOW_S, "acme").id,
        lambda admin, name: admin.accounts.suspend(name),
    ),
    "accounts.resume": (
        lambda admin: admin.suspended(),
        lambda admin, name: admin.accounts.resume(name),
    ),
    "accounts.rename": (
        lambda admin: admin.accounts.create(NOW_S, "acme").id,
        lambda admin, name: admin.accounts.rename(name, "another"),
    ),
    "projects.rename": (
        lambda admin: admin.projects.create("second", NOW_S).id,
        lambda admin, name: admin.projects.rename(name, "another"),
    ),
    "projects.create": (lambda admin: "second", lambda admin, name: admin.projects.create(name, NOW_S)),
    "projects.delete": (
        lambda admin: admin.projects.create("second", NOW_S).id,
        lambda admin, name: admin.projects.delete(name),
    ),
    "keys.create": (lambda admin: "", lambda admin, _: admin.key()),
    "keys.update": (lambda admin: admin.key(), lambda admin, key: admin.keys.update(key, "viewer", ["ep-1"], None)),
    "keys.revoke": (lambda admin: admin.key(), lambda admin, key: admin.keys.revoke(key, NOW_S)),
    "access_keys.create": (lambda admin: "", lambda admin, _: admin.pair()),
    "access_keys.update": (
        lambda admin: admin.pair(),
        lambda admin, pair: admin.pairs.update(pair, "viewer", (), NOW_S + 90),
    ),
    "access_keys.revoke": (lambda admin: admin.pair(), lambda admin, pair: admin.pairs.revoke(pair, NOW_S)),
    "endpoints.create": (lambda admin: "", lambda admin, _: admin.endpoints.create("one", "small", NOW_S).id),
    "endpoints.stop": (
        lambda admin: admin.endpoints.create("one", "small", NOW_S).id,
        lambda admin, endpoint: admin.endpoints.stop(endpoint, NOW_S),
    ),
    "endpoints.start": (
        lambda admin: admin.stopped(),
        lambda admin, endpoint: admin.endpoints.start(endpoint, NOW_S),
    ),
    "endpoints.delete": (
        lambda admin: admin.endpoints.create("one", "small", NOW_S).id,
        lambda admin, endpoint: admin.endpoints.delete(endpoint, NOW_S),
    ),
    "aliases.set": (lambda admin: "mine", lambda admin, name: admin.aliases.set(name, "small", NOW_S)),
    "aliases.remove": (
        lambda admin: admin.aliases.set("mine", "small", NOW_S).name,
        lambda admin, name: admin.aliases.remove(name, NOW_S),
    ),
}


@pytest.fixture
def admin(store: Store, tmp_path: Path) -> Admin:
    return Admin(store, tmp_path)


def content(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but the log's."""

    def read(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
        tables = sorted(sa.inspect(connection).get_table_names())
        return {
            name: sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {name}")), key=repr)
            for name in tables
            if name != "audit"
        }

    return store.run_sync(read, read=True)


BROKEN = {
    False: ("CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END",),
    True: (
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION no_room()",
    ),
}


def break_the_log(store: Store) -> None:
    for statement in BROKEN[store.shared]:
        store.run_sync(partial(sa.Connection.exec_driver_sql, statement=statement))


@pytest.mark.parametrize("action", PREPARED)
def test_every_change_leaves_one_row_that_says_who_did_what_to_what(
    admin: Admin, log: AuditTable, action: str, store: Store
) -> None:
    prepare, command = PREPARED[action]
    target = prepare(admin)
    before, began_ms, then = log.rows_of_all(), time.time_ns() // 1_000_000, content(store)
    made = command(admin, target)
    (row,) = log.rows_of_all()[: len(log.rows_of_all()) - len(before)]
    assert content(store) != then
    assert (row["actor"], row["request_id"], row["action"]) == ("cli:anna", "02-request", action)
    assert row["target"] == (target or made)
    assert began_ms <= row["at_ms"] <= time.time_ns() // 1_000_000
    assert row["account"] == ("acme" if action.startswith("accounts.") else "default")
    assert not any(secret in repr(log.rows_of_all()) for secret in admin.known.values())


@pytest.mark.parametrize("action", PREPARED)
def test_what_cannot_be_put_on_record_does_not_happen(admin: Admin, store: Store, action: str) -> None:
    prepare, command = PREPARED[action]
    target = prepare(admin)
    break_the_log(store)
    before = content(store)
    with pytest.raises(StoreUnavailable):
        command(admin, target)
    assert content(store) == before


@pytest.mark.parametrize("action", [action for action in PREPARED if not action.endswith((".create", ".set"))])
def test_what_comes_to_nothing_leaves_no_row(admin: Admin, log: AuditTable, action: str) -> None:
    with pytest.raises((InvalidField, EndpointNotFound)):
        PREPARED[action][1](admin, "absent")
    assert log.rows_of_all() == []


def test_a_change_that_fails_leaves_no_row(admin: Admin, log: AuditTable) -> None:
    admin.accounts.create(NOW_S, "acme")
    for command in (
        lambda: admin.accounts.create(NOW_S, "acme"),
        lambda: admin.projects.create("default", NOW_S),
        lambda: admin.projects.delete("default"),
        lambda: admin.keys.create("", NOW_S),
    ):
        with pytest.raises(ArkwayError):
            command()
    assert [row["action"] for row in log.rows_of_all()] == ["accounts.create"]


COLUMNS = "id, at_ms, account, project, 'nobody', action, target, detail, request_id"
CHANGES = (
    "UPDATE audit SET actor = 'nobody'",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit)",
    f"INSERT INTO audit SELECT {COLUMNS} FROM audit WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
)
OWN_CHANGES = {False: f"REPLACE INTO audit SELECT {COLUMNS} FROM audit", True: "TRUNCATE audit"}


@pytest.mark.parametrize("statement", [*CHANGES, ""])
def test_the_database_refuses_to_change_or_remove_a_row(
    admin: Admin, log: AuditTable, store: Store, statement: str
) -> None:
    admin.key()
    before = log.rows_of_all()
    change = statement or OWN_CHANGES[store.shared]
    with pytest.raises(StoreUnavailable, match="the audit log only grows"):
        store.run_sync(lambda connection: connection.exec_driver_sql(change))
    assert log.rows_of_all() == before


def test_rows_come_newest_first_and_are_chosen(admin: Admin, store: Store, log: AuditTable) -> None:
    admin.accounts.create(NOW_S, "acme")
    keys = [admin.key() for _ in range(20)]
    Keys(KeyTable(store), Pepper(b"p" * 32).digest, "acme").create("theirs", NOW_S)
    everything = AuditLog(log, None)
    assert [info.target for info in everything.list(action="keys.create", actor="cli:anna")] == keys[::-1]
    assert len(everything.list(limit=3)) == 3
    assert everything.list(since_ms=time.time_ns() // 1_000_000 + 60_000) == ()
    assert [info.actor for info in everything.list(actor="arkway")] == ["arkway"]
    theirs, ours = AuditLog(log, "acme").list(), AuditLog(log, "default").list()
    assert {info.account for info in theirs} == {"acme"}
    assert {info.account for info in ours} == {"default"}
    assert len(theirs) + len(ours) == len(everything.list())
    assert AuditLog(log, "nobody").list() == ()


def test_details_hold_what_was_asked_for(admin: Admin, log: AuditTable) -> None:
    admin.key()
    (row,) = log.rows("default")
    assert row["detail"] == {"name": "one", "role": "inference", "endpoints": ["ep-1"], "expires_at": NOW_S + 60}


def test_an_entry_may_stand_alone(log: AuditTable, store: Store) -> None:
    log.append(Entry("default", "", ANNA, "secrets.rotate", "keyring", {"drop_old": True}))
    (row,) = log.rows("default")
    assert (row["action"], row["detail"]) == ("secrets.rotate", {"drop_old": True})
    break_the_log(store)
    with pytest.raises(StoreUnavailable):
        log.append(Entry("default", "", ANNA, "secrets.rotate", "keyring"))


def test_no_two_rows_have_one_id(log: AuditTable, store: Store) -> None:
    for _ in range(200):
        log.append(Entry("default", "", ANNA, "secrets.rotate", "keyring"))
    found = [row["id"] for row in log.rows("default", limit=1000)]
    assert len(set(found)) == 200
    assert found == sorted(found, reverse=True)
    count = sa.select(sa.func.count()).select_from(audit)
    assert store.run_sync(lambda connection: connection.execute(count).scalar_one(), read=True) == 200


def test_actions_are_those_of_the_table_of_roles() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(arkway.__path__[0]).rglob("*.py")]
    named = {action for text in sources for action in re.findall(r"entry\(\s*\"([a-z_]+\.[a-z_]+)\"", text)}
    assert {"keys.revoke", "accounts.create", "secrets.rotate"} <= named
    assert named | set(PREPARED) <= set(PERMISSIONS)
