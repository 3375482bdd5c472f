"""Vectors of uploads: models that fail, refuse, answer nonsense or are replaced, and endpoints that are changed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from arkway.core.errors import ArkwayError, BackendFailed, BackendUnavailable, InvalidField, StoreUnavailable
from arkway.core.knowledge import Change, Collection, Hit, Job
from arkway.knowledge.embedding import BATCH, Embedding, embedded
from arkway.knowledge.fusion import self_test
from arkway.knowledge.holdings import CollectionChange, is_vectors_job
from arkway.knowledge.ingestion import Ingestion, Stage, Work
from arkway.knowledge.searching import Searching
from arkway.knowledge.sqlite_store import FtsIndex, SqliteDatabase, open_sqlite
from arkway.knowledge.store import SqlKnowledge
from arkway.knowledge.vectors import ExactVectors
from arkway.ports.lookup import KnowledgeStore
from tests.tools.waiting import PATIENCE_S
from tests.unit.knowledge.shelf import ENDPOINT, NOW_S, Shelf, shelf, worked_off

GUIDE = b"# Pumps\n\n## Warranty\n\nThe warranty lasts 24 months.\n\n## Noise\n\nA pump hums at 50 Hz.\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        made.holdings().create("manual", NOW_S, endpoint_id=ENDPOINT)
        yield made


class Model:
    """Two numbers for each text. ``trouble`` is called with every batch and may raise."""

    def __init__(self, name: str = "model-1", trouble: Callable[[Sequence[str]], None] = lambda _: None) -> None:
        self.name, self.trouble = name, trouble
        self.asked: list[str] = []
        self.vector = [1.0, 0.0]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.trouble(texts)
        self.asked += texts
        return [self.vector for _ in texts]

    def __call__(self, collection: Collection) -> Embedding:
        return Embedding(self.name, self.embed)


def sections(count: int) -> bytes:
    parts = (f"## Part {n}\n\nThe part{n} of series{n} fits pump{n}.\n" for n in range(count))
    return ("# Parts\n\n" + "\n".join(parts)).encode()


def upload(place: Shelf, body: bytes = GUIDE, source: str = "guide.md") -> Job:
    return place.holdings().upload("manual", source, body, NOW_S)


def worked(place: Shelf, model: Model, work: Work | None = None) -> list[Job]:
    return asyncio.run(worked_off(Ingestion(place.opened, model, work)))


def missing(place: Shelf) -> int:
    return len(place.store.without_vectors(place.holdings().show("manual").id, 100_000))


def near(place: Shelf, vector: Sequence[float]) -> list[Hit]:
    return place.store.near(place.holdings().show("manual").id, vector, 1000)


# Models that fail


@pytest.mark.parametrize(
    "vectors",
    [[[math.nan, 1.0]] * 2, [[math.inf, 1.0]] * 2, [[1.0, 0.0]], [[]] * 2, [[1.0], [1.0, 0.0]], [[1.0, 0.0]] * 3],
)
def test_a_model_that_answers_nonsense_leaves_no_document_out(place: Shelf, vectors: list[list[float]]) -> None:
    upload(place)

    class Nonsense(Model):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return vectors

    job = asyncio.run(Ingestion(place.opened, Nonsense()).step())
    assert job is not None
    assert (job.state, job.error) == ("done", "")
    assert place.holdings().search(["manual"], "warranty")[0].chunk.text == "The warranty lasts 24 months."
    assert missing(place) == 2


@pytest.mark.parametrize("error", [BackendUnavailable, StoreUnavailable], ids=["model", "ledger"])
def test_vectors_that_were_made_before_the_model_went_away_are_kept(place: Shelf, error: type[ArkwayError]) -> None:
    model = Model()

    def away(texts: Sequence[str]) -> None:
        if len(model.asked) >= BATCH:
            raise error("away")

    model.trouble = away
    upload(place, sections(BATCH + 8))
    job = asyncio.run(Ingestion(place.opened, model).step())
    assert job is not None
    assert job.state == "done"
    assert missing(place) == 8
    assert len(model.asked) == BATCH


def test_a_chunk_that_the_model_refuses_does_not_keep_the_others_out(place: Shelf) -> None:
    def too_long(texts: Sequence[str]) -> None:
        if any("part3 " in text for text in texts):
            raise InvalidField("the text is too long")

    upload(place, sections(6))
    done = worked(place, Model(trouble=too_long))
    assert {job.state for job in done} == {"done"}
    assert missing(place) == 0
    assert [hit.score > 0.5 for hit in near(place, [1.0, 0.0])] == [True] * 5 + [False]


def test_a_model_that_refuses_everything_has_made_no_vectors(place: Shelf) -> None:
    def refuse(_: Sequence[str]) -> None:
        raise InvalidField("there is no such model")

    upload(place)
    done = worked(place, Model(trouble=refuse))
    assert [(job.state, job.error) for job in done] == [("done", ""), ("failed", "there is no such model")]
    assert missing(place) == 2


def test_a_model_is_never_asked_for_more_than_a_batch(place: Shelf) -> None:
    sizes: list[int] = []
    upload(place, sections(80))
    worked(place, Model(trouble=lambda texts: sizes.append(len(texts))))
    assert max(sizes) == BATCH
    collection = place.holdings().show("manual")
    model = Model(trouble=lambda texts: sizes.append(len(texts)))
    assert asyncio.run(self_test(place.store, collection, model.embed, samples=50)).samples > BATCH
    assert max(sizes) == BATCH


@pytest.mark.parametrize("size", [0, 16_001])
def test_vectors_of_no_possible_size_are_a_failure_of_the_model(size: int) -> None:
    model = Model()
    model.vector = [1.0] * size
    with pytest.raises(BackendFailed):
        asyncio.run(embedded(model.embed, ["text"]))


# Large documents


def test_a_large_document_is_found_by_words_before_it_has_all_its_vectors(place: Shelf) -> None:
    model = Model()
    upload(place, sections(10))
    asyncio.run(Ingestion(place.opened, model, Work(vectors_at_once=4)).step())
    assert (missing(place), len(model.asked)) == (6, 4)
    assert place.holdings().search(["manual"], "part9")
    worked(place, model)
    assert missing(place) == 0


def test_a_job_that_makes_many_vectors_lets_uploads_come_in_between(place: Shelf) -> None:
    upload(place, sections(3 * BATCH))
    asyncio.run(worked_off(Ingestion(place.opened, None)))
    upload(place, source="second.md")
    left: dict[str, int] = {}

    def tell(job: Job, stage: Stage) -> None:
        if stage == "claimed":
            left[job.source] = missing(place)

    done = asyncio.run(worked_off(Ingestion(place.opened, Model(), Work(turn=2), told=tell)))
    assert [(is_vectors_job(job), job.state) for job in done] == [(True, "done"), (False, "done"), (True, "done")]
    assert left["second.md"] == BATCH
    assert missing(place) == 0


def test_a_worker_that_dies_right_after_it_has_put_a_document_in_leaves_the_vectors_to_the_next(
    place: Shelf, tmp_path: Path
) -> None:
    class Died(BaseException):
        pass

    class Dying(SqlKnowledge):
        def put_for(self, *told: Any) -> Change:
            super().put_for(*told)
            raise Died

    job = upload(place)
    dying = Dying(SqliteDatabase(tmp_path / "knowledge.db", busy_s=30), FtsIndex(), ExactVectors())
    with pytest.raises(Died):
        asyncio.run(Ingestion(lambda: dying, None).step())
    assert (place.holdings().job(job.id).state, missing(place)) == ("running", 2)
    later = Ingestion(place.opened, Model(), clock=lambda: time.time() + 10_000)
    assert {each.state for each in asyncio.run(worked_off(later))} == {"done"}
    assert place.holdings().job(job.id).change == Change(2, 0, 0)
    assert missing(place) == 0
    dying.close()


# Endpoints that are changed, models that are replaced


def test_an_endpoint_that_is_changed_while_a_file_is_read_stays_changed(place: Shelf) -> None:
    upload(place)

    def tell(_: Job, stage: Stage) -> None:
        if stage == "reading":
            place.holdings().update("manual", CollectionChange(endpoint_id="", description="new"), NOW_S)

    asyncio.run(Ingestion(place.opened, Model(), told=tell).step())
    now = place.holdings().show("manual")
    assert (now.endpoint_id, now.embedding_model, now.description, now.dimensions) == ("", "", "new", 0)
    assert missing(place) == 2


def rebound(place: Shelf) -> None:
    """As an owner who takes the endpoint away and names another one."""
    for endpoint_id in ("", ENDPOINT):
        place.holdings().update("manual", CollectionChange(endpoint_id=endpoint_id), NOW_S)


@pytest.mark.parametrize("quick", [False, True], ids=["one worker", "a quicker worker"])
@pytest.mark.parametrize("during", ["upload", "vectors job"])
def test_vectors_of_the_model_before_are_not_mixed_with_those_of_the_next(
    place: Shelf, tmp_path: Path, during: str, quick: bool
) -> None:
    """The endpoint is changed while the model before is at work, whose answer comes too late."""
    changed: list[str] = []
    second = Model("model-2")
    second.vector = [0.0, 1.0]

    def change(texts: Sequence[str]) -> None:
        if not changed:
            changed.extend(texts)
            rebound(place)
            if quick:
                in_another_process(tmp_path / "knowledge.db", second)

    upload(place, sections(2 * BATCH))
    if during == "vectors job":
        asyncio.run(worked_off(Ingestion(place.opened, None)))
        upload(place, sections(3), "waits.md")
    asyncio.run(Ingestion(place.opened, Model("model-1", change)).step())
    assert changed
    worked(place, second)
    found = near(place, [0.0, 1.0])
    assert len(found) == 2 * BATCH + 3 * (during == "vectors job")
    assert all(hit.score > 0.99 for hit in found)
    assert place.holdings().show("manual").embedding_model == "model-2"


def in_another_process(path: Path, model: Model) -> None:
    """Works every job off, as a process of its own would."""
    other = open_sqlite(path)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, worked_off(Ingestion(lambda: other, model))).result(PATIENCE_S)
    finally:
        other.close()


def test_a_model_that_is_replaced_under_its_name_has_its_vectors_made_anew(place: Shelf) -> None:
    upload(place)
    worked(place, Model())
    replaced = Model()
    replaced.vector = [0.0, 0.0, 1.0]
    upload(place, b"# More\n\nA valve is not a pump.\n", "more.md")
    assert {job.state for job in worked(place, replaced)} == {"done"}
    now = place.holdings().show("manual")
    assert (now.dimensions, missing(place), len(near(place, [0.0, 0.0, 1.0]))) == (3, 0, 3)
    assert place.holdings().search(["manual"], "valve")


# Questions


def vectorized(place: Shelf) -> Collection:
    upload(place)
    worked(place, Model())
    now = place.holdings().show("manual")
    place.store.change(structs.replace(now, vector_weight=0.5))
    return place.holdings().show("manual")


@pytest.mark.parametrize("vectors", [[], [[1.0, 0.0]] * 2, [[math.nan, 0.0]], [[1.0, 0.0, 0.0]]])
def test_a_model_that_answers_nonsense_leaves_the_words(place: Shelf, vectors: list[list[float]]) -> None:
    class Nonsense(Model):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return vectors

    collection = vectorized(place)
    hits = asyncio.run(Searching(place.opened, Nonsense()).search([collection], "warranty", 3))
    assert [hit.chunk.text for hit in hits] == ["The warranty lasts 24 months."]


async def test_a_ledger_that_takes_no_calls_leaves_the_words(place: Shelf) -> None:
    def full(_: Sequence[str]) -> None:
        raise StoreUnavailable("the ledger is full")

    collection = await asyncio.to_thread(vectorized, place)
    hits = await Searching(place.opened, Model(trouble=full)).search([collection], "warranty", 3)
    assert [hit.chunk.text for hit in hits] == ["The warranty lasts 24 months."]


async def test_words_that_fail_end_the_call_of_the_model(place: Shelf) -> None:
    collection = await asyncio.to_thread(vectorized, place)
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow(Model):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return []

    def opened() -> KnowledgeStore:
        place.store.close()
        return place.store

    with pytest.raises(StoreUnavailable):
        await Searching(opened, Slow()).search([collection], "warranty", 3)
    await asyncio.sleep(0)
    assert begun.is_set() is ended.is_set()
    assert len(asyncio.all_tasks()) == 1
