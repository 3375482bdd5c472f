"""``arkway accounts``, ``projects``, ``audit``, and the place of every other command."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.endpoints import Endpoints
from arkway.cli import COMMANDS, group
from arkway.stores.home import database_path
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable
from tests.tools.databases import made_in

Run = Callable[..., Result]
USER = pwd.getpwuid(os.getuid()).pw_name
ELSEWHERE = ("--account", "acme", "--project", "second")
# Groups whose commands work on what a project has.
PLACED = ("keys", "aksk", "endpoints", "usage")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path)
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(tmp_path), *arguments])


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def leaves(command: click.Command) -> list[click.Command]:
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    found = (command.get_command(context, name) for name in command.list_commands(context))
    return [leaf for child in found if child for leaf in leaves(child)]


@pytest.mark.parametrize("name", PLACED)
def test_every_command_on_what_a_project_has_says_which_project(name: str) -> None:
    assert name in COMMANDS
    for command in leaves(group.get_command(click.Context(group), name) or click.Command("")):
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--account", "--project"} <= options, command.name


def test_accounts_are_made_listed_suspended_and_resumed(run: Run) -> None:
    assert "acme is made" in run("accounts", "create", "acme", "--name", "Acme Ltd").output
    made = document(run("accounts", "create", "--json"))
    assert made["id"].startswith("acc-")
    assert "Acme Ltd" in run("accounts", "list").output
    assert document(run("accounts", "suspend", "acme", "--json"))["status"] == "suspended"
    assert {info["id"]: info["status"] for info in document(run("accounts", "list", "--json"))} == {
        "default": "active",
        "acme": "suspended",
        made["id"]: "active",
    }
    assert run("accounts", "resume", "acme").output == "account acme is active\n"


def test_projects_are_made_listed_and_deleted(run: Run) -> None:
    run("accounts", "create", "acme")
    made = document(run("projects", "create", "second", "--account", "acme", "--name", "The second", "--json"))
    assert (made["account"], made["id"], made["name"]) == ("acme", "second", "The second")
    assert "The second" in run("projects", "list", "--account", "acme").output
    assert [info["id"] for info in document(run("projects", "list", "--json"))] == ["default"]
    document(run("keys", "create", *ELSEWHERE, "--json"))
    result = run("projects", "delete", "second", "--account", "acme")
    assert (result.exit_code, "not empty: it has 1 API key" in result.output) == (1, True)
    run("projects", "create", "third")
    assert run("projects", "delete", "third").output == "deleted third\n"
    assert "there is no account nobody" in run("projects", "list", "--account", "nobody").output


def test_commands_work_in_their_own_project(tmp_path: Path, run: Run) -> None:
    run("accounts", "create", "acme")
    run("projects", "create", "second", "--account", "acme")
    with SqliteStore(database_path(tmp_path)) as store:
        theirs = Endpoints(EndpointTable(store), "acme", "second").create("one", "small", 1_750_000_000)
    key = document(run("keys", "create", *ELSEWHERE, "--endpoint", theirs.id, "--role", "developer", "--json"))
    pair = document(run("aksk", "create", *ELSEWHERE, "--role", "viewer", "--json"))
    assert (key["account"], key["project"], key["role"]) == ("acme", "second", "developer")
    assert (pair["account"], pair["project"], pair["role"]) == ("acme", "second", "viewer")
    assert [found["id"] for found in document(run("keys", "list", *ELSEWHERE, "--json"))] == [key["id"]]
    assert "developer" in run("keys", "list", *ELSEWHERE).output
    assert "viewer" in run("aksk", "list", *ELSEWHERE).output
    for command in ("keys", "aksk", "endpoints"):
        assert document(run(command, "list", "--json")) == []
        assert document(run(command, "list", "--account", "acme", "--json")) == []
    assert document(run("endpoints", "stop", theirs.id, *ELSEWHERE, "--json"))["status"] == "stopped"
    assert document(run("endpoints", "show", theirs.id, *ELSEWHERE, "--json"))["status"] == "stopped"


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "revoke", "{key}"),
        ("aksk", "revoke", "{pair}"),
        ("endpoints", "show", "{endpoint}"),
        ("endpoints", "stop", "{endpoint}"),
        ("endpoints", "start", "{endpoint}"),
        ("keys", "create", "--endpoint", "{endpoint}"),
        ("aksk", "create", "--endpoint", "{endpoint}"),
    ],
    ids=" ".join,
)
def test_what_is_in_another_project_is_answered_as_what_is_not_there(
    tmp_path: Path, run: Run, command: tuple[str, ...]
) -> None:
    run("accounts", "create", "acme")
    with SqliteStore(database_path(tmp_path)) as store:
        endpoint = Endpoints(EndpointTable(store), "acme").create("one", "small", 1_750_000_000).id
    theirs = {
        "key": document(run("keys", "create", "--account", "acme", "--json"))["id"],
        "pair": document(run("aksk", "create", "--account", "acme", "--json"))["id"],
        "endpoint": endpoint,
    }
    absent = {name: value[:-3] + "zzz" for name, value in theirs.items()}
    before = document(run("audit", "list", "--json"))
    found, missing = (run(*(part.format(**ids) for part in command)) for ids in (theirs, absent))
    assert found.exit_code == missing.exit_code == 1
    said = [result.output for result in (found, missing)]
    for name, value in theirs.items():
        said = [said[0].replace(value, name), said[1].replace(absent[name], name)]
    assert said[0] == said[1]
    assert document(run("audit", "list", "--json")) == before


@pytest.mark.parametrize("place", [("--account", "nobody"), ("--project", "absent")], ids=" ".join)
@pytest.mark.parametrize(
    "command", [("keys", "list"), ("keys", "create"), ("aksk", "list"), ("endpoints", "list"), ("usage",)], ids=" ".join
)
def test_a_mistyped_place_is_not_an_empty_one(run: Run, command: tuple[str, ...], place: tuple[str, ...]) -> None:
    result = run(*command, *place)
    assert result.exit_code == 1
    assert "there is no project" in result.output
    assert "Traceback" not in result.output


def test_the_log_tells_what_commands_did_and_by_whom(run: Run) -> None:
    key = document(run("keys", "create", "--name", "one", "--json"))
    run("keys", "revoke", key["id"])
    pair = document(run("aksk", "create", "--json"))
    run("secrets", "rotate")
    run("accounts", "create", "acme")
    rows = document(run("audit", "list", "--json"))
    assert [(row["action"], row["target"]) for row in rows] == [
        ("accounts.create", "acme"),
        ("secrets.rotate", "keyring"),
        ("access_keys.create", pair["id"]),
        ("keys.revoke", key["id"]),
        ("keys.create", key["id"]),
    ]
    assert {row["actor"] for row in rows} == {f"cli:{USER}"}
    assert key["secret"] not in str(rows)
    assert pair["secret"] not in str(rows)
    shown = run("audit", "list", "--action", "keys.create").output
    assert key["id"] in shown
    assert "keys.revoke" not in shown
    assert document(run("audit", "list", "--account", "acme", "--json"))[0]["target"] == "acme"
    assert document(run("audit", "list", "--actor", "nobody", "--json")) == []
    assert "nothing of this kind" in run("audit", "list", "--actor", "nobody").output


def test_the_environment_does_not_choose_the_actor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    run("accounts", "create", "acme")
    assert document(run("audit", "list", "--json"))[0]["actor"] == f"cli:{USER}"


def test_no_secret_is_shown_that_the_log_does_not_have(tmp_path: Path, run: Run) -> None:
    run("keys", "list")
    with SqliteStore(database_path(tmp_path)) as store:
        broken = "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END"
        store.run_sync(lambda connection: connection.exec_driver_sql(broken))
    for command in (("keys", "create"), ("aksk", "create"), ("aksk", "create", "--temporary", "1h")):
        result = run(*command, "--json")
        assert result.exit_code == 1
        assert result.stdout == ""
    assert run("secrets", "rotate").exit_code == 1
    assert document(run("keys", "list", "--json")) == document(run("aksk", "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("accounts", "create", "a b"), "1 to 64 letters"),
        (("accounts", "create", "default"), "already"),
        (("accounts", "suspend", "default"), "operator's own"),
        (("accounts", "suspend", "nobody"), "there is no account `nobody`"),
        (("projects", "create", "x", "--account", "nobody"), "there is no account `nobody`"),
        (("projects", "delete", "default"), "keeps its project"),
        (("keys", "create", "--role", "root"), "'root' is not one of"),
    ],
)
def test_mistakes_get_a_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output
