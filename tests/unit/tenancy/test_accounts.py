"""Accounts, their projects, and what suspending one does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from arkway.admin.access_keys import AccessKeys
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.admin.tenancy import Accounts, Projects
from arkway.core.errors import InvalidField
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import Pepper, pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable, KeyTable
from arkway.stores.tenancy import AccountTable, ProjectTable
from tests.tools.polls import by_the_next_polls

NOW_S = 1_750_000_000
DIGESTS = Pepper(b"p" * 32)


def test_an_account_has_a_project_from_the_start(store: Store, accounts: Accounts) -> None:
    made = accounts.create(NOW_S, "acme", "Acme Ltd")
    assert (made.id, made.name, made.status, made.created_at) == ("acme", "Acme Ltd", "active", NOW_S)
    assert {info.id for info in accounts.list()} == {"default", "acme"}
    assert [info.id for info in Projects(ProjectTable(store), "acme").list()] == ["default"]
    assert accounts.show("acme") == made


def test_an_account_without_an_id_gets_one(accounts: Accounts) -> None:
    first, second = accounts.create(NOW_S), accounts.create(NOW_S)
    assert first.id != second.id
    assert all(re.fullmatch(r"acc-[a-z0-9]{12}", info.id) for info in (first, second))


@pytest.mark.parametrize("account", ["a b", "-a", "../a", "a" * 65, "a\n", "账户", "a/b", "'; --"])
def test_ids_are_plain(accounts: Accounts, projects: Projects, account: str) -> None:
    with pytest.raises(InvalidField, match="1 to 64 letters"):
        accounts.create(NOW_S, account)
    with pytest.raises(InvalidField, match="1 to 64 letters"):
        projects.create(account, NOW_S)


def test_an_id_is_taken_once(accounts: Accounts, projects: Projects, store: Store) -> None:
    accounts.create(NOW_S, "acme")
    with pytest.raises(InvalidField, match="an account `acme` already"):
        accounts.create(NOW_S, "acme")
    projects.create("second", NOW_S, "The second")
    for project, name in (("second", ""), ("third", "The second"), ("default", "")):
        with pytest.raises(InvalidField, match="already"):
            projects.create(project, NOW_S, name)
    assert Projects(ProjectTable(store), "acme").create("second", NOW_S, "The second").account == "acme"


def test_a_project_of_nobody_is_not_made(store: Store) -> None:
    with pytest.raises(InvalidField, match="no account `nobody`"):
        Projects(ProjectTable(store), "nobody").create("second", NOW_S)


def test_an_empty_project_is_deleted(projects: Projects) -> None:
    projects.create("second", NOW_S)
    projects.delete("second")
    assert [info.id for info in projects.list()] == ["default"]
    with pytest.raises(InvalidField, match="no project `second`"):
        projects.delete("second")
    with pytest.raises(InvalidField, match="keeps its project"):
        projects.delete("default")


def test_a_project_with_anything_in_it_is_not_deleted(projects: Projects, store: Store) -> None:
    projects.create("second", NOW_S)
    keys = Keys(KeyTable(store), DIGESTS.digest, "default", "second")
    key, _ = keys.create("one", NOW_S)
    keys.revoke(key.id, NOW_S)
    with pytest.raises(InvalidField, match=r"not empty: it has 1 API key$"):
        projects.delete("second")
    Endpoints(EndpointTable(store), "default", "second").ensure(["small", "large"], NOW_S)
    with pytest.raises(InvalidField, match="1 API key, 2 endpoints"):
        projects.delete("second")
    assert projects.show("second").name == "second"


def test_anothers_project_is_answered_as_one_that_is_not_there(accounts: Accounts, store: Store) -> None:
    accounts.create(NOW_S, "acme")
    Projects(ProjectTable(store), "acme").create("secret", NOW_S)
    said = []
    for account, project in (("default", "secret"), ("default", "absent"), ("nobody", "absent")):
        with pytest.raises(InvalidField) as refused:
            Projects(ProjectTable(store), account).show(project)
        said.append(refused.value.message.replace(account, "A").replace(project, "P"))
    assert said[0] == said[1] == said[2]


def test_every_credential_of_a_suspended_account_is_unknown_until_it_is_resumed(
    tmp_path: Path, accounts: Accounts, store: Store
) -> None:
    accounts.create(NOW_S, "acme")
    ring = KeyRing(tmp_path)
    directory = CachedDirectory(store, DIGESTS, ring)
    _, secret = Keys(KeyTable(store), DIGESTS.digest, "acme").create("one", NOW_S)
    _, ours = Keys(KeyTable(store), DIGESTS.digest).create("ours", NOW_S)
    pair = AccessKeys(AccessKeyTable(store, ring), "acme").create("one", NOW_S)
    accounts.suspend("acme")
    assert accounts.show("acme").status == "suspended"
    assert directory.caller(secret, NOW_S) is None
    assert directory.access_key(pair.info.id, NOW_S) is None
    assert directory.caller(ours, NOW_S) is not None
    accounts.resume("acme")
    assert directory.caller(secret, NOW_S) is not None
    assert directory.access_key(pair.info.id, NOW_S) is not None


SUSPEND = """
import pathlib, sys
from arkway.admin.tenancy import Accounts
from arkway.stores.sqlite import SqliteStore
from arkway.stores.store import Store
from arkway.stores.tenancy import AccountTable

with SqliteStore(pathlib.Path(sys.argv[1])) as store:
    Accounts(AccountTable(store)).suspend("acme")
"""


def test_a_suspension_by_another_process_is_effective_within_two_seconds(tmp_path: Path) -> None:
    hashed = pepper(tmp_path)
    with SqliteStore(tmp_path / "arkway.db") as store:  # the polling interval of a real server
        Accounts(AccountTable(store)).create(NOW_S, "acme")
        directory = CachedDirectory(store, hashed)
        _, secret = Keys(KeyTable(store), hashed.digest, "acme").create("one", NOW_S)
        assert directory.caller(secret, NOW_S) is not None
        subprocess.run([sys.executable, "-c", SUSPEND, store.path], check=True)
        assert by_the_next_polls(store, lambda: directory.caller(secret, NOW_S) is None)


def test_the_operators_account_and_unknown_ones_are_not_suspended(accounts: Accounts) -> None:
    with pytest.raises(InvalidField, match="operator's own"):
        accounts.suspend("default")
    for command in (accounts.suspend, accounts.resume, accounts.show):
        with pytest.raises(InvalidField, match="no account `nobody`"):
            command("nobody")


def test_roles_reach_the_directory(tmp_path: Path, store: Store) -> None:
    ring = KeyRing(tmp_path)
    directory = CachedDirectory(store, DIGESTS, ring)
    keys, pairs = Keys(KeyTable(store), DIGESTS.digest), AccessKeys(AccessKeyTable(store, ring))
    for role in ("inference", "viewer", "developer", "owner", "operator"):
        _, secret = keys.create(role, NOW_S, role=role)
        caller = directory.caller(secret, NOW_S)
        pair = directory.access_key(pairs.create(role, NOW_S, role=role).info.id, NOW_S)
        assert caller is not None
        assert pair is not None
        assert (caller.role, pair.caller.role) == (role, role)
    _, secret = keys.create("plain", NOW_S)
    plain = directory.caller(secret, NOW_S)
    assert plain is not None
    assert plain.role == "inference"
    assert pairs.create("plain", NOW_S).info.role == "owner"


def test_only_the_operators_account_has_operators(accounts: Accounts, store: Store, tmp_path: Path) -> None:
    accounts.create(NOW_S, "acme")
    with pytest.raises(InvalidField, match="only keys of the account `default`"):
        Keys(KeyTable(store), DIGESTS.digest, "acme").create("one", NOW_S, role="operator")
    with pytest.raises(InvalidField, match="only keys of the account `default`"):
        AccessKeys(AccessKeyTable(store, KeyRing(tmp_path)), "acme").create("one", NOW_S, role="operator")
    with pytest.raises(InvalidField, match="the role is one of"):
        Keys(KeyTable(store), DIGESTS.digest).create("one", NOW_S, role="root")  # type: ignore[arg-type]
