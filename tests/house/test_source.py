"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base"}
ASSERTS = r"\bassert\b|pytest\.(raises|warns|fail)|\bcompile\("
# Those of tests/tools/waiting.py and polls.py, which fail when what they wait for does not happen.
WAITS = r"\b(until|soon|ends|by_the_next_polls)\("

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Functions of a module that others may call: methods speak for themselves through their class or their port."""
    return (node for node in tree.body if isinstance(node, Function) and not node.name.startswith("_"))


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def is_trivial(function: Function) -> bool:
    """One statement says it all: the name and the types are its documentation."""
    return len(function.body) == 1


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_a_module_has_a_purpose_and_a_size(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert file.stem not in VAGUE
    assert len(text.splitlines()) <= FILE_LINES_MAX
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the module says nothing about itself"


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_what_is_public_says_what_it_does(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    silent = [node.name for node in public_functions(tree) if not ast.get_docstring(node) and not is_trivial(node)]
    silent += [node.name for node in classes(tree) if not ast.get_docstring(node)]
    assert not silent


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_functions_are_short(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    long = [node.name for node in functions(tree) if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX]
    assert not long


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_nothing_is_left_to_do(file: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", [file for file in TESTS if file.name.startswith("test_")], ids=named)
def test_every_test_asserts_something(file: Path) -> None:
    """By itself, or through a function of its own file that does; that something passes is asserted by passing."""
    text = file.read_text(encoding="utf-8")
    parts = {node.name: ast.get_source_segment(text, node) or "" for node in functions(ast.parse(text))}
    tests = {name for name in parts if name.startswith("test_")}
    assert tests, "a file of tests without tests"
    asserting: set[str] = set()
    while True:
        calls = re.compile("|".join([ASSERTS, WAITS, *(rf"\b{name}\(" for name in asserting)]))
        found = {name for name, part in parts.items() if calls.search(part)}
        if found == asserting:
            break
        asserting = found
    assert not {name for name in tests - asserting if not re.search(r"_pass(es)?(_|$)", name)}
