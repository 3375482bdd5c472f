"""The generated parts are what the code says now."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.generate_docs import ELSEWHERE, MARK, ROOT, SECTIONS, documents, rendered
from tests.docs.markdown import text_of


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_parts_are_up_to_date(path: Path) -> None:
    assert text_of(path) == rendered()[path], "run `make docs` and commit the result"


def test_every_generated_part_is_shown_somewhere() -> None:
    shown = [found[1] for path in documents() for found in MARK.findall(text_of(path))]
    assert sorted(shown) == sorted([*SECTIONS, *ELSEWHERE])


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_mark_is_closed(path: Path) -> None:
    text = text_of(path)
    assert text.count("<!-- generated:") == len(MARK.findall(text)) == text.count("<!-- end -->")
