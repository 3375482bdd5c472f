"""``arkway limits`` over a data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.limits import WHATS
from arkway.cli import group
from arkway.cli.limits import HELP
from tests.tools.databases import made_in

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path)
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(tmp_path), *arguments])


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def test_limits_are_set_listed_and_removed(run: Run) -> None:
    key = document(run("keys", "create", "--json"))["id"]
    made = document(run("limits", "set", "--key", key, "--rpm", "60", "--cost-per-day", "2.5", "--json"))
    assert [(each["scope"], each["subject"], each["kind"], each["period"], each["amount"]) for each in made] == [
        ("key", key, "rpm", "", 60),
        ("key", key, "cost", "day", 2.5),
    ]
    assert run("limits", "set", "--tokens-per-day", "1000000", "--shadow").output == (
        "project default: tokens-per-day 1,000,000 (counts only)\n"
    )
    assert run("limits", "set", "--whole-account", "--concurrency", "8").exit_code == 0
    listed = document(run("limits", "list", "--json"))
    assert [(each["scope"], each["kind"]) for each in listed] == [
        ("account", "concurrency"),
        ("key", "cost"),
        ("key", "rpm"),
        ("project", "tokens"),
    ]
    shown = run("limits", "list").output
    assert f"key {key}" in shown
    assert "counts only" in shown
    assert document(run("limits", "remove", "--key", key, "--rpm", "--json"))["removed"] == 1
    assert document(run("limits", "remove", "--key", key, "--json"))["removed"] == 1
    assert [each["scope"] for each in document(run("limits", "list", "--json"))] == ["account", "project"]


@pytest.mark.parametrize(
    "words, said",
    [
        (("set", "--key", "key-nobody", "--rpm", "5"), "has no key `key-nobody`"),
        (("set", "--endpoint", "ep-nobody", "--rpm", "5"), "has no endpoint `ep-nobody`"),
        (("set",), "say what to limit"),
        (("set", "--rpm", "0"), "has to be from 0.001"),
        (("set", "--rpm", "many"), "is not a valid float"),
        (("set", "--key", "a", "--endpoint", "b", "--rpm", "1"), "give one of --key, --endpoint"),
        (("set", "--project", "nobody", "--rpm", "1"), "nobody"),
        (("remove", "--rpm"), "there is no such limit"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    result = run("limits", *words)
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert document(run("limits", "list", "--json")) == []


def test_every_limit_has_its_option() -> None:
    assert list(HELP) == list(WHATS)
