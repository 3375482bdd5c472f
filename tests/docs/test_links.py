"""Every link that stays in the repository leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.generate_docs import ROOT, documents
from tests.docs.markdown import LINK, anchors_of, prose_of


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(path: Path) -> None:
    broken = [link for link in LINK.findall(prose_of(path)) if "://" not in link and not _resolves(path, link)]
    assert broken == []


def _resolves(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors_of(target))


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        linked = ((path.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose_of(path)))
        waiting += [target for target in linked if target.suffix == ".md" and target.is_file()]
    assert set(documents()) - reached == set()
