"""Retired names become aliases as soon as there is a chat model: at a start, or while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.app.installation import Installation
from arkway.cli import group
from arkway.config import load
from arkway.ports import Alias
from tests.tools.databases import made_in
from tests.tools.random_gguf import write_random_gguf
from tests.tools.waiting import soon

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path / "home")
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(tmp_path / "home"), *arguments])


@pytest.fixture
def pull(tmp_path: Path, run: Run) -> Callable[[str], None]:
    def pull(version: str) -> None:
        file = write_random_gguf(tmp_path / f"{version}.gguf", script=(version,), context=512)
        done = run("pull", f"file:{file}", "--name", "pair", "--version", version)
        assert done.exit_code == 0, done.output

    return pull


@contextmanager
def opened(tmp_path: Path) -> Iterator[Installation]:
    tree = {"home": str(tmp_path / "home"), "engine": {"preload": False}}
    installation = Installation(load(environ={}, overrides=tree))
    try:
        yield installation
    finally:
        installation.close()


def alias(installation: Installation, name: str) -> Alias | None:
    return installation.parts().directory.alias(name)


def test_they_stand_for_the_model_of_the_first_start(tmp_path: Path, run: Run, pull: Callable[[str], None]) -> None:
    pull("v1")
    with opened(tmp_path) as installation:
        assert alias(installation, "Skylark-Pro") == Alias("skylark-pro", "pair", "v1")
        assert alias(installation, "skylark-chat") == Alias("skylark-chat", "pair", "")
    pull("v2")
    assert run("models", "default", "pair", "v2").exit_code == 0
    assert run("aliases", "remove", "skylark-pro").exit_code == 0
    with opened(tmp_path) as installation:
        assert alias(installation, "skylark-pro") is None
        assert alias(installation, "moonshot-v1-8k") == Alias("moonshot-v1-8k", "pair", "v1")


def test_without_a_chat_model_there_are_none(tmp_path: Path, run: Run) -> None:
    with opened(tmp_path) as installation:
        assert installation.parts().directory.aliases() == ()
    assert orjson.loads(run("aliases", "list", "--json").stdout) == []


async def test_they_come_with_the_first_model_that_is_pulled_meanwhile(
    tmp_path: Path, pull: Callable[[str], None]
) -> None:
    with opened(tmp_path) as installation:
        parts = installation.parts()
        await parts.startup()
        try:
            await asyncio.to_thread(pull, "v1")
            await soon(lambda: parts.directory.alias("skylark-chat") is not None)
            assert parts.directory.alias("chatglm-130b") == Alias("chatglm-130b", "pair", "v1")
        finally:
            await parts.shutdown()


def test_the_operator_sets_them_to_installed_versions(tmp_path: Path, run: Run, pull: Callable[[str], None]) -> None:
    pull("v1")
    assert orjson.loads(run("aliases", "set", "Mine", "pair@v1", "--json").stdout)["name"] == "mine"
    assert "version v1" in run("aliases", "set", "skylark-chat", "pair:v1").output
    for wrong in ("pair@v2", "pear"):
        assert "is not installed" in run("aliases", "set", "mine", wrong).output
    with opened(tmp_path) as installation:
        assert alias(installation, "MINE") == Alias("mine", "pair", "v1")
        assert alias(installation, "skylark-chat") == Alias("skylark-chat", "pair", "v1")
