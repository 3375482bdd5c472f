"""Uploads that wait: each is claimed by one worker at a time, and none is forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from msgspec import structs

from arkway.core.errors import InvalidField
from arkway.core.knowledge import Change, Job
from arkway.ports.lookup import KnowledgeStore
from tests.contract.knowledge.conftest import OpenKnowledge
from tests.tools.shelf import collection, job

BOOK = collection()
BODY = bytes(range(256)) * 5


def claimed(store: KnowledgeStore, lease_s: int = 60, now_s: int = 100) -> Job:
    found = store.claim(lease_s, now_s)
    assert found is not None
    return found[0]


def test_a_job_is_claimed_with_what_it_brought(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    waiting = structs.replace(job(BOOK, "one"), meta={"url": "https://example.com/"})
    knowledge.submit(waiting, BODY)
    assert knowledge.job("one") == waiting
    found = knowledge.claim(60, 100)
    running = structs.replace(waiting, state="running", attempts=1, lease_until_s=160, updated_at=100)
    assert found == (running, BODY)
    assert knowledge.jobs(BOOK.id) == [running]
    assert knowledge.claim(60, 100) is None
    assert knowledge.job("missing") is None


def test_the_oldest_job_comes_first_and_the_newest_is_listed_first(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    for name in ("one", "two", "three"):
        knowledge.submit(job(BOOK, name), BODY)
    assert [claimed(knowledge).id for _ in range(3)] == ["one", "two", "three"]
    assert [one.id for one in knowledge.jobs(BOOK.id, 2)] == ["three", "two"]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_what_is_over_is_not_claimed_again_and_loses_its_body(knowledge: KnowledgeStore, state: str) -> None:
    knowledge.create(BOOK)
    knowledge.submit(job(BOOK, "one"), BODY)
    end = {"state": state, "error": "why", "document_id": "d", "change": Change(1, 2, 3), "updated_at": 200}
    finished = structs.replace(claimed(knowledge), **end)
    knowledge.finish(finished)
    assert knowledge.job("one") == structs.replace(finished, lease_until_s=0)
    assert knowledge.claim(60, 10_000) is None
    assert not knowledge.renew("one", 60, 210)


def test_a_job_that_waits_once_more_is_claimed_with_its_body(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    knowledge.submit(job(BOOK, "one"), BODY)
    knowledge.finish(structs.replace(claimed(knowledge), state="waiting", error="the model is away"))
    found = knowledge.claim(60, 101)
    assert found is not None
    assert (found[0].attempts, found[0].error, found[1]) == (2, "the model is away", BODY)


def test_a_lease_that_ends_is_taken_over_and_one_that_is_renewed_is_not(new_knowledge: OpenKnowledge) -> None:
    dead, alive = new_knowledge(), new_knowledge()
    dead.create(BOOK)
    dead.submit(job(BOOK, "one"), BODY)
    first = claimed(dead, 60, 100)
    assert dead.renew("one", 60, 150)
    assert alive.claim(60, 160) is None
    second = claimed(alive, 60, 210)
    assert (second.attempts, second.lease_until_s) == (2, 270)
    assert not dead.renew("one", 60, 220)
    dead.finish(structs.replace(first, state="failed", error="late"))
    assert alive.renew("one", 60, 220)
    alive.finish(structs.replace(second, state="done"))
    assert [(one.state, one.error) for one in dead.jobs(BOOK.id)] == [("done", "")]


def test_a_worker_that_nobody_has_replaced_may_renew_late(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    knowledge.submit(job(BOOK, "one"), BODY)
    claimed(knowledge, 60, 100)
    assert knowledge.renew("one", 60, 500)
    assert knowledge.claim(60, 510) is None


def test_each_job_is_claimed_by_one_of_many_workers(new_knowledge: OpenKnowledge) -> None:
    stores = [new_knowledge() for _ in range(3)]
    stores[0].create(BOOK)
    for number in range(30):
        stores[0].submit(job(BOOK, f"job-{number}"), BODY)
    together = Barrier(6)

    def work(number: int) -> list[str]:
        together.wait()
        mine: list[str] = []
        while (found := stores[number % 3].claim(60, 100)) is not None:
            mine.append(found[0].id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        claims = [name for mine in pool.map(work, range(6)) for name in mine]
    assert sorted(claims) == sorted(f"job-{number}" for number in range(30))


def test_jobs_go_with_their_collection(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    knowledge.submit(job(BOOK, "one"), BODY)
    running = claimed(knowledge)
    knowledge.submit(job(BOOK, "two"), BODY)
    knowledge.drop(BOOK.id)
    assert knowledge.jobs(BOOK.id) == []
    assert knowledge.claim(60, 10_000) is None
    assert not knowledge.renew("one", 60, 110)
    knowledge.finish(structs.replace(running, state="done"))
    with pytest.raises(InvalidField, match="does not exist"):
        knowledge.submit(job(BOOK, "three"), BODY)
