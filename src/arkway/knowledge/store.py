"""The store of knowledge over a database and its indices; see `arkway.ports.lookup.KnowledgeStore`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from arkway.core.errors import InvalidField, Overloaded
from arkway.core.knowledge import Change, Chunk, Collection, Document, Hit, Job
from arkway.knowledge import jobs, shelves
from arkway.knowledge.coverage import HITS, bm25, coverage, rarest, weights
from arkway.knowledge.indexing import Cutting, label
from arkway.knowledge.intake import Lost
from arkway.knowledge.parsing.parsed import shown_mib
from arkway.knowledge.sql import Counted, Database, Session, VectorIndex, WordIndex
from arkway.knowledge.vectors import dimensions, unit
from arkway.knowledge.words import analyzer, terms

TERMS: Final = 24
"""Words of a question that are looked up: the rarest ones of a long question."""
WAITING_BYTES: Final = 4 * 1024**3
RETRY_S: Final = 30.0
CONSIDERED: Final = 500
"""Different words of a question that are considered at all: counting each takes a look into the index."""


class SqlKnowledge:
    """Implements `KnowledgeStore` and `Intake`; safe for several threads. ``claiming`` ends the query for a free job.
    A project's files that wait have ``waiting_bytes`` at most, so that none of them fills the disk: Overloaded.

    A collection's ``analyzer`` is the store's to write: what is in `Collection` when it is made or changed does not
    matter. Nor do the ``dimensions``, as long as they are 0: the first vectors decide. What is put into a collection
    that does not exist, and vectors of other dimensions than a collection has, raise InvalidField.
    """

    def __init__(
        self,
        database: Database,
        word_index: WordIndex,
        vector_index: VectorIndex,
        claiming: str = "",
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self._database, self._words, self._vectors = database, word_index, vector_index
        self._claiming, self._waiting_bytes = claiming, waiting_bytes
        self._claims: dict[str, int] = {}
        self._served: frozenset[str] = frozenset()

    def close(self) -> None:
        self._database.close()

    # Collections

    def create(self, collection: Collection) -> bool:
        with self._database.writing() as session:
            number = shelves.add_collection(session, structs.replace(collection, analyzer=analyzer()))
            if number is not None:
                self._words.make(session, number)
        return number is not None

    def change(self, collection: Collection) -> bool:
        """Vectors of another model than the collection now has are deleted."""
        with self._database.writing() as session:
            before = shelves.collection_by_id(session, collection.id)
            if before is None:
                return False
            other = _has_other_vectors(before, collection)
            if other:
                shelves.vectors_dropped(session, shelves.taken(session, collection.id))
            kept = 0 if other else before.dimensions
            shelves.change_collection(session, structs.replace(collection, dimensions=collection.dimensions or kept))
        return True

    def drop(self, collection_id: str) -> bool:
        with self._database.writing() as session:
            number = shelves.touched(session, collection_id)
            if number is None:
                return False
            shelves.drop_collection(session, number)
            self._words.drop(session, number)
        return True

    def collections(self, account: str, project: str = "") -> list[Collection]:
        with self._database.reading() as session:
            return shelves.collections(session, account, project)

    def collection(self, account: str, project: str, name: str) -> Collection | None:
        with self._database.reading() as session:
            return shelves.collection_named(session, account, project, name)

    def by_id(self, collection_id: str) -> Collection | None:
        with self._database.reading() as session:
            return shelves.collection_by_id(session, collection_id)

    # Documents

    def documents(self, collection_id: str, offset: int = 0, limit: int = 100) -> tuple[list[Document], int]:
        with self._database.reading() as session:
            return shelves.documents(session, collection_id, offset, limit)

    def document(self, document_id: str) -> Document | None:
        with self._database.reading() as session:
            return shelves.document(session, document_id)

    def chunks(self, document_id: str) -> list[Chunk]:
        with self._database.reading() as session:
            return shelves.chunks(session, document_id)

    def chunk(self, chunk_id: str) -> Chunk | None:
        with self._database.reading() as session:
            return shelves.chunk(session, chunk_id)

    def put(self, document: Document, chunks: Sequence[Chunk], vectors: Mapping[str, Sequence[float]]) -> Change:
        """The words of a chunk that was there already are cut again only where the document's title has changed."""
        units = {chunk_id: unit(vector) for chunk_id, vector in vectors.items()}
        cutting = self._prepared(document, chunks)
        with self._database.writing() as session:
            number = shelves.taken(session, document.collection_id)
            return self._put(session, number, document, chunks, units, cutting)

    def put_for(
        self, job: Job, document: Document, chunks: Sequence[Chunk], vectors: Mapping[str, Sequence[float]]
    ) -> Change:
        units = {chunk_id: unit(vector) for chunk_id, vector in vectors.items()}
        cutting = self._prepared(document, chunks)
        with self._database.writing() as session:
            number = shelves.taken(session, document.collection_id)  # nobody else puts anything in from here on
            if jobs.is_outdone(session, job):
                return Change(0, 0, 0)
            change = self._put(session, number, document, chunks, units, cutting)
            if not jobs.note(session, job, change):
                raise Lost
        return change

    def _put(
        self,
        session: Session,
        number: int,
        document: Document,
        chunks: Sequence[Chunk],
        units: Mapping[str, bytes],
        cutting: Cutting,
    ) -> Change:
        before = shelves.document(session, document.id)
        kept = shelves.kept_chunks(session, document.id)
        shelves.put_document(session, structs.replace(document, chunks=len({chunk.id for chunk in chunks})))
        change = self._changed(session, number, kept, chunks, cutting, label(document))
        if before is not None and label(before) != label(document):
            again = [chunk for chunk in chunks if chunk.id in kept]
            self._reindexed(session, number, again, cutting, label(document))
        self._vectors_added(session, number, document.collection_id, units)
        return change

    def remove(self, document_id: str) -> bool:
        with self._database.writing() as session:
            document = shelves.document(session, document_id)
            number = shelves.touched(session, document.collection_id) if document else None
            if number is None:
                return False
            kept = shelves.kept_chunks(session, document_id)
            self._words.remove(session, number, [chunk.number for chunk in kept.values()])
            shelves.remove_document(session, document_id)
        return True

    def _prepared(self, document: Document, chunks: Sequence[Chunk]) -> Cutting:
        """Words of what is most likely new, cut outside the transaction that puts it in."""
        with self._database.reading() as session:
            before = shelves.document(session, document.id)
            kept = shelves.kept_chunks(session, document.id)
        cutting, named = Cutting(), label(document)
        same = before is not None and label(before) == named
        cutting.prepare((chunk for chunk in chunks if not same or chunk.id not in kept), named)
        return cutting

    def _changed(
        self,
        session: Session,
        number: int,
        kept: Mapping[str, shelves.Kept],
        chunks: Sequence[Chunk],
        cutting: Cutting,
        named: str,
    ) -> Change:
        """What is not there any more goes, what is new comes, what has moved gets its new place."""
        wanted = {chunk.id: chunk for chunk in chunks}
        gone = [chunk.number for chunk_id, chunk in kept.items() if chunk_id not in wanted]
        self._words.remove(session, number, gone)
        shelves.remove_chunks(session, gone)
        new = [chunk for chunk_id, chunk in wanted.items() if chunk_id not in kept]
        shelves.add_chunks(session, number, new)
        self._indexed(session, number, new, cutting, named)
        stay = {chunk_id: chunk for chunk_id, chunk in kept.items() if chunk_id in wanted}
        moved = {c.number: wanted[i].ordinal for i, c in stay.items() if c.ordinal != wanted[i].ordinal}
        shelves.move_chunks(session, moved)
        return Change(len(new), len(stay), len(gone))

    def _reindexed(self, session: Session, number: int, chunks: Sequence[Chunk], cutting: Cutting, named: str) -> None:
        numbers = shelves.chunk_numbers(session, number, [chunk.id for chunk in chunks])
        self._words.remove(session, number, list(numbers.values()))
        self._indexed(session, number, chunks, cutting, named)

    def _indexed(self, session: Session, number: int, chunks: Sequence[Chunk], cutting: Cutting, named: str) -> None:
        """A few at a time: their words as lists are large."""
        for start in range(0, len(chunks), shelves.BATCH):
            batch = chunks[start : start + shelves.BATCH]
            numbers = shelves.chunk_numbers(session, number, [chunk.id for chunk in batch])
            self._words.add(session, number, [(numbers[chunk.id], cutting.words(chunk, named)) for chunk in batch])

    # Finding

    def words(self, collection_ids: Sequence[str], query: str, limit: int) -> list[Hit]:
        asked = terms(query)[:CONSIDERED]
        with self._database.reading() as session:
            owners = shelves.numbered(session, collection_ids) if asked and limit > 0 else {}
            found = self._by_words(session, owners, asked, limit)
            return _as_hits(session, owners, found)

    def near(self, collection_id: str, vector: Sequence[float], limit: int) -> list[Hit]:
        wanted = unit(vector)
        with self._database.reading() as session:
            owners = shelves.numbered(session, [collection_id]) if limit > 0 else {}
            found: list[tuple[int, int, float]] = []
            for number, owner in owners.items():
                if owner.dimensions:
                    _same_dimensions(owner, wanted)
                    found = [(number, *one) for one in self._vectors.best(session, number, wanted, limit)]
            return _as_hits(session, owners, found)

    def coverage(self, collection_ids: Sequence[str], query: str) -> float:
        asked = terms(query)[:CONSIDERED]
        with self._database.reading() as session:
            owners = shelves.numbered(session, collection_ids) if asked else {}
            if not owners:
                return 0.0
            best = self._by_words(session, owners, asked, HITS)
            seen = [self._words.words_of(session, number, [chunk])[0] for number, chunk, _ in best]
            counted = self._counted(session, owners, asked)
        return coverage(weights(asked, counted), counted.total, seen)

    def _by_words(
        self, session: Session, owners: Mapping[int, Collection], asked: Sequence[str], limit: int
    ) -> list[tuple[int, int, float]]:
        """Collection, chunk and score, best first."""
        found: list[tuple[int, int, float]] = []
        for number in owners:
            looked_up: Sequence[str] = asked
            if len(asked) > TERMS:
                looked_up = rarest(asked, self._words.counted(session, number, asked).having, TERMS)
            if looked_up:
                found += [(number, *one) for one in self._words.best(session, number, looked_up, limit)]
        if len(owners) > 1:
            found = self._compared(session, owners, asked, found)
        return found[:limit]

    def _compared(
        self,
        session: Session,
        owners: Mapping[int, Collection],
        asked: Sequence[str],
        found: Sequence[tuple[int, int, float]],
    ) -> list[tuple[int, int, float]]:
        """Hits of several collections in one order: a word is as rare as it is in all of them together."""
        texts = [self._words.words_of(session, number, [chunk])[0] for number, chunk, _ in found]
        scores = bm25(weights(asked, self._counted(session, owners, asked)), texts)
        scored = [(number, chunk, score) for (number, chunk, _), score in zip(found, scores, strict=True)]
        return sorted(scored, key=lambda one: -one[2])

    def _counted(self, session: Session, owners: Mapping[int, Collection], asked: Sequence[str]) -> Counted:
        having: Counter[str] = Counter()
        total = 0
        for number in owners:
            counted = self._words.counted(session, number, asked)
            total += counted.total
            having.update(counted.having)
        return Counted(total, having)

    # Vectors and the word index

    def without_vectors(self, collection_id: str, limit: int) -> list[Chunk]:
        with self._database.reading() as session:
            return shelves.without_vectors(session, collection_id, limit)

    def add_vectors(self, collection_id: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """Those of chunks that have been removed meanwhile are left out."""
        units = {chunk_id: unit(vector) for chunk_id, vector in vectors.items()}
        with self._database.writing() as session:
            self._vectors_added(session, shelves.taken(session, collection_id), collection_id, units)

    def reindex(self, collection_id: str) -> int:
        cutting = Cutting()
        with self._database.reading() as session:
            before = [row for number in shelves.numbered(session, [collection_id]) for row in _all(session, number)]
        for _, chunk, named in before:
            cutting.prepare((chunk,), named)
        with self._database.writing() as session:
            number = shelves.taken(session, collection_id)
            rows = _all(session, number)
            self._words.drop(session, number)
            self._words.make(session, number)
            for start in range(0, len(rows), shelves.BATCH):
                batch = rows[start : start + shelves.BATCH]
                self._words.add(session, number, [(chunk, cutting.words(of, named)) for chunk, of, named in batch])
            shelves.analyzed(session, collection_id, analyzer())
        return len(rows)

    def _vectors_added(self, session: Session, number: int, collection_id: str, units: Mapping[str, bytes]) -> None:
        if not units:
            return
        owner = shelves.numbered(session, [collection_id])[number]
        if not owner.dimensions:
            owner = structs.replace(owner, dimensions=dimensions(next(iter(units.values()))))
            shelves.change_collection(session, owner)
        for vector in units.values():
            _same_dimensions(owner, vector)
        numbers = shelves.chunk_numbers(session, number, list(units))
        self._vectors.add(session, number, [(numbers[chunk_id], units[chunk_id]) for chunk_id in numbers])

    # Jobs

    def submit(self, job: Job, body: bytes) -> None:
        with self._database.writing() as session:
            if shelves.collection_by_id(session, job.collection_id) is None:
                raise shelves.no_collection()
            if body and jobs.waiting_bytes(session, job.collection_id) + len(body) > self._waiting_bytes:
                raise Overloaded(
                    f"{shown_mib(self._waiting_bytes)} of files wait to be taken in for this project's collections, "
                    "which is the limit; hand in more when some of them are in",
                    RETRY_S,
                )
            jobs.add(session, job, body)

    def claim(self, lease_s: int, now_s: int) -> tuple[Job, bytes] | None:
        return self.next_job(lease_s, now_s, vectors=True)

    def next_job(self, lease_s: int, now_s: int, *, vectors: bool) -> tuple[Job, bytes] | None:
        """Workers ask all the time, mostly for nothing: that takes no lock."""
        with self._database.reading() as session:
            if not jobs.is_any_free(session, now_s, vectors=vectors):
                return None
        with self._database.writing() as session:
            claimed = self._in_turn(session, lease_s, now_s, vectors=vectors)
        if claimed is not None:
            self._claims[claimed[0].id] = claimed[0].attempts
        return claimed

    def _in_turn(self, session: Session, lease_s: int, now_s: int, *, vectors: bool) -> tuple[Job, bytes] | None:
        """The oldest job of an account that has not had its turn yet: one that uploads a lot waits for itself alone."""
        claimed = jobs.claim(session, lease_s, now_s, vectors=vectors, but=self._served, locked=self._claiming)
        if claimed is None and self._served:
            self._served = frozenset()
            claimed = jobs.claim(session, lease_s, now_s, vectors=vectors, locked=self._claiming)
        if claimed is not None:
            owner = shelves.collection_by_id(session, claimed[0].collection_id)
            self._served |= {owner.account} if owner else frozenset()
        return claimed

    def renew(self, job_id: str, lease_s: int, now_s: int) -> bool:
        """Of a job that this store object has claimed."""
        with self._database.writing() as session:
            return jobs.renew(session, job_id, self._claims.get(job_id, 0), lease_s, now_s)

    def finish(self, job: Job) -> None:
        """``job`` as it was claimed, with its end. One that another worker has taken over is left to that worker."""
        with self._database.writing() as session:
            jobs.finish(session, job)
        self._claims.pop(job.id, None)

    def postpone(self, job: Job, until_s: int) -> None:
        """``job`` as it was claimed, with why; left alone as `finish` leaves it alone."""
        with self._database.writing() as session:
            jobs.postpone(session, job, until_s)
        self._claims.pop(job.id, None)

    def give_back(self, job: Job) -> None:
        with self._database.writing() as session:
            jobs.give_back(session, job)
        self._claims.pop(job.id, None)

    def cancel(self, job_id: str, error: str, now_s: int) -> bool:
        with self._database.writing() as session:
            return jobs.cancel(session, job_id, error, now_s)

    def jobs(self, collection_id: str, limit: int = 100) -> list[Job]:
        with self._database.reading() as session:
            return jobs.of_collection(session, collection_id, limit)

    def job(self, job_id: str) -> Job | None:
        with self._database.reading() as session:
            return jobs.by_id(session, job_id)


def _as_hits(session: Session, owners: Mapping[int, Collection], found: Sequence[tuple[int, int, float]]) -> list[Hit]:
    hits: dict[int, Hit] = {}
    for number, owner in owners.items():
        hits |= shelves.hits(session, [(chunk, score) for of, chunk, score in found if of == number], owner)
    return [hits[chunk] for _, chunk, _ in found]


def _all(session: Session, number: int) -> list[tuple[int, Chunk, str]]:
    return shelves.of_collection(session, number)


def _has_other_vectors(before: Collection, after: Collection) -> bool:
    """Vectors of a model that had no name yet are of who knows which one."""
    other_model = after.embedding_model != before.embedding_model
    return bool(before.dimensions) and (other_model or after.dimensions not in (0, before.dimensions))


def _same_dimensions(owner: Collection, vector: bytes) -> None:
    if dimensions(vector) != owner.dimensions:
        raise InvalidField(
            f"the collection `{owner.name}` has vectors of {owner.dimensions} dimensions and not of "
            f"{dimensions(vector)}: its model has been replaced under the same name. Take its endpoint away and "
            "give it back, and its vectors are made anew",
            "vectors",
        )
