"""``arkway keys``, ``endpoints`` and ``usage`` over a data directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.endpoints import Endpoints
from arkway.cli import group
from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement
from arkway.stores.directory import CachedDirectory
from arkway.stores.drain import usage_row
from arkway.stores.home import database_path, pepper
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable
from arkway.stores.usage import UsageTable
from tests.tools.databases import made_in
from tests.tools.waiting import until

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path)
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(tmp_path), *arguments])


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def test_a_key_is_shown_once_works_in_a_running_server_and_dies_when_revoked(tmp_path: Path, run: Run) -> None:
    with SqliteStore(database_path(tmp_path), poll_s=0.05) as store:
        directory = CachedDirectory(store, pepper(tmp_path))
        made = document(run("keys", "create", "--name", "钥匙", "--expires", "30d", "--json"))
        now_s = int(time.time())
        until(lambda: directory.caller(made["secret"], now_s) is not None)
        assert run("keys", "revoke", made["id"]).output == f"revoked {made['id']}\n"
        until(lambda: directory.caller(made["secret"], now_s) is None)
    (listed,) = document(run("keys", "list", "--json"))
    assert (listed["name"], listed["status"], listed["last4"]) == ("钥匙", "revoked", made["secret"][-4:])
    assert listed["expires_at"] - listed["created_at"] == 30 * 86_400
    assert made["secret"] not in run("keys", "list").output + str(listed)


def test_ids_in_tables_are_whole(run: Run) -> None:
    made = document(run("keys", "create", "--name", "x" * 100, "--json"))
    assert made["id"] in run("keys", "list").output


def test_endpoints_are_shown_stopped_and_started(tmp_path: Path, run: Run) -> None:
    assert "no endpoint" in run("endpoints", "list").output
    with SqliteStore(database_path(tmp_path)) as store:
        (endpoint,) = Endpoints(EndpointTable(store)).ensure(["small"], 1_750_000_000)
    assert document(run("endpoints", "list", "--json"))[0]["id"] == endpoint.id
    assert document(run("endpoints", "stop", endpoint.id, "--json"))["status"] == "stopped"
    assert "stopped" in run("endpoints", "show", endpoint.id).output
    assert document(run("endpoints", "start", endpoint.id, "--json"))["status"] == "running"
    assert endpoint.id in run("endpoints", "list").output


def test_usage_shows_calls_and_sums(tmp_path: Path, run: Run) -> None:
    now_ms = int(time.time() * 1000)
    with SqliteStore(database_path(tmp_path)) as store:
        for number, age_h in enumerate((1, 2, 100)):
            opened_ms = now_ms - age_h * 3_600_000
            attempt = Attempt(
                f"a{number}", f"r{number}", "default", "default", "k", "ep-1", "small", "v3", "chat", opened_ms
            )
            UsageTable(store).insert([usage_row(attempt, Settlement("done", Usage(10, 5), opened_ms + 1))])
    assert [row["attempt_id"] for row in document(run("usage", "--since", "24h", "--json"))] == ["a0", "a1"]
    assert [row["attempt_id"] for row in document(run("usage", "--limit", "1", "--json"))] == ["a0"]
    (total,) = document(run("usage", "--by", "model", "--json"))
    assert (total["group"], total["calls"], total["total_tokens"]) == ("small", 3, 45)
    assert "45" in run("usage", "--by", "key").output
    assert "no call" in run("usage", "--since", "1m").output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("keys", "revoke", "key-unknown"), "there is no API key `key-unknown`"),
        (("keys", "create", "--endpoint", "ep-unknown"), "`ep-unknown` does not exist"),
        (("keys", "create", "--expires", "soon"), "not a span of time"),
        (("keys", "create", "--expires", "0d"), "not a span of time"),
        (("keys", "create", "--name", ""), "1 to 128 printable characters"),
        (("endpoints", "stop", "ep-unknown"), "`ep-unknown` does not exist"),
        (("usage", "--since", "9999999w"), "not a span of time"),
    ],
)
def test_mistakes_get_a_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_data_directory_that_cannot_be_made_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(group, ["--home", str(tmp_path / "file" / "home"), "keys", "list"])
    assert result.exit_code == 1
    assert "cannot be made" in result.output
