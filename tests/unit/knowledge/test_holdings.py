"""Collections of projects: what the holdings do, what they refuse, and that another project's are not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.core.errors import InvalidField, TooLarge, UnsupportedInput
from arkway.knowledge.folder import compared
from arkway.knowledge.holdings import (
    UPLOAD_MAX_BYTES,
    CollectionChange,
    CollectionExists,
    Holdings,
    NotThere,
    is_vectors_job,
)
from tests.unit.knowledge.shelf import ENDPOINT, NOW_S, Shelf, shelf

GUIDE = b"# Pumps\n\n## Warranty\n\nThe warranty lasts 24 months.\n\n## Noise\n\nA pump hums at 50 Hz.\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        yield made


def filled(place: Shelf) -> Holdings:
    holdings = place.holdings()
    holdings.create("manual", NOW_S)
    holdings.upload("manual", "guide.md", GUIDE, NOW_S)
    assert [job.state for job in place.work_off()] == ["done"]
    return holdings


def test_a_file_becomes_chunks_that_are_found(place: Shelf) -> None:
    holdings = filled(place)
    (document,), total = holdings.documents("manual")
    assert (total, document.source, document.type, document.title) == (1, "guide.md", "md", "Pumps")
    assert [chunk.path for chunk in holdings.chunks(document.id)] == [("Pumps", "Warranty"), ("Pumps", "Noise")]
    best = holdings.search(["manual"], "How long is the warranty?")[0]
    assert best.chunk.text == "The warranty lasts 24 months."
    assert holdings.chunk(best.chunk.id) == best.chunk


def test_the_same_content_again_changes_nothing(place: Shelf) -> None:
    holdings = filled(place)
    before = holdings.documents("manual")
    holdings.upload("manual", "guide.md", GUIDE, NOW_S + 9)
    (job,) = place.work_off()
    assert (job.state, job.change and (job.change.added, job.change.kept, job.change.removed)) == ("done", (0, 2, 0))
    assert holdings.documents("manual") == before


def test_another_content_touches_the_changed_chunks_alone(place: Shelf) -> None:
    holdings = filled(place)
    (document,), _ = holdings.documents("manual")
    before = {chunk.path[-1]: chunk.id for chunk in holdings.chunks(document.id)}
    holdings.upload("manual", "guide.md", GUIDE.replace(b"24", b"36"), NOW_S)
    (job,) = place.work_off()
    assert job.change
    assert (job.change.added, job.change.kept, job.change.removed) == (1, 1, 1)
    after = {chunk.path[-1]: chunk.id for chunk in holdings.chunks(document.id)}
    assert after["Noise"] == before["Noise"]
    assert after["Warranty"] != before["Warranty"]
    assert [hit.chunk.text for hit in holdings.search(["manual"], "warranty 24")] == ["The warranty lasts 36 months."]


def test_what_is_another_projects_is_not_there(place: Shelf) -> None:
    holdings = filled(place)
    (document,), _ = holdings.documents("manual")
    chunk = holdings.chunks(document.id)[0]
    (job,) = holdings.jobs("manual")
    own = holdings.show("manual")
    for other in (place.holdings("acme", "second"), place.holdings("umbrella")):
        asked: list[tuple[str, Callable[[str], Any]]] = [
            (own.id, other.show),
            ("manual", other.show),
            (own.id, lambda name, o=other: o.search([name], "warranty")),  # type: ignore[misc]
            (own.id, lambda name, o=other: o.upload(name, "guide.md", GUIDE, NOW_S)),  # type: ignore[misc]
            (own.id, lambda name, o=other: o.update(name, CollectionChange(description="taken"), NOW_S)),  # type: ignore[misc]
            (own.id, lambda name, o=other: o.reindex(name, NOW_S)),  # type: ignore[misc]
            (own.id, other.delete),
            (own.id, other.jobs),
            (document.id, other.document),
            (document.id, other.chunks),
            (document.id, other.delete_document),
            (chunk.id, other.chunk),
            (job.id, other.job),
            (job.id, lambda name, o=other: o.cancel(name, NOW_S)),  # type: ignore[misc]
        ]
        for name, ask in asked:
            with pytest.raises(NotThere) as foreign:
                ask(name)
            with pytest.raises(NotThere) as nobody:
                ask("nothing")
            assert foreign.value.message.replace(name, "NAME") == nobody.value.message.replace("nothing", "NAME")
    assert holdings.show("manual") == own
    assert holdings.documents("manual")[0] == [document]


def test_a_name_is_taken_once_in_a_project(place: Shelf) -> None:
    place.holdings().create("manual", NOW_S)
    with pytest.raises(CollectionExists):
        place.holdings().create("manual", NOW_S)
    assert place.holdings("acme", "second").create("manual", NOW_S).project == "second"


@pytest.mark.parametrize("name", ["", " a", "a,b", "a=b", "a:b", "a/b", "a\nb", "x" * 129, "kb-0123456789abcdef"])
def test_names_that_no_action_could_say_are_refused(place: Shelf, name: str) -> None:
    with pytest.raises(InvalidField):
        place.holdings().create(name, NOW_S)


@pytest.mark.parametrize("name", ["\udcff", "a\0b", "\n"])
def test_what_no_collection_can_be_called_is_not_there(place: Shelf, name: str) -> None:
    with pytest.raises(NotThere):
        place.holdings().show(name)


def test_an_upload_that_cannot_be_taken_is_refused_at_once(place: Shelf) -> None:
    holdings = filled(place)
    for file_name, body, error in (
        ("guide.exe", b"MZ", UnsupportedInput),
        ("guide", b"text", UnsupportedInput),
        ("guide.md", b"", UnsupportedInput),
        ("", b"text", InvalidField),
        ("a\x00.md", b"text", InvalidField),
        ("guide.md", bytes(UPLOAD_MAX_BYTES + 1), TooLarge),
    ):
        with pytest.raises(error):
            holdings.upload("manual", file_name, body, NOW_S)
    assert len(holdings.jobs("manual")) == 1


def test_a_file_that_cannot_be_read_fails_with_the_reason(place: Shelf) -> None:
    holdings = filled(place)
    holdings.upload("manual", "broken.docx", b"PK\x03\x04 this is no archive", NOW_S)
    (job,) = place.work_off()
    assert (job.state, job.attempts) == ("failed", 1)
    assert "damaged" in job.error
    assert holdings.documents("manual")[1] == 1


def test_a_job_that_waits_can_be_called_off(place: Shelf) -> None:
    holdings = filled(place)
    job = holdings.upload("manual", "more.md", b"# More\n\nText.\n", NOW_S)
    assert holdings.cancel(job.id, NOW_S).state == "failed"
    assert place.work_off() == []
    assert holdings.documents("manual")[1] == 1


def test_every_change_is_on_record_before_it_is_made(place: Shelf) -> None:
    holdings = filled(place)
    (document,), _ = holdings.documents("manual")
    holdings.update("manual", CollectionChange(description="of pumps"), NOW_S)
    holdings.reindex("manual", NOW_S)
    holdings.delete_document(document.id)
    holdings.delete("manual")
    assert [entry.action for entry in place.entries] == [
        "collections.create",
        "documents.upload",
        "collections.update",
        "collections.reindex",
        "documents.delete",
        "collections.delete",
    ]
    assert {entry.account for entry in place.entries} == {"acme"}


def test_what_cannot_be_put_on_record_does_not_happen(place: Shelf) -> None:
    holdings = filled(place)

    def refuse(_: object) -> None:
        raise InvalidField("the log is full")

    blocked = Holdings(type(place.backing)(place.opened, place.backing.asking, place.backing.check_endpoint, refuse))
    with pytest.raises(InvalidField, match="full"):
        blocked.create("second", NOW_S)
    assert [each.name for each in holdings.list()] == ["manual"]
    assert blocked.list() == []


def test_another_endpoint_means_other_vectors(place: Shelf) -> None:
    holdings = filled(place)
    with pytest.raises(InvalidField):
        holdings.update("manual", CollectionChange(endpoint_id="ep-unknown"), NOW_S)
    changed = holdings.update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    assert (changed.endpoint_id, changed.vector_weight) == (ENDPOINT, 0.0)
    assert is_vectors_job(holdings.jobs("manual")[0])


def test_reindexing_keeps_everything_found(place: Shelf) -> None:
    holdings = filled(place)
    assert holdings.reindex("manual", NOW_S) == 2
    assert holdings.search(["manual"], "warranty")[0].chunk.path[-1] == "Warranty"


def test_a_folder_is_compared_with_what_is_there(place: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "secret.md").write_bytes(GUIDE)
    (folder / "guide.md").write_bytes(GUIDE)
    (folder / "deep" / "more.txt").write_bytes(b"Other things.")
    (folder / "program.exe").write_bytes(b"MZ")
    (folder / "link.md").symlink_to(folder / "guide.md")
    holdings = filled(place)  # its guide.md comes from no folder, and stays
    plan = compared(folder, "docs", holdings.every_document("manual"), 500)
    assert [each.source for each in plan.added] == ["docs/guide.md", "docs/deep/more.txt"]
    assert [Path(each.path).name for each in plan.skipped] == ["program.exe"]
    for found in plan.added:
        holdings.upload("manual", Path(found.path).name, Path(found.path).read_bytes(), NOW_S, source=found.source)
    place.work_off()
    (folder / "guide.md").write_bytes(GUIDE.replace(b"24", b"36"))
    (folder / "deep" / "more.txt").unlink()
    plan = compared(folder, "docs", holdings.every_document("manual"), 500)
    assert ([each.source for each in plan.changed], plan.added, plan.unchanged) == (["docs/guide.md"], (), 0)
    assert [each.source for each in plan.gone] == ["docs/deep/more.txt"]
    with pytest.raises(InvalidField):
        compared(folder, "a/b", (), 500)


def test_files_that_cannot_be_taken_are_left_out_of_a_sync(place: Shelf, tmp_path: Path) -> None:
    """One whose name is no text, one with a path that is too long, and one that may not be read any more."""
    folder = tmp_path / "docs"
    deep = folder.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    for path in (deep / "deep.md", folder / "good.md", folder / "locked.md"):
        path.write_bytes(GUIDE)
    with open(os.fsencode(folder) + b"/bad\xff.md", "wb") as file:
        file.write(GUIDE)
    holdings = filled(place)
    holdings.upload("manual", "locked.md", GUIDE, NOW_S, source="docs/locked.md")
    place.work_off()
    (folder / "locked.md").chmod(0)
    plan = compared(folder, "docs", holdings.every_document("manual"), 500)
    assert [each.source for each in plan.added] == ["docs/good.md"]
    assert plan.gone == ()
    told = {Path(each.path).name: each.reason for each in plan.skipped}
    assert "cannot be printed" in told.pop("bad\ufffd.md")
    assert "characters" in told.pop("deep.md")
    assert told == ({"locked.md": "it may not be read"} if os.getuid() else {})  # root may read everything
