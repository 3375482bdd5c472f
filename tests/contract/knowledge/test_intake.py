"""What workers ask of a store: only what they can do, back what they cannot end, and in only in order."""

from __future__ import annotations

from typing import cast

import pytest
from msgspec import structs

from arkway.core.knowledge import Change, Job
from arkway.knowledge.holdings import vectors_job
from arkway.knowledge.intake import Intake, Lost
from tests.contract.knowledge.conftest import OpenKnowledge
from tests.tools.shelf import chunks, collection, document, job

BOOK = collection()
BODY = b"# Apples\n"
LEASE_S = 60


@pytest.fixture
def intake(new_knowledge: OpenKnowledge) -> Intake:
    return opened(new_knowledge)


def opened(new_knowledge: OpenKnowledge) -> Intake:
    return cast(Intake, new_knowledge())


def upload(store: Intake, name: str, source: str = "a.md") -> Job:
    if store.by_id(BOOK.id) is None:
        assert store.create(BOOK)
    submitted = structs.replace(job(BOOK, name), source=source)
    store.submit(submitted, BODY)
    return submitted


def claimed(store: Intake, now_s: int = 100) -> Job:
    found = store.next_job(LEASE_S, now_s, vectors=True)
    assert found is not None
    return found[0]


def put(store: Intake, of: Job, *texts: str) -> Change:
    written = document(BOOK, of.source)
    return store.put_for(of, written, chunks(written, *texts), {})


def stored(store: Intake, source: str = "a.md") -> list[str]:
    return [chunk.text for chunk in store.chunks(document(BOOK, source).id)]


def test_a_worker_without_a_model_gets_uploads_alone(intake: Intake) -> None:
    intake.create(BOOK)
    intake.submit(vectors_job(BOOK.id, 1), b"")
    assert intake.next_job(LEASE_S, 100, vectors=False) is None
    upload(intake, "one")
    found = intake.next_job(LEASE_S, 100, vectors=False)
    assert found is not None
    assert (found[0].id, found[1]) == ("one", BODY)
    assert intake.next_job(LEASE_S, 100, vectors=False) is None
    assert claimed(intake).source == ""


def test_a_job_that_is_given_back_was_never_tried(intake: Intake) -> None:
    upload(intake, "one")
    for _ in range(5):
        intake.give_back(claimed(intake))
    now = intake.job("one")
    assert now is not None
    assert (now.state, now.attempts, now.lease_until_s) == ("waiting", 0, 0)
    assert claimed(intake).attempts == 1


def test_a_worker_that_has_lost_its_job_cannot_give_it_back(new_knowledge: OpenKnowledge) -> None:
    slow, quick = opened(new_knowledge), opened(new_knowledge)
    upload(slow, "one")
    late = claimed(slow)
    claimed(quick, 100 + LEASE_S)
    slow.give_back(late)
    now = quick.job("one")
    assert now is not None
    assert (now.state, now.attempts) == ("running", 2)


def test_what_a_job_has_brought_is_put_in_and_noted(intake: Intake) -> None:
    upload(intake, "one")
    running = claimed(intake)
    assert put(intake, running, "apples", "pears") == Change(2, 0, 0)
    now = intake.job("one")
    assert now is not None
    assert (now.state, now.change) == ("running", Change(2, 0, 0))
    assert not intake.cancel("one", "too late", 200)
    intake.finish(structs.replace(running, state="done", change=Change(2, 0, 0)))
    assert stored(intake) == ["apples", "pears"]


def test_a_worker_that_has_lost_its_job_puts_nothing_in(new_knowledge: OpenKnowledge) -> None:
    """Whether another one has it, or it was called off."""
    slow, quick = opened(new_knowledge), opened(new_knowledge)
    upload(slow, "one")
    late = claimed(slow)
    taken_over = claimed(quick, 100 + LEASE_S)
    with pytest.raises(Lost):
        put(slow, late, "apples")
    assert quick.document(document(BOOK, "a.md").id) is None
    assert slow.cancel("one", "it was called off", 200)
    with pytest.raises(Lost):
        put(quick, taken_over, "apples")
    assert quick.document(document(BOOK, "a.md").id) is None
    assert quick.words([BOOK.id], "apples", 5) == []


def test_an_earlier_upload_does_not_replace_a_later_one(new_knowledge: OpenKnowledge) -> None:
    slow, quick = opened(new_knowledge), opened(new_knowledge)
    upload(slow, "one")
    earlier = claimed(slow)
    upload(slow, "other", "b.md")
    upload(slow, "two")
    other, later = claimed(quick), claimed(quick)
    assert put(quick, later, "pears") == Change(1, 0, 0)
    assert put(slow, earlier, "apples") == Change(0, 0, 0)
    assert put(quick, other, "plums") == Change(1, 0, 0)
    assert (stored(slow), stored(slow, "b.md")) == (["pears"], ["plums"])


def test_a_later_upload_that_comes_to_nothing_takes_nothing_away(new_knowledge: OpenKnowledge) -> None:
    slow, quick = opened(new_knowledge), opened(new_knowledge)
    upload(slow, "one")
    earlier = claimed(slow)
    upload(slow, "two")
    quick.finish(structs.replace(claimed(quick), state="failed", error="it is damaged"))
    upload(slow, "three")
    assert put(slow, earlier, "apples") == Change(1, 0, 0)
    assert stored(slow) == ["apples"]


def test_an_account_that_uploads_a_lot_keeps_only_itself_waiting(intake: Intake) -> None:
    busy, second, quiet = BOOK, collection("second"), collection(account="quiet")
    for one in (busy, second, quiet):
        intake.create(one)
    for number in range(4):
        intake.submit(job(busy if number % 2 else second, f"busy-{number}"), BODY)
    intake.submit(job(quiet, "quiet-1"), BODY)
    intake.submit(job(quiet, "quiet-2"), BODY)
    order = [claimed(intake).id for _ in range(6)]
    assert order == ["busy-0", "quiet-1", "busy-1", "quiet-2", "busy-2", "busy-3"]
    assert intake.next_job(LEASE_S, 100, vectors=True) is None
