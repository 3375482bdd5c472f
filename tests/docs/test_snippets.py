"""Snippets do what the documentation says: those marked ``runs`` are run, the others are at least well-formed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from arkway.cli import group
from arkway.models.catalogue import DEFAULT_CHAT, DEFAULT_EMBEDDING
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, RunningServer, running_server
from arkway.wire import json
from scripts.generate_docs import ROOT, documents
from tests.docs.markdown import Block, all_blocks, text_of

TARGETS = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
OTHER_PROGRAMS = {"pip", "python", "python3", "."}
INLINE = re.compile(r"`(arkway [^`]+)`")


def marked(mark: str, *languages: str) -> list[Block]:
    return [block for block in all_blocks(*languages) if block.mark == mark]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.mark.parametrize("block", all_blocks("sh", "python", "bash", "console"), ids=lambda block: block.name)
def test_every_snippet_says_how_it_is_checked(block: Block) -> None:
    assert block.language in ("sh", "python")
    assert block.mark


@pytest.mark.parametrize("block", marked("runs", "sh"), ids=lambda block: block.name)
def test_commands_get_an_answer(block: Block, server: RunningServer) -> None:
    done = run(["bash", "-euo", "pipefail", "-c", filled_in(block.text, server)], server)
    assert done.returncode == 0, done.stderr
    if '"stream": true' in block.text:
        assert done.stdout.endswith("data: [DONE]\n\n")
        assert '"finish_reason":"stop"' in done.stdout
    else:
        assert json.load_object(done.stdout.encode()).keys() >= {"id", "model", "object"}


@pytest.mark.parametrize("block", marked("runs", "python"), ids=lambda block: block.name)
def test_programs_run(block: Block, server: RunningServer, tmp_path: Path) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(filled_in(block.text, server), encoding="utf-8")
    done = run([sys.executable, str(program)], server)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", marked("compiles", "python"), ids=lambda block: block.name)
def test_programs_that_need_an_sdk_compile(block: Block) -> None:
    compile(block.text, block.name, "exec")


@pytest.mark.parametrize("block", marked("shown", "sh"), ids=lambda block: block.name)
def test_commands_that_are_shown_exist(block: Block) -> None:
    for line in block.text.splitlines():
        words = list(shlex.split(line, comments=True))
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            check_command(words)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_prose_exist(path: Path) -> None:
    for command in INLINE.findall(text_of(path)):
        with contextlib.suppress(
            click.MissingParameter, click.BadOptionUsage
        ):  # prose may name a command without what it takes
            check_command(shlex.split(command.replace("…", "")))


def check_command(words: list[str]) -> None:
    """Fails unless it is a target of the Makefile, a known program, or an arkway command with options it has."""
    match words:
        case ["make", target, *_]:
            assert target in TARGETS, target
        case ["arkway", "--version" | "--help"]:
            pass
        case ["arkway", *rest]:
            parse(group, "arkway", rest)
        case [program, *_]:
            assert program in OTHER_PROGRAMS, program


def parse(command: click.Command, name: str, words: list[str], parent: click.Context | None = None) -> None:
    """Raises click.UsageError when the command does not take these words; runs nothing."""
    if isinstance(command, click.Group) and not words:
        return  # prose may name a group by itself
    try:
        context = command.make_context(name, words, parent=parent)
    except click.BadParameter as error:
        if "does not exist" not in error.message:  # a file of the reader's
            raise
        return
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if rest or not command.invoke_without_command:
            child_name, child, words = command.resolve_command(context, rest)
            assert child is not None
            parse(child, child_name or "", words, context)


def filled_in(text: str, server: RunningServer) -> str:
    """The snippet with the scripted server's address, endpoint and models in place of the examples."""
    places = {
        "http://127.0.0.1:8080": server.url,
        "ep-20240701000000-abcde": server.endpoint_id,
        DEFAULT_CHAT: CHAT_CARD.name,
        DEFAULT_EMBEDDING: EMBEDDING_CARD.name,
    }
    for example, real in places.items():
        text = text.replace(example, real)
    return text


def run(command: list[str], server: RunningServer) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "ARK_API_KEY": server.api_key, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
