"""The seams of what bots look things up with: actions, and collections of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from arkway.core.bot import Findings, Quest
from arkway.core.knowledge import Change, Chunk, Collection, Document, Hit, Job


class Plugin(Protocol):
    """Something that a bot can look things up with. ``source`` and ``action_name`` are its names in a call's usage."""

    source: str
    action_name: str

    async def wanted(self, quest: Quest) -> bool:
        """Would what it finds help to answer? Asks no model. Raises errors of the tree."""
        ...

    async def find(self, quest: Quest) -> Findings:
        """Raises errors of the tree; the caller holds it to the action's deadline."""
        ...


class KnowledgeStore(Protocol):
    """Collections, their documents, and the indices over them. Every method waits, for threads to call.

    What a method says it writes, it writes whole or not at all. Methods raise StoreUnavailable.
    """

    def create(self, collection: Collection) -> bool:
        """False where the project has one of that name."""
        ...

    def change(self, collection: Collection) -> bool:
        """Everything of it but its id, project and name. False where there is none."""
        ...

    def drop(self, collection_id: str) -> bool: ...

    def collections(self, account: str, project: str = "") -> list[Collection]:
        """By name; ``project`` "" = all of the account's."""
        ...

    def collection(self, account: str, project: str, name: str) -> Collection | None: ...

    def by_id(self, collection_id: str) -> Collection | None:
        """Whosever it is: for those who work on behalf of its owner."""
        ...

    def documents(self, collection_id: str, offset: int = 0, limit: int = 100) -> tuple[list[Document], int]:
        """A page of them by name, and how many there are."""
        ...

    def document(self, document_id: str) -> Document | None: ...

    def chunks(self, document_id: str) -> list[Chunk]: ...

    def chunk(self, chunk_id: str) -> Chunk | None: ...

    def put(self, document: Document, chunks: Sequence[Chunk], vectors: Mapping[str, Sequence[float]]) -> Change:
        """The document as it is now; chunks that were there already are left alone. ``vectors`` by chunk id."""
        ...

    def remove(self, document_id: str) -> bool: ...

    def words(self, collection_ids: Sequence[str], query: str, limit: int) -> list[Hit]:
        """By the words of the question, best first."""
        ...

    def near(self, collection_id: str, vector: Sequence[float], limit: int) -> list[Hit]:
        """By closeness (cosine) to a vector, closest first."""
        ...

    def coverage(self, collection_ids: Sequence[str], query: str) -> float:
        """How much of what the question is about the best three hits have, 0 to 1, rare words counting most."""
        ...

    def without_vectors(self, collection_id: str, limit: int) -> list[Chunk]: ...

    def add_vectors(self, collection_id: str, vectors: Mapping[str, Sequence[float]]) -> None: ...

    def reindex(self, collection_id: str) -> int:
        """Makes the word index anew with today's analyzer; how many chunks."""
        ...

    def submit(self, job: Job, body: bytes) -> None: ...

    def claim(self, lease_s: int, now_s: int) -> tuple[Job, bytes] | None:
        """The oldest job that waits or whose worker has died; it is this worker's until its lease ends."""
        ...

    def renew(self, job_id: str, lease_s: int, now_s: int) -> bool:
        """False where the lease was lost."""
        ...

    def finish(self, job: Job) -> None:
        """Done or failed, or waiting once more; the body of what is over is deleted."""
        ...

    def postpone(self, job: Job, until_s: int) -> None:
        """Waiting once more, with ``job.error``; nobody claims it before ``until_s`` (epoch seconds)."""
        ...

    def cancel(self, job_id: str, error: str, now_s: int) -> bool:
        """Ends a job that waits or runs as failed; its worker's next `renew` says so. False where it is over."""
        ...

    def jobs(self, collection_id: str, limit: int = 100) -> list[Job]:
        """Newest first."""
        ...

    def job(self, job_id: str) -> Job | None: ...

    def close(self) -> None: ...
