"""The documentation keeps to its own words, and says nothing that only one machine knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.generate_docs import ROOT, documents
from tests.docs.markdown import prose_of, text_of

GLOSSARY = ROOT / "docs" / "glossary.md"
MACHINE_PATH = re.compile(r"(?<![\w.~$/])/(?:work|root|tmp|home|Users|mnt)/\S*")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|TBD|XXX|WIP|lorem ipsum)\b", re.IGNORECASE)
PRAISE = re.compile(
    r"\b(?:blazing|lightning|powerful|seamless\w*|cutting-edge|world-class|effortless\w*|robust|best-in-class|simply)\b",
    re.IGNORECASE,
)
EMPTY_NAMES = re.compile(r"(?:^|[_./`])(?:utils?|helpers?|common|managers?|misc)(?:$|[_./`])|\w+Manager\b")
RULE = "No `utils`, `helpers`, `common`, `manager`, `base_v2`."

each_document = pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))


@each_document
def test_no_machine_is_named(path: Path) -> None:
    assert MACHINE_PATH.findall(text_of(path)) == []


@each_document
def test_nothing_is_left_for_later(path: Path) -> None:
    assert UNFINISHED.findall(text_of(path)) == []


@each_document
def test_nothing_is_praised(path: Path) -> None:
    assert PRAISE.findall(prose_of(path)) == []


@each_document
def test_empty_names_are_not_used(path: Path) -> None:
    assert EMPTY_NAMES.findall(text_of(path).replace(RULE, "")) == []


@each_document
def test_one_word_per_thing(path: Path) -> None:
    text = prose_of(path).lower()
    if path == GLOSSARY:
        return
    used = [
        (wrong, right) for right, wrongs in glossary().items() for wrong in wrongs if re.search(rf"\b{wrong}\b", text)
    ]
    assert used == []


def test_the_glossary_is_in_order() -> None:
    words = list(glossary())
    assert words == sorted(words, key=str.lower)
    assert len(words) > 20


def test_no_module_has_an_empty_name() -> None:
    folders = (ROOT / "src", ROOT / "tests", ROOT / "scripts", ROOT / "benchmarks")
    names = [path.relative_to(ROOT).as_posix() for folder in folders for path in folder.glob("**/*.py")]
    assert [name for name in names if EMPTY_NAMES.search(name.removesuffix(".py"))] == []


def glossary() -> dict[str, list[str]]:
    """Each word of the glossary and the words that are not to be used for it."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ?([^|]*) ?\|$", text_of(GLOSSARY), re.MULTILINE)
    return {word: [each.strip() for each in wrong.split(",") if each.strip()] for word, wrong in rows[2:]}
