"""``arkway aksk``, ``secrets`` and ``aliases`` over a data directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.aliases import Aliases
from arkway.app.installation import Installation
from arkway.cli import group
from arkway.config import load
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import database_path, pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import AliasTable
from tests.tools.databases import made_in
from tests.tools.waiting import until

Run = Callable[..., Result]
KEY = "11" * 32


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path)

    def run(*arguments: str, master_key: str = "") -> Result:
        environment = {"ARKWAY_MASTER_KEY": master_key}
        return CliRunner(env=environment).invoke(group, ["--home", str(tmp_path), *arguments])

    return run


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def test_a_pair_is_shown_once_works_in_a_running_server_and_dies_when_revoked(tmp_path: Path, run: Run) -> None:
    with SqliteStore(database_path(tmp_path), poll_s=0.05) as store:
        directory = CachedDirectory(store, pepper(tmp_path), KeyRing(tmp_path))
        made = document(run("aksk", "create", "--name", "钥匙", "--expires", "30d", "--json"))
        now_s = int(time.time())
        until(lambda: directory.access_key(made["id"], now_s))
        found = directory.access_key(made["id"], now_s)
        assert found is not None
        assert (found.secret.decode(), made["session_token"]) == (made["secret"], None)
        assert run("aksk", "revoke", made["id"]).output == f"revoked {made['id']}\n"
        until(lambda: directory.access_key(made["id"], now_s) is None)
    (listed,) = document(run("aksk", "list", "--json"))
    assert (listed["name"], listed["status"], listed["temporary"]) == ("钥匙", "revoked", False)
    assert listed["expires_at"] - listed["created_at"] == 30 * 86_400
    assert made["secret"] not in run("aksk", "list").output + str(listed)
    assert made["id"] in run("aksk", "list").output


def test_a_temporary_pair_comes_with_its_token(run: Run) -> None:
    shown = run("aksk", "create", "--name", "x", "--temporary", "1h").output
    assert all(label in shown for label in ("AKTP", "STS2", "only time"))
    made = document(run("aksk", "create", "--temporary", "1h", "--json"))
    assert made["expires_at"] - made["created_at"] == 3600
    assert made["session_token"].startswith("STS2")
    assert made["session_token"] not in run("aksk", "list", "--json").output


def test_a_rotation_tells_what_it_did(tmp_path: Path, run: Run) -> None:
    made = document(run("aksk", "create", "--json"))
    first = document(run("secrets", "rotate", "--json"))
    assert (first["new_key"], first["rows"], first["dropped"]) == (True, 1, [])
    output = run("secrets", "rotate", "--drop-old").output
    assert "1 of 1 access keys" in output
    assert f"dropped the key {first['current']}" in output
    with SqliteStore(database_path(tmp_path)) as store:
        found = CachedDirectory(store, pepper(tmp_path), KeyRing(tmp_path)).access_key(made["id"], int(time.time()))
    assert found is not None
    assert found.secret.decode() == made["secret"]


def test_the_environment_gives_the_key_to_commands_and_servers(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = document(run("aksk", "create", "--json", master_key=KEY))
    assert not (tmp_path / "keyring").exists()
    result = run("aksk", "create", master_key="22" * 32)
    assert result.exit_code == 1
    assert "no access key can be used" in result.output
    settings = load(environ={}, overrides={"home": str(tmp_path)})
    monkeypatch.setenv("ARKWAY_MASTER_KEY", KEY)
    installation = Installation(settings)
    try:
        assert installation.parts().directory.access_key(made["id"], int(time.time())) is not None
    finally:
        installation.close()


def test_a_server_without_the_right_key_does_not_start(tmp_path: Path, run: Run) -> None:
    document(run("aksk", "create", "--json", master_key=KEY))
    result = run("serve", "--no-pull", "--port", "0", master_key="22" * 32)
    assert result.exit_code == 1
    assert "no access key can be used" in str(result.exception) + result.output
    assert "Traceback" not in result.output


def test_aliases_are_listed_and_removed(tmp_path: Path, run: Run) -> None:
    assert "there is no alias" in run("aliases", "list").output
    with SqliteStore(database_path(tmp_path)) as store:
        Aliases(AliasTable(store)).ensure("small", "1", 1_750_000_000)
    assert document(run("aliases", "remove", "Skylark-Pro", "--json")) == {"name": "skylark-pro", "status": "removed"}
    listed = document(run("aliases", "list", "--json"))
    assert {"skylark-chat", "moonshot-v1-8k"} <= {alias["name"] for alias in listed}
    assert "skylark-pro" not in {alias["name"] for alias in listed}
    assert "(its default)" in run("aliases", "list").output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("aksk", "revoke", "AKLTunknown"), "there is no access key `AKLTunknown`"),
        (("aksk", "create", "--endpoint", "ep-unknown"), "`ep-unknown` does not exist"),
        (("aksk", "create", "--temporary", "soon"), "not a span of time"),
        (("aksk", "create", "--temporary", "1h", "--expires", "1h"), "not both"),
        (("aksk", "create", "--name", ""), "1 to 128 printable characters"),
        (("aliases", "set", "mine", "missing@2"), "`missing:2` is not installed"),
        (("aliases", "remove", "mine"), "there is no alias `mine`"),
    ],
)
def test_mistakes_get_a_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_wrong_master_key_gets_a_sentence(run: Run) -> None:
    result = run("aksk", "list", master_key="not a key")
    assert result.exit_code == 1
    assert "ARKWAY_MASTER_KEY is not a key of 32 bytes" in result.output
    assert "not a key of 32 bytes in base64" in result.output
