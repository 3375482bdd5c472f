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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec import structs

from arkway.core.errors import ArkwayError, CallerError, Misconfigured, PlatformError, Refused, StoreUnavailable
from arkway.core.knowledge import Change, Chunk, Collection, Document, Job
from arkway.knowledge.chunking import CHUNK_LIMIT
from arkway.knowledge.embedding import BATCH, Embedding, Embeddings, vectors_of
from arkway.knowledge.fusion import self_test
from arkway.knowledge.holdings import is_vectors_job, vectors_job
from arkway.knowledge.identity import document_id
from arkway.knowledge.parsing import Cancelled, Limits, Parsed, Unreadable, chunks_in_child
from arkway.knowledge.parsing.kinds import stem_and_extension
from arkway.ports.lookup import KnowledgeStore

LEASE_S: Final = 60
ATTEMPTS: Final = 3
BACKOFF_S: Final = 10
"""The wait before the second attempt; the third one waits three times as long."""
BACKOFF_STEPS: Final = 4
VECTOR_ATTEMPTS: Final = 20
"""A model can be away for long, and nothing about the documents is wrong then."""
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
    """How a worker works. ``chunk_chars``: the most that one chunk has; times in seconds."""

    chunk_chars: int = CHUNK_LIMIT
    vector_weight: float = VECTOR_WEIGHT
    limits: Limits = Limits()
    lease_s: int = LEASE_S
    backoff_s: int = BACKOFF_S
    poll_s: float = POLL_S


class Lost(Exception):
    """The job is not this worker's any more: called off, or taken over by another one."""


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
        """Works until it is cancelled."""
        while True:
            try:
                if await self.step() is not None:
                    continue
            except ArkwayError as error:
                log.warning("documents cannot be taken in just now, and will be later: %s", error.message)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._work.poll_s)

    async def step(self) -> Job | None:
        """Does the next job; as it is then, None where there is nothing to do. Raises StoreUnavailable."""
        store = await asyncio.to_thread(self._open)
        claimed = await asyncio.to_thread(store.claim, self._work.lease_s, self._now_s())
        if claimed is None:
            return None
        job, body = claimed
        self._told(job, "claimed")
        done = await self._done(store, job, body)
        self._told(done, "over")
        return done

    async def _done(self, store: KnowledgeStore, job: Job, body: bytes) -> Job:
        try:
            if job.attempts > _most(job):
                return await self._failed(store, job, job.error or DIED)
            async with self._lease(store, job) as called_off:
                change = await self._taken_in(store, job, body, called_off)
            return await self._finished(store, structs.replace(job, state="done", error="", change=change))
        except (Lost, Cancelled):
            return await asyncio.to_thread(store.job, job.id) or job
        except asyncio.CancelledError:
            # The server stops: another one, or this one later, goes on at once.
            await asyncio.shield(asyncio.to_thread(store.finish, self._at_end(job, state="waiting")))
            raise
        except StoreUnavailable:
            raise  # nothing can be written down; the lease runs out
        except ArkwayError as error:
            return await self._after(store, job, error)
        except Exception:
            log.exception("a document could not be taken in", extra={"job": job.id})
            return await self._again(store, job, DEFECT)

    async def _taken_in(self, store: KnowledgeStore, job: Job, body: bytes, called_off: threading.Event) -> Change:
        collection = await asyncio.to_thread(store.by_id, job.collection_id)
        if collection is None:
            raise _Gone
        if is_vectors_job(job):
            await self._revised(store, job, collection)
            return Change(0, 0, 0)
        return await Upload(self, store, job, collection, called_off).taken_in(body)

    # How a job ends

    async def _after(self, store: KnowledgeStore, job: Job, error: ArkwayError) -> Job:
        """What may pass is tried again."""
        if isinstance(error, Unreadable):
            if error.detail:
                log.info("a file could not be read: %s", error.detail, extra={"job": job.id})
            return await self._failed(store, job, error.message)
        passing = isinstance(error, PlatformError | Refused) and not isinstance(error, Misconfigured)
        return await (self._again if passing else self._failed)(store, job, error.message)

    async def _again(self, store: KnowledgeStore, job: Job, error: str) -> Job:
        if job.attempts >= _most(job):
            return await self._failed(store, job, error)
        until_s = self._now_s() + self._work.backoff_s * 3 ** min(job.attempts - 1, BACKOFF_STEPS)
        waiting = self._at_end(job, state="waiting", error=error)
        await asyncio.to_thread(store.postpone, waiting, until_s)
        return waiting

    async def _failed(self, store: KnowledgeStore, job: Job, error: str) -> Job:
        return await self._finished(store, structs.replace(job, state="failed", error=error))

    async def _finished(self, store: KnowledgeStore, job: Job) -> Job:
        ended = self._at_end(job)
        await asyncio.to_thread(store.finish, ended)
        return ended

    def _at_end(self, job: Job, **end: object) -> Job:
        return structs.replace(job, **end, updated_at=self._now_s(), lease_until_s=0)

    @contextlib.asynccontextmanager
    async def _lease(self, store: KnowledgeStore, job: Job) -> AsyncIterator[threading.Event]:
        """Renews the lease as long as the block runs; the event says that it was lost, or that the block has ended."""
        called_off = threading.Event()
        renewing = asyncio.create_task(self._renew(store, job, called_off))
        try:
            yield called_off
        finally:
            called_off.set()
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, store: KnowledgeStore, job: Job, called_off: threading.Event) -> None:
        while True:
            await asyncio.sleep(self._work.lease_s / 4)
            try:
                kept = await asyncio.to_thread(store.renew, job.id, self._work.lease_s, self._now_s())
            except StoreUnavailable:
                continue  # it may come back before the lease runs out; nothing is written without it
            if not kept:
                called_off.set()
                return

    async def kept(self, store: KnowledgeStore, job: Job) -> None:
        """Raises Lost unless the job is this worker's for as long again as a lease."""
        if not await asyncio.to_thread(store.renew, job.id, self._work.lease_s, self._now_s()):
            raise Lost

    # Vectors

    def embedding(self, collection: Collection) -> Embedding | None:
        """None where vectors are not this worker's. Raises errors of the tree."""
        if not collection.endpoint_id or self._embeddings is None:
            return None
        return self._embeddings(collection)

    async def _revised(self, store: KnowledgeStore, job: Job, collection: Collection) -> None:
        """Makes the vectors that are missing; if the model has not proven itself here, finds out whether it does."""
        embedding = self.embedding(collection)
        if embedding is None:
            if collection.endpoint_id:
                raise _NotMine
            return
        collection = await self.of_model(store, collection, embedding.model)
        while missing := await asyncio.to_thread(store.without_vectors, collection.id, BATCH):
            vectors = await vectors_of(embedding, missing)
            await self.kept(store, job)
            await asyncio.to_thread(store.add_vectors, collection.id, vectors)
        if not collection.vector_weight:
            test = await self_test(store, collection, embedding.embed)
            log.info("the collection %s: %s", collection.name, test)
            if test.passed:
                await self._weighted(store, collection)

    async def of_model(self, store: KnowledgeStore, collection: Collection, model: str) -> Collection:
        """The collection as one whose vectors are this model's; those of another one are deleted."""
        if collection.embedding_model == model:
            return collection
        changed = structs.replace(collection, embedding_model=model, dimensions=0, vector_weight=0.0)
        await asyncio.to_thread(store.change, changed)
        return changed

    async def _weighted(self, store: KnowledgeStore, collection: Collection) -> None:
        """Lets vectors count, unless the collection's endpoint has been changed meanwhile."""
        now = await asyncio.to_thread(store.by_id, collection.id)
        same = (collection.endpoint_id, collection.embedding_model)
        if now is not None and (now.endpoint_id, now.embedding_model) == same:
            await asyncio.to_thread(store.change, structs.replace(now, vector_weight=self._work.vector_weight))

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
        self, worker: Ingestion, store: KnowledgeStore, job: Job, collection: Collection, called_off: threading.Event
    ) -> None:
        self._worker, self._store, self._job = worker, store, job
        self._collection, self._called_off = collection, called_off
        self._id = document_id(collection.id, job.source)
        self._incomplete = False

    async def taken_in(self, body: bytes) -> Change:
        """Raises errors of the tree, Cancelled, Lost. The same content again changes nothing."""
        job, work = self._job, self._worker.work
        known = fingerprint(body, job.file_name, work.chunk_chars, job.meta)
        before = await asyncio.to_thread(self._store.document, self._id)
        if before is not None and before.content_hash == known:
            return Change(0, before.chunks, 0)
        self._worker.tell(job, "reading")
        document, chunks = await asyncio.to_thread(self._read, body, known)
        vectors = await self._vectors(chunks)
        await self._worker.kept(self._store, job)
        if await asyncio.to_thread(self._is_superseded):
            return Change(0, 0, 0)
        self._worker.tell(job, "writing")
        change = await asyncio.to_thread(self._store.put, document, chunks, vectors)
        if self._collection.endpoint_id and (self._incomplete or not self._collection.vector_weight):
            await asyncio.to_thread(self._follow)
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
            title=job.meta.get("title") or parsed.title,
            content_hash=known,
            size_bytes=size_bytes,
            chunks=chunks,
            meta={**parsed.meta, **job.meta},
            created_at=now_s,
            updated_at=now_s,
        )

    async def _vectors(self, chunks: Sequence[Chunk]) -> Mapping[str, Sequence[float]]:
        """Of chunks that are new. A model that does not answer is no reason to leave the document out."""
        try:
            embedding = self._worker.embedding(self._collection)
            if embedding is None:
                self._incomplete = True
                return {}
            self._collection = await self._worker.of_model(self._store, self._collection, embedding.model)
            there = {each.id for each in await asyncio.to_thread(self._store.chunks, self._id)}
            self._worker.tell(self._job, "embedding")
            return await vectors_of(embedding, [each for each in chunks if each.id not in there])
        except (StoreUnavailable, Lost):
            raise
        except ArkwayError as error:
            log.warning("no vectors for now: %s", error.message, extra={"job": self._job.id})
            self._incomplete = True
            return {}

    def _is_superseded(self) -> bool:
        """Whether a newer upload of the same document is there: jobs of several workers may overtake each other."""
        for each in self._store.jobs(self._collection.id, 1000):
            if each.id == self._job.id:
                return False
            if each.source == self._job.source and each.state != "failed":
                return True
        return False

    def _follow(self) -> None:
        """One job behind all uploads that wait looks after vectors that are missing, or not proven yet."""
        jobs = self._store.jobs(self._collection.id, 1000)
        if not any(is_vectors_job(each) and each.state == "waiting" for each in jobs):
            self._store.submit(vectors_job(self._collection.id, self._worker.now_s()), b"")


def _most(job: Job) -> int:
    """How often it is tried."""
    return VECTOR_ATTEMPTS if is_vectors_job(job) else ATTEMPTS


class _Gone(CallerError):
    def __init__(self) -> None:
        super().__init__(GONE)


class _NotMine(Refused):
    """The vectors are a server's to make."""

    def __init__(self) -> None:
        super().__init__("the vectors are made by a running server")


def fingerprint(body: bytes, file_name: str, chunk_chars: int, meta: Mapping[str, str] | None = None) -> str:
    """What tells whether a document would become any different: its content, what it is, and how it is cut."""
    told = msgspec.json.encode(
        (REVISION, chunk_chars, stem_and_extension(file_name), sorted((meta or {}).items()), len(body))
    )
    return hashlib.blake2b(told + body, digest_size=16).hexdigest()
