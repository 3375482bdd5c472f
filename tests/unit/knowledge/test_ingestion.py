"""Workers: what they take in, what they try again, what they give up, and what is left when they are killed."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from arkway.core.errors import BackendUnavailable, StoreUnavailable
from arkway.core.knowledge import Change, Collection, Job
from arkway.knowledge.chunking import chunk
from arkway.knowledge.embedding import Embedding
from arkway.knowledge.holdings import CollectionChange, is_vectors_job, vectors_job
from arkway.knowledge.identity import document_id
from arkway.knowledge.ingestion import ATTEMPTS, DEFECT, DIED, Ingestion, Stage, Work
from arkway.knowledge.parsing import Limits, parse
from arkway.knowledge.parsing.parsed import TITLE_LIMIT
from arkway.knowledge.sqlite_store import FtsIndex, SqliteDatabase, open_sqlite
from arkway.knowledge.store import SqlKnowledge
from arkway.knowledge.vectors import ExactVectors
from arkway.knowledge.words import analyzer
from arkway.ports.lookup import KnowledgeStore
from tests.tools.waiting import PATIENCE_S
from tests.unit.knowledge.shelf import ENDPOINT, NOW_S, Shelf, shelf, worked_off

ROOT = Path(__file__).resolve().parents[3]
GUIDE = b"# Pumps\n\n## Warranty\n\nThe warranty lasts 24 months.\n\n## Noise\n\nA pump hums at 50 Hz.\n"
LEASE_S = 60


class Clock:
    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        made.holdings().create("manual", NOW_S)
        yield made


def upload(place: Shelf, source: str = "guide.md", body: bytes = GUIDE) -> Job:
    return place.holdings().upload("manual", source.rpartition("/")[2], body, NOW_S, source=source)


class Model:
    """An embedding model: two numbers, by whether a text is about the warranty. ``away``: how often it fails."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.asked = away, list[str]()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.away:
            self.away -= 1
            raise BackendUnavailable("the model is away")
        self.asked += texts
        return [[1.0, 0.0] if "arranty" in text else [0.0, 1.0] for text in texts]

    def __call__(self, collection: Collection) -> Embedding:
        return Embedding("model-1", self.embed)


# What may pass


def test_what_may_pass_is_tried_again_later_and_then_given_up(place: Shelf) -> None:
    upload(place)
    clock = Clock()

    def away(_: Collection) -> Embedding:
        raise AssertionError

    class Broken(Ingestion):
        async def _taken_in(self, *_: object) -> None:  # type: ignore[override]
            raise BackendUnavailable("no process could be started")

    worker = Broken(place.opened, away, Work(backoff_s=10), clock=clock)

    async def steps() -> list[tuple[int, str, int]]:
        seen: list[tuple[int, str, int]] = []
        for wait_s in (0, 9, 1, 29, 1, 1000):
            clock.now_s += wait_s
            job = await worker.step()
            seen.append((wait_s, "" if job is None else job.state, 0 if job is None else job.attempts))
        return seen

    assert asyncio.run(steps()) == [
        (0, "waiting", 1),
        (9, "", 0),
        (1, "waiting", 2),
        (29, "", 0),
        (1, "failed", 3),
        (1000, "", 0),
    ]
    (job,) = place.holdings().jobs("manual")
    assert (job.state, job.error) == ("failed", "no process could be started")


def test_a_defect_is_for_the_log_and_a_sentence_for_the_owner(place: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    upload(place)
    clock = Clock()

    class Broken(Ingestion):
        async def _taken_in(self, *_: object) -> None:  # type: ignore[override]
            raise ZeroDivisionError("secret")

    worker = Broken(place.opened, None, clock=clock)
    for _ in range(ATTEMPTS):
        assert asyncio.run(worker.step()) is not None
        clock.now_s += 1000
    (job,) = place.holdings().jobs("manual")
    assert (job.state, job.error) == ("failed", DEFECT)
    assert "ZeroDivisionError" in caplog.text


def test_a_file_that_kills_its_workers_is_given_up(place: Shelf) -> None:
    upload(place)
    for died in range(ATTEMPTS):
        assert place.store.claim(LEASE_S, NOW_S + died * 1000) is not None
    clock = Clock()
    clock.now_s += ATTEMPTS * 1000
    job = asyncio.run(Ingestion(place.opened, None, clock=clock).step())
    assert job is not None
    assert (job.state, job.error) == ("failed", DIED)


def test_a_worker_that_is_stopped_gives_its_job_back(place: Shelf) -> None:
    job = upload(place)
    stopped: list[str] = []

    async def stop() -> None:
        task: asyncio.Task[Job | None]

        def tell(_: Job, stage: Stage) -> None:
            stopped.append(stage)
            if stage == "reading":
                asyncio.get_running_loop().call_soon(task.cancel)

        task = asyncio.create_task(Ingestion(place.opened, None, told=tell).step())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    assert stopped == ["claimed", "reading"]
    assert place.holdings().job(job.id).state == "waiting"
    assert [done.state for done in place.work_off()] == ["done"]


def test_a_job_that_is_called_off_puts_nothing_in(place: Shelf) -> None:
    job = upload(place)

    def tell(of: Job, stage: Stage) -> None:
        if stage == "reading":
            assert place.store.cancel(of.id, "it was called off", NOW_S)

    asyncio.run(worked_off(Ingestion(place.opened, None, told=tell)))
    assert place.holdings().job(job.id).state == "failed"
    assert place.holdings().documents("manual") == ([], 0)


def test_a_collection_that_is_deleted_meanwhile_costs_nothing(place: Shelf) -> None:
    upload(place)

    def tell(_: Job, stage: Stage) -> None:
        if stage == "reading":
            place.holdings().delete("manual")

    asyncio.run(worked_off(Ingestion(place.opened, None, told=tell)))
    assert place.holdings().list() == []


def test_an_older_upload_does_not_replace_a_newer_one(place: Shelf, tmp_path: Path) -> None:
    """Two workers at two uploads of one document: the first is slower."""
    upload(place, body=GUIDE)

    def tell(_: Job, stage: Stage) -> None:
        if stage == "writing":
            upload(place, body=GUIDE.replace(b"24", b"36"))
            assert in_another_process(tmp_path / "knowledge.db") == ["done"]

    job = asyncio.run(Ingestion(place.opened, None, told=tell).step())
    assert job is not None
    assert (job.state, job.change) == ("done", Change(0, 0, 0))
    assert place.work_off() == []
    assert place.holdings().search(["manual"], "warranty")[0].chunk.text == "The warranty lasts 36 months."


def in_another_process(path: Path) -> list[str]:
    """Works every job off, as a process of its own would; how they ended."""
    other = open_sqlite(path)
    try:
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(asyncio.run, worked_off(Ingestion(lambda: other, None)))
            return [job.state for job in working.result(PATIENCE_S)]
    finally:
        other.close()


def test_an_upload_is_not_lost_because_a_later_one_cannot_be_read(place: Shelf) -> None:
    upload(place)

    def tell(job: Job, stage: Stage) -> None:
        if stage == "reading" and not later:
            later.append(upload(place, body=b"\xff\xff is not text"))

    later: list[Job] = []
    done = asyncio.run(worked_off(Ingestion(place.opened, None, told=tell)))
    assert [job.state for job in done] == ["done", "failed"]
    assert place.holdings().search(["manual"], "warranty")[0].chunk.text == "The warranty lasts 24 months."


def test_a_job_that_is_called_off_at_the_last_moment_puts_nothing_in(place: Shelf) -> None:
    job = upload(place)

    def tell(of: Job, stage: Stage) -> None:
        if stage == "writing":
            assert place.store.cancel(of.id, "it was called off", NOW_S)

    asyncio.run(worked_off(Ingestion(place.opened, None, told=tell)))
    assert (place.holdings().job(job.id).state, place.holdings().documents("manual")) == ("failed", ([], 0))


def test_a_server_that_is_stopped_again_and_again_has_not_died(place: Shelf) -> None:
    job = upload(place)

    async def stop() -> None:
        task: asyncio.Task[Job | None]

        def tell(_: Job, stage: Stage) -> None:
            if stage == "reading":
                asyncio.get_running_loop().call_soon(task.cancel)

        task = asyncio.create_task(Ingestion(place.opened, None, told=tell).step())
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(ATTEMPTS + 2):
        asyncio.run(stop())
    assert (place.holdings().job(job.id).state, place.holdings().job(job.id).attempts) == ("waiting", 0)
    assert [done.state for done in place.work_off()] == ["done"]


def test_a_worker_that_is_stopped_while_it_claims_a_job_gives_it_back(place: Shelf, tmp_path: Path) -> None:
    job = upload(place)
    claiming, stopped = threading.Event(), threading.Event()

    class Slow(SqlKnowledge):
        def next_job(self, lease_s: int, now_s: int, *, vectors: bool) -> tuple[Job, bytes] | None:
            claiming.set()
            assert stopped.wait(PATIENCE_S)
            return super().next_job(lease_s, now_s, vectors=vectors)

    store = Slow(SqliteDatabase(tmp_path / "knowledge.db", busy_s=30), FtsIndex(), ExactVectors())

    async def stop() -> None:
        task = asyncio.create_task(Ingestion(lambda: store, None).step())
        assert await asyncio.to_thread(claiming.wait, PATIENCE_S)
        task.cancel()
        await asyncio.sleep(0)
        stopped.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    store.close()
    assert (place.holdings().job(job.id).state, place.holdings().job(job.id).attempts) == ("waiting", 0)


def test_a_worker_goes_on_after_what_nobody_has_thought_of(place: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    job = upload(place)
    opened = [0]

    def store() -> KnowledgeStore:
        opened[0] += 1
        if opened[0] == 1:
            raise ZeroDivisionError
        return place.store

    async def run() -> None:
        over = asyncio.Event()

        def tell(_: Job, stage: Stage) -> None:
            if stage == "over":
                over.set()

        working = asyncio.create_task(Ingestion(store, None, Work(poll_s=0.01), told=tell).run())
        await asyncio.wait_for(over.wait(), PATIENCE_S)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(run())
    assert place.holdings().job(job.id).state == "done"
    assert "ZeroDivisionError" in caplog.text


def test_the_event_loop_does_not_look_at_the_file(place: Shelf, tmp_path: Path) -> None:
    """Its digest takes a tenth of a second where it is large."""
    looked: set[int] = set()

    class Watched(bytes):
        def __len__(self) -> int:
            looked.add(threading.get_ident())
            return super().__len__()

    class Watching(SqlKnowledge):
        def next_job(self, lease_s: int, now_s: int, *, vectors: bool) -> tuple[Job, bytes] | None:
            found = super().next_job(lease_s, now_s, vectors=vectors)
            return found and (found[0], Watched(found[1]))

    upload(place)
    store = Watching(SqliteDatabase(tmp_path / "knowledge.db", busy_s=30), FtsIndex(), ExactVectors())
    assert [job.state for job in asyncio.run(worked_off(Ingestion(lambda: store, None)))] == ["done"]
    store.close()
    assert looked
    assert threading.get_ident() not in looked


def test_a_title_is_no_longer_than_titles_are(place: Shelf) -> None:
    place.holdings().upload("manual", "guide.md", GUIDE, NOW_S, meta={"title": "x" * 10_000})
    place.work_off()
    assert place.holdings().documents("manual")[0][0].title == "x" * TITLE_LIMIT


def test_an_index_of_another_analyzer_is_made_anew_before_words_of_two_kinds_are_in_it(
    place: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload(place, body="# 手册\n\n图书馆周一闭馆。\n".encode())
    place.work_off()
    with closing(sqlite3.connect(tmp_path / "knowledge.db")) as connection:
        connection.execute("UPDATE knowledge_collections SET analyzer = 'bigrams/0'")
        connection.execute("UPDATE knowledge_words_1 SET words = '甲乙'")
        connection.commit()
    assert place.holdings().search(["manual"], "图书馆") == []
    assert "indexed by bigrams/0" in caplog.text
    upload(place, "more.md")
    place.work_off()
    assert place.holdings().show("manual").analyzer == analyzer()
    assert place.holdings().search(["manual"], "图书馆")[0].chunk.text == "图书馆周一闭馆。"


def test_a_store_that_is_away_leaves_the_job_to_its_lease(place: Shelf) -> None:
    job = upload(place)

    class Broken(Ingestion):
        async def _taken_in(self, *_: object) -> None:  # type: ignore[override]
            raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        asyncio.run(Broken(place.opened, None, clock=Clock()).step())
    assert place.holdings().job(job.id).state == "running"
    clock = Clock()
    clock.now_s += LEASE_S + 1
    assert [each.state for each in asyncio.run(worked_off(Ingestion(place.opened, None, clock=clock)))] == ["done"]


def test_limits_are_the_parsers(place: Shelf) -> None:
    upload(place, body=GUIDE * 100)
    (job,) = asyncio.run(worked_off(place.ingestion(Work(limits=Limits(text_bytes=100)))))
    assert job.state == "failed"
    assert "split it" in job.error


# Vectors


def test_vectors_are_made_of_new_chunks_alone(place: Shelf) -> None:
    place.holdings().update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    model = Model()
    upload(place)
    asyncio.run(worked_off(Ingestion(place.opened, model)))
    assert [text.splitlines()[-1] for text in model.asked[:2]] == [
        "The warranty lasts 24 months.",
        "A pump hums at 50 Hz.",
    ]
    collection = place.holdings().show("manual")
    assert (collection.embedding_model, collection.dimensions) == ("model-1", 2)
    model.asked.clear()
    upload(place, body=GUIDE.replace(b"24", b"36"))
    asyncio.run(Ingestion(place.opened, model).step())
    assert [text.splitlines()[-1] for text in model.asked] == ["The warranty lasts 36 months."]


def test_a_model_that_is_away_leaves_no_document_out_and_is_asked_again(place: Shelf) -> None:
    place.holdings().update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    for job in place.holdings().jobs("manual"):
        place.holdings().cancel(job.id, NOW_S)
    upload(place)
    model = Model(away=1)
    done = asyncio.run(worked_off(Ingestion(place.opened, model)))
    assert [(job.state, is_vectors_job(job)) for job in done] == [("done", False), ("done", True)]
    collection = place.holdings().show("manual")
    assert place.store.without_vectors(collection.id, 10) == []


def test_a_worker_without_a_model_leaves_vectors_to_others(place: Shelf) -> None:
    place.holdings().update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    upload(place)
    clock = Clock()
    done = asyncio.run(worked_off(Ingestion(place.opened, None, clock=clock)))
    assert [(job.state, is_vectors_job(job)) for job in done] == [("done", False)]
    assert {(job.state, job.attempts) for job in place.holdings().jobs("manual") if is_vectors_job(job)} == {
        ("waiting", 0)
    }
    asyncio.run(worked_off(Ingestion(place.opened, Model(), clock=clock)))
    assert place.store.without_vectors(place.holdings().show("manual").id, 10) == []


def test_vectors_count_once_the_model_has_proven_itself(place: Shelf) -> None:
    """One that gives the same vector for everything finds nothing, and never counts."""
    holdings = place.holdings()
    holdings.update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    for number in range(40):
        text = f"# Part {number}\n\nbolt{number} nut{number} washer{number} of series{number} fit.\n"
        upload(place, f"part-{number}.md", text.encode())

    class Same(Model):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return [[1.0] * 40 for _ in texts]

    class Apart(Model):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return [[float(f"bolt{n}" in t.split() or f"nut{n}" in t.split()) for n in range(40)] for t in texts]

    asyncio.run(worked_off(Ingestion(place.opened, Same())))
    assert holdings.show("manual").vector_weight == 0
    holdings.update("manual", CollectionChange(endpoint_id=""), NOW_S)
    holdings.update("manual", CollectionChange(endpoint_id=ENDPOINT), NOW_S)
    asyncio.run(worked_off(Ingestion(place.opened, Apart(), Work(vector_weight=0.4))))
    assert holdings.show("manual").vector_weight == 0.4


def test_a_vectors_job_of_a_collection_without_an_endpoint_is_done_at_once(place: Shelf) -> None:
    place.store.submit(vectors_job(place.holdings().show("manual").id, NOW_S), b"")
    assert [job.state for job in asyncio.run(worked_off(Ingestion(place.opened, Model())))] == ["done"]


# Workers that die

PART = "\n\n".join(f"## Section {number}\n\n" + f"Word{number} and more of it. " * 40 for number in range(30))
BODIES = {f"part-{n}.md": f"# Part {n}\n\nThe number is code{n}x.\n\n{PART}\n".encode() for n in range(6)}


@contextmanager
def worker(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.unit.knowledge.ingesting", str(path), "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(lines: IO[str] | None) -> tuple[str, str]:
    assert lines is not None
    source, _, stage = lines.readline().strip().partition(" ")
    return source, stage


def killed_at(path: Path, victim: str, stage: str) -> None:
    """A worker runs until it says that this document is at that stage, and dies there."""
    with worker(path) as process:
        while told(process.stdout) != (victim, stage):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("stage", ["claimed", "reading", "writing", "over"])
def test_a_worker_killed_at_any_step_leaves_nothing_half_done(place: Shelf, tmp_path: Path, stage: str) -> None:
    """Two documents' workers die, then another one goes on once their leases have run out."""
    for source, body in BODIES.items():
        upload(place, source, body)
    path = tmp_path / "knowledge.db"
    for victim in ("part-0.md", "part-3.md"):
        killed_at(path, victim, stage)
        check_whole(place)
    with worker(path) as process:
        last = {job.id for job in place.holdings().jobs("manual") if job.state not in ("done", "failed")}
        while last:
            assert process.poll() is None
            if told(process.stdout)[1] == "over":
                last = {each for each in last if place.holdings().job(each).state not in ("done", "failed")}
    jobs = place.holdings().jobs("manual")
    assert {job.state for job in jobs} == {"done"}
    assert check_whole(place) == len(BODIES)
    for number in range(len(BODIES)):
        best = place.holdings().search(["manual"], f"code{number}x")[0]
        assert best.document.source == f"part-{number}.md"


def check_whole(place: Shelf) -> int:
    """Every document that is there has all of its chunks, which words find; how many there are."""
    holdings = place.holdings()
    collection = holdings.show("manual")
    found = list(holdings.every_document("manual"))
    for document in found:
        expected = chunk(
            parse(document.source, BODIES[document.source], Limits()), document_id(collection.id, document.source)
        )
        assert holdings.chunks(document.id) == expected
        assert document.chunks == len(expected)
        number = document.source.removeprefix("part-").removesuffix(".md")
        assert [hit.document.id for hit in holdings.search(["manual"], f"code{number}x")] == [document.id]
    return len(found)
