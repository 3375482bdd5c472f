"""What workers ask of a store beside what everybody does: a job's claim, and putting in what it has brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from arkway.core.knowledge import Change, Chunk, Document, Job
from arkway.ports.lookup import KnowledgeStore


class Lost(Exception):
    """The job is not this worker's any more: called off, or taken over by another one."""


class Intake(KnowledgeStore, Protocol):
    """A store whose jobs are worked off; the stores of `arkway.knowledge.opening` are."""

    def next_job(self, lease_s: int, now_s: int, *, vectors: bool) -> tuple[Job, bytes] | None:
        """As `claim`; without ``vectors`` only uploads, for workers that have no embedding model."""
        ...

    def give_back(self, job: Job) -> None:
        """``job`` as it was claimed waits again, as if it had never been claimed; left alone where the claim is over.

        For a worker that is stopped: nothing is wrong with the job, so it does not count as an attempt.
        """
        ...

    def put_for(
        self, job: Job, document: Document, chunks: Sequence[Chunk], vectors: Mapping[str, Sequence[float]]
    ) -> Change:
        """As `put`, for the worker whose claim ``job`` is, in the order in which a document's uploads were handed in.

        Whether the claim still holds is found out by the transaction itself. Where a later upload of the document has
        been put in already, nothing is changed. Raises Lost.
        """
        ...
