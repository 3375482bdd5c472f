"""Jobs that are put off, and jobs that are called off; whose collection a job is for."""

from __future__ import annotations

from msgspec import structs

from arkway.core.knowledge import Collection, Job
from arkway.ports.lookup import KnowledgeStore
from tests.contract.knowledge.conftest import OpenKnowledge

NOW_S = 1_700_000_000
LEASE_S = 60
OWNER = Collection(id="kb-1", account="acme", project="default", name="manual")


def submitted(store: KnowledgeStore, name: str = "job-1") -> Job:
    if store.by_id(OWNER.id) is None:
        assert store.create(OWNER)
    job = Job(id=name, collection_id=OWNER.id, source="a.md", file_name="a.md", size_bytes=3)
    store.submit(job, b"abc")
    return job


def claimed(store: KnowledgeStore, now_s: int = NOW_S) -> Job:
    found = store.claim(LEASE_S, now_s)
    assert found is not None
    assert found[1] == b"abc"
    return found[0]


def test_a_collection_is_found_by_its_id_alone(knowledge: KnowledgeStore) -> None:
    assert knowledge.by_id(OWNER.id) is None
    submitted(knowledge)
    found = knowledge.by_id(OWNER.id)
    assert found is not None
    assert (found.account, found.name) == ("acme", "manual")


def test_a_job_that_is_put_off_waits_for_its_moment_with_its_reason(knowledge: KnowledgeStore) -> None:
    submitted(knowledge)
    job = claimed(knowledge)
    knowledge.postpone(structs.replace(job, error="the model is away", updated_at=NOW_S), NOW_S + 10)
    waiting = knowledge.job(job.id)
    assert waiting is not None
    assert (waiting.state, waiting.error, waiting.attempts) == ("waiting", "the model is away", 1)
    assert knowledge.claim(LEASE_S, NOW_S + 9) is None
    assert claimed(knowledge, NOW_S + 10).attempts == 2


def test_one_that_is_put_off_lets_others_go_first(knowledge: KnowledgeStore) -> None:
    submitted(knowledge, "job-1")
    submitted(knowledge, "job-2")
    knowledge.postpone(claimed(knowledge), NOW_S + 10)
    assert claimed(knowledge).id == "job-2"


def test_a_worker_that_has_lost_its_job_cannot_put_it_off(new_knowledge: OpenKnowledge) -> None:
    slow, quick = new_knowledge(), new_knowledge()
    submitted(slow)
    late = claimed(slow)
    assert claimed(quick, NOW_S + LEASE_S).attempts == 2
    slow.postpone(late, NOW_S + 1000)
    now = quick.job(late.id)
    assert now is not None
    assert (now.state, now.attempts) == ("running", 2)


def test_a_job_that_is_called_off_is_over_for_its_worker(new_knowledge: OpenKnowledge) -> None:
    worker, owner = new_knowledge(), new_knowledge()
    submitted(worker)
    job = claimed(worker)
    assert owner.cancel(job.id, "it was called off", NOW_S + 1)
    assert not worker.renew(job.id, LEASE_S, NOW_S + 2)
    worker.finish(structs.replace(job, state="done"))
    now = owner.job(job.id)
    assert now is not None
    assert (now.state, now.error) == ("failed", "it was called off")
    assert owner.claim(LEASE_S, NOW_S + 10_000) is None


def test_one_that_waits_can_be_called_off_once(knowledge: KnowledgeStore) -> None:
    job = submitted(knowledge)
    assert knowledge.cancel(job.id, "no", NOW_S)
    assert not knowledge.cancel(job.id, "no", NOW_S)
    assert not knowledge.cancel("job-none", "no", NOW_S)
    assert knowledge.claim(LEASE_S, NOW_S) is None
