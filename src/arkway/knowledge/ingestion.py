"""Taking documents in: a worker claims a job, reads the file in a child process, cuts it, and puts it in as a whole.

A job is a worker's for the length of a lease, which it renews while it works. One that dies leaves the lease to run
out, and another worker begins with the job anew: until the one transaction that puts the document in, nothing of it is
there. What can pass by itself is tried again, later each time; what is wrong with the file is told to its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Literal, cast

import msgspec
from msgspec import structs

from arkway.core.errors import ArkwayError, CallerError, Misconfigured, PlatformError, Refused, StoreUnavailable
from arkway.core.knowledge import Change, Chunk, Collection, Document, Job
from arkway.knowledge.chunking import CHUNK_LIMIT
from arkway.knowledge.embedding import BATCH, Embedding, Embeddings, vectors_of
from arkway.knowledge.fusion import self_test
from arkway.knowledge.holdings import is_vectors_job, vectors_job
from arkway.knowledge.identity import document_id
from arkway.knowledge.intake import Intake, Lost
from arkway.knowledge.parsing import Cancelled, Limits, Parsed, Unreadable, chunks_in_child
from arkway.knowledge.parsing.kinds import stem_and_extension
from arkway.knowledge.parsing.parsed import TITLE_LIMIT
from arkway.knowledge.threads import in_thread
from arkway.knowledge.words import WITHOUT_RJIEBA, analyzer
from arkway.ports.lookup import KnowledgeStore

LEASE_S: Final = 60
ATTEMPTS: Final = 3
BACKOFF_S: Final = 10
"""The wait before the second attempt; the third one waits three times as long."""
BACKOFF_STEPS: Final = 4
VECTOR_ATTEMPTS: Final = 20
"""A model can be away for long, and nothing about the documents is wrong then."""
VECTORS_AT_ONCE: Final = 512
TURN: Final = 64
POLL_S: Final = 1.0
VECTOR_WEIGHT: Final = 0.5
REVISION: Final = 1
"""Counts the changes of parsing and chunking after which the same file gives other chunks."""

DEFECT: Final = "the server failed at it, and its log says how; upload it again, or tell the operator"
DIED: Final = (
    f"whoever read it has died {ATTEMPTS} times; split the file into several, or save it again in the program that "
    "made it"
)
GONE: Final = "the collection has been deleted"

Stage = Literal["claimed", "reading", "embedding", "writing", "over"]
Told = Callable[[Job, Stage], None]

log = logging.getLogger("arkway.knowledge")


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works. ``chunk_chars``: the most that one chunk has; times in seconds.

    ``vectors_at_once`` chunks of an upload get their vectors before it is put in. A job makes vectors in ``turn``
    batches; the next ones are another job's, so that uploads come in between.
    """

    chunk_chars: int = CHUNK_LIMIT
    vector_weight: float = VECTOR_WEIGHT
    limits: Limits = Limits()
    lease_s: int = LEASE_S
    backoff_s: int = BACKOFF_S
    poll_s: float = POLL_S
    vectors_at_once: int = VECTORS_AT_ONCE
    turn: int = TURN


class Ingestion:
    """One worker. Belongs to one event loop; whatever waits runs in threads. ``told`` hears of every step of a job."""

    def __init__(
        self,
        store: Callable[[], KnowledgeStore],
        embeddings: Embeddings | None = None,
        work: Work | None = None,
        *,
        clock: Callable[[], float] = time.time,
        told: Told = lambda *_: None,
    ) -> None:
        """``embeddings`` None = this worker makes no vectors and leaves them to others."""
        self._open, self._embeddings, self._work = store, embeddings, work or Work()
        self._clock, self._told = clock, told
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is a new job. For the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled, whatever comes up."""
        while True:
            try:
                if await self.step() is not None:
                    continue
            except ArkwayError as error:
                log.warning("documents cannot be taken in just now, and will be later: %s", error.message)
            except Exception:
                log.exception("documents cannot be taken in just now; the next attempt follows")
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._work.poll_s)

    async def step(self) -> Job | None:
        """Does the next job; as it is then, None where there is nothing to do. Raises StoreUnavailable."""
        store = cast(Intake, await in_thread(self._open))
        claimed = await self._claimed(store)
        if claimed is None:
            return None
        job, body = claimed
        self._told(job, "claimed")
        done = await self._done(store, job, body)
        self._told(done, "over")
        return done

    async def _claimed(self, store: Intake) -> tuple[Job, bytes] | None:
        """A worker that is stopped at this very moment gives the job back."""
        vectors = self._embeddings is not None
        look = in_thread(store.next_job, self._work.lease_s, self._now_s(), vectors=vectors)
        looking = asyncio.ensure_future(look)
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreUnavailable):
                if (claimed := await looking) is not None:
                    await self._given_back(store, claimed[0])
            raise

    async def _given_back(self, store: Intake, job: Job) -> None:
        await asyncio.shield(in_thread(store.give_back, self._at_end(job)))

    async def _done(self, store: Intake, job: Job, body: bytes) -> Job:
        try:
            if job.attempts > _most(job):
                return await self._failed(store, job, job.error or DIED)
            async with self._lease(store, job) as called_off:
                change = await self._taken_in(store, job, body, called_off)
            return await self._finished(store, structs.replace(job, state="done", error="", change=change))
        except (Lost, Cancelled):
            return await in_thread(store.job, job.id) or job
        except asyncio.CancelledError:
            # The server stops: another one, or this one later, goes on at once.
            await self._given_back(store, job)
            raise
        except StoreUnavailable:
            raise  # nothing can be written down; the lease runs out
        except ArkwayError as error:
            return await self._after(store, job, error)
        except Exception:
            log.exception("a document could not be taken in", extra={"job": job.id})
            return await self._again(store, job, DEFECT)

    async def _taken_in(self, store: Intake, job: Job, body: bytes, called_off: threading.Event) -> Change:
        collection = await in_thread(store.by_id, job.collection_id)
        if collection is None:
            raise _Gone
        if is_vectors_job(job):
            with contextlib.suppress(_Rebound):  # the change of the endpoint has handed in a job of its own
                await self._revised(store, job, collection)
            return Change(0, 0, 0)
        return await Upload(self, store, job, collection, called_off).taken_in(body)

    # How a job ends

    async def _after(self, store: Intake, job: Job, error: ArkwayError) -> Job:
        """What may pass is tried again."""
        if isinstance(error, Unreadable):
            if error.detail:
                log.info("a file could not be read: %s", error.detail, extra={"job": job.id})
            return await self._failed(store, job, error.message)
        passing = isinstance(error, PlatformError | Refused) and not isinstance(error, Misconfigured)
        return await (self._again if passing else self._failed)(store, job, error.message)

    async def _again(self, store: Intake, job: Job, error: str) -> Job:
        if job.attempts >= _most(job):
            return await self._failed(store, job, error)
        until_s = self._now_s() + self._work.backoff_s * 3 ** min(job.attempts - 1, BACKOFF_STEPS)
        waiting = self._at_end(job, state="waiting", error=error)
        await in_thread(store.postpone, waiting, until_s)
        return waiting

    async def _failed(self, store: Intake, job: Job, error: str) -> Job:
        return await self._finished(store, structs.replace(job, state="failed", error=error))

    async def _finished(self, store: Intake, job: Job) -> Job:
        ended = self._at_end(job)
        await in_thread(store.finish, ended)
        return ended

    def _at_end(self, job: Job, **end: object) -> Job:
        return structs.replace(job, **end, updated_at=self._now_s(), lease_until_s=0)

    @contextlib.asynccontextmanager
    async def _lease(self, store: Intake, job: Job) -> AsyncIterator[threading.Event]:
        """Renews the lease as long as the block runs; the event says that it was lost, or that the block has ended."""
        called_off = threading.Event()
        renewing = asyncio.create_task(self._renew(store, job, called_off))
        try:
            yield called_off
        finally:
            called_off.set()
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, store: Intake, job: Job, called_off: threading.Event) -> None:
        while True:
            await asyncio.sleep(self._work.lease_s / 4)
            try:
                kept = await in_thread(store.renew, job.id, self._work.lease_s, self._now_s())
            except StoreUnavailable:
                continue  # it may come back before the lease runs out; nothing is written without it
            if not kept:
                called_off.set()
                return

    async def kept(self, store: Intake, job: Job) -> None:
        """Raises Lost unless the job is this worker's for as long again as a lease."""
        if not await in_thread(store.renew, job.id, self._work.lease_s, self._now_s()):
            raise Lost

    # Vectors

    def embedding(self, collection: Collection) -> Embedding | None:
        """None where vectors are not this worker's. Raises errors of the tree."""
        if not collection.endpoint_id or self._embeddings is None:
            return None
        return self._embeddings(collection)

    async def _revised(self, store: Intake, job: Job, collection: Collection) -> None:
        """Makes vectors that are missing, a job's turn of them; when there are all, finds out whether they may count.

        Raises _Rebound, Lost, errors of the tree.
        """
        embedding = self.embedding(collection)
        if embedding is None:
            return
        collection = await self.of_model(store, collection, embedding.model)
        for _ in range(self._work.turn):
            missing = await in_thread(store.without_vectors, collection.id, BATCH)
            if not missing:
                await self._proven(store, collection, embedding)
                return
            vectors = await vectors_of(embedding, missing)
            await self.kept(store, job)
            collection = await self._fitting(store, collection, vectors)
            await in_thread(store.add_vectors, collection.id, vectors)
        await in_thread(self.look_after_vectors, store, collection)

    def look_after_vectors(self, store: Intake, collection: Collection) -> None:
        """By one job behind all uploads that wait. Blocks."""
        jobs = store.jobs(collection.id, 1000)
        if not any(is_vectors_job(each) and each.state == "waiting" for each in jobs):
            store.submit(vectors_job(collection.id, self._now_s()), b"")

    async def _proven(self, store: Intake, collection: Collection, embedding: Embedding) -> None:
        """Lets vectors count if the model finds about as much by them as words do."""
        if not collection.vector_weight:
            test = await self_test(store, collection, embedding.embed)
            log.info("the collection %s: %s", collection.name, test)
            if test.passed:
                await self._weighted(store, collection)

    async def of_model(self, store: Intake, collection: Collection, model: str) -> Collection:
        """The collection as one whose vectors are this model's; those of another one are deleted. Raises _Rebound."""
        if collection.embedding_model == model:
            return collection
        now = await in_thread(store.by_id, collection.id)
        if now is None or now.endpoint_id != collection.endpoint_id:
            raise _Rebound
        changed = structs.replace(now, embedding_model=model, dimensions=0, vector_weight=0.0)
        await in_thread(store.change, changed)
        return changed

    async def _fitting(self, store: Intake, before: Collection, vectors: Mapping[str, array[float]]) -> Collection:
        """The collection as it is now, ready for these vectors: those of another size are deleted. Raises _Rebound."""
        now = await self.same(store, before)
        size = len(next(iter(vectors.values())))
        if now.dimensions not in (0, size):
            log.warning("the model %s has been replaced under its name: its vectors are made anew", now.embedding_model)
            now = structs.replace(now, dimensions=size, vector_weight=0.0)
            await in_thread(store.change, now)
        return now

    async def same(self, store: Intake, before: Collection) -> Collection:
        """The collection as it is now. Raises _Rebound where its vectors are another model's meanwhile."""
        now = await in_thread(store.by_id, before.id)
        if now is None or (now.endpoint_id, now.embedding_model) != (before.endpoint_id, before.embedding_model):
            raise _Rebound
        return now

    async def _weighted(self, store: Intake, collection: Collection) -> None:
        """Lets vectors count, unless the collection's endpoint has been changed meanwhile."""
        now = await in_thread(store.by_id, collection.id)
        same = (collection.endpoint_id, collection.embedding_model)
        if now is not None and (now.endpoint_id, now.embedding_model) == same:
            await in_thread(store.change, structs.replace(now, vector_weight=self._work.vector_weight))

    # For `Upload`

    @property
    def work(self) -> Work:
        return self._work

    def tell(self, job: Job, stage: Stage) -> None:
        self._told(job, stage)

    def _now_s(self) -> int:
        return int(self._clock())

    now_s = _now_s


class Upload:
    """One document on its way in."""

    def __init__(
        self, worker: Ingestion, store: Intake, job: Job, collection: Collection, called_off: threading.Event
    ) -> None:
        self._worker, self._store, self._job = worker, store, job
        self._collection, self._called_off = collection, called_off
        self._id = document_id(collection.id, job.source)
        self._incomplete = False

    async def taken_in(self, body: bytes) -> Change:
        """Raises errors of the tree, Cancelled, Lost. The same content again changes nothing."""
        job, work = self._job, self._worker.work
        known = await in_thread(fingerprint, body, job.file_name, work.chunk_chars, job.meta)
        before = await in_thread(self._store.document, self._id)
        if before is not None and before.content_hash == known:
            if job.change is None:
                return Change(0, before.chunks, 0)
            self._incomplete = True  # a worker has put it in and died; what was to follow may not have followed
            await in_thread(self._follow)
            return job.change
        self._worker.tell(job, "reading")
        document, chunks = await in_thread(self._read, body, known)
        vectors = await self._vectors(chunks)
        await self._worker.kept(self._store, job)
        self._worker.tell(job, "writing")
        await in_thread(self._reindexed)
        change = await in_thread(self._store.put_for, job, document, chunks, vectors)
        await in_thread(self._follow)
        return change

    def _read(self, body: bytes, known: str) -> tuple[Document, Sequence[Chunk]]:
        job, work = self._job, self._worker.work
        parsed, chunks = chunks_in_child(
            job.file_name, body, self._id, work.limits, chunk_limit=work.chunk_chars, cancelled=self._called_off
        )
        return self._document(parsed, len(chunks), len(body), known), chunks

    def _document(self, parsed: Parsed, chunks: int, size_bytes: int, known: str) -> Document:
        job, now_s = self._job, self._worker.now_s()
        stem, extension = stem_and_extension(job.file_name)
        given = job.meta.get("url")
        return Document(
            id=self._id,
            collection_id=self._collection.id,
            source=job.source,
            name=stem,
            type="url" if given else extension,
            title=(job.meta.get("title") or parsed.title)[:TITLE_LIMIT],
            content_hash=known,
            size_bytes=size_bytes,
            chunks=chunks,
            meta={**parsed.meta, **job.meta},
            created_at=now_s,
            updated_at=now_s,
        )

    async def _vectors(self, chunks: Sequence[Chunk]) -> Mapping[str, array[float]]:
        """Of chunks that are new, as far as there are any. A model that fails is no reason to leave a document out."""
        worker = self._worker
        found: dict[str, array[float]] = {}
        self._incomplete = True
        try:
            embedding = worker.embedding(self._collection)
            if embedding is None:
                return {}
            self._collection = await worker.of_model(self._store, self._collection, embedding.model)
            there = {each.id for each in await in_thread(self._store.chunks, self._id)}
            worker.tell(self._job, "embedding")
            new = [each for each in chunks if each.id not in there]
            at_once = new[: worker.work.vectors_at_once]
            for start in range(0, len(at_once), BATCH):
                found |= await vectors_of(embedding, at_once[start : start + BATCH])
            self._incomplete = len(at_once) < len(new)
        except StoreUnavailable:
            raise
        except ArkwayError as error:
            log.warning("no more vectors for now: %s", error.message, extra={"job": self._job.id})
        return await self._usable(found)

    async def _usable(self, vectors: Mapping[str, array[float]]) -> Mapping[str, array[float]]:
        """Those vectors, if they can stand beside what the collection has now: its model's, and all of one size."""
        if not vectors:
            return vectors
        with contextlib.suppress(_Rebound):
            self._collection = await self._worker.same(self._store, self._collection)
            sizes = {len(vector) for vector in vectors.values()}
            if len(sizes) == 1 and self._collection.dimensions in (0, *sizes):
                return vectors
        self._incomplete = True
        return {}

    def _reindexed(self) -> None:
        """No index has words of two kinds: what another analyzer made is made anew, but never by a worse one."""
        now = self._store.by_id(self._collection.id)
        if now is not None and now.analyzer != analyzer() != WITHOUT_RJIEBA:
            log.info("the collection %s is indexed anew: %s, and %s before", now.id, analyzer(), now.analyzer)
            self._store.reindex(now.id)

    def _follow(self) -> None:
        """Vectors that are missing, or not proven yet, are another job's."""
        now = self._store.by_id(self._collection.id)
        if now is not None and now.endpoint_id and (self._incomplete or not now.vector_weight):
            self._worker.look_after_vectors(self._store, now)


def _most(job: Job) -> int:
    """How often it is tried."""
    return VECTOR_ATTEMPTS if is_vectors_job(job) else ATTEMPTS


class _Gone(CallerError):
    def __init__(self) -> None:
        super().__init__(GONE)


class _Rebound(Refused):
    """The collection has got another endpoint or model while vectors were being made."""

    def __init__(self) -> None:
        super().__init__("the collection's embedding endpoint has been changed meanwhile")


def fingerprint(body: bytes, file_name: str, chunk_chars: int, meta: Mapping[str, str] | None = None) -> str:
    """What tells whether a document would become any different: its content, what it is, and how it is cut."""
    told = msgspec.json.encode(
        (REVISION, chunk_chars, stem_and_extension(file_name), sorted((meta or {}).items()), len(body))
    )
    digest = hashlib.blake2b(told, digest_size=16)
    digest.update(body)
    return digest.hexdigest()
