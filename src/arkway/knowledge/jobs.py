"""Uploads that wait, are taken in, or are over, within one transaction.

A job is claimed by a worker for the length of a lease. Each claim counts up ``attempts``, which tells the worker that
has it from one that had it before.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from arkway.core.knowledge import Change, Job
from arkway.knowledge.records import columns, job_of, listed, packed, plain, values
from arkway.knowledge.sql import Session, marks

_JOB = f"SELECT {listed(Job)} FROM knowledge_jobs "  # noqa: S608 - names of columns
# A job that makes vectors has no source.
_FREE = "state IN ('waiting', 'running') AND lease_until_s <= ? AND (? OR source <> '')"
_OF_OTHERS = "AND collection_id NOT IN (SELECT id FROM knowledge_collections WHERE account IN ({}))"
_MINE = "id = ? AND state = 'running' AND attempts = ?"


def add(session: Session, job: Job, body: bytes) -> None:
    """A new job and what it brought."""
    names = columns(Job)
    statement = f"INSERT INTO knowledge_jobs ({', '.join(names)}) VALUES ({marks(names)}) RETURNING number"  # noqa: S608
    number = session.rows(statement, values(job))[0][0]
    session.change("INSERT INTO knowledge_job_bodies (job, body) VALUES (?, ?)", [number, body])


def waiting_bytes(session: Session, collection_id: str) -> int:
    """What all jobs of the collection's project that are not over yet have brought."""
    statement = (
        "SELECT coalesce(sum(j.size_bytes), 0) FROM knowledge_jobs j "
        "JOIN knowledge_collections c ON c.id = j.collection_id "
        "JOIN knowledge_collections own ON own.account = c.account AND own.project = c.project "
        "WHERE own.id = ? AND j.state IN ('waiting', 'running')"
    )
    return int(session.rows(statement, [collection_id])[0][0])


def claim(
    session: Session, lease_s: int, now_s: int, *, vectors: bool, but: Collection[str] = (), locked: str = ""
) -> tuple[Job, bytes] | None:
    """The oldest one that is free. ``vectors``: those that make vectors too. ``but``: accounts that have none of it.

    ``locked`` ends the query so that no two workers get the same row.
    """
    others = _OF_OTHERS.format(marks(list(but))) if but else ""
    statement = f"SELECT number, {listed(Job)} FROM knowledge_jobs WHERE {_FREE} {others} ORDER BY number LIMIT 1"  # noqa: S608
    rows = session.rows(statement + locked, [now_s, vectors, *but])
    if not rows:
        return None
    number, found = rows[0][0], job_of(rows[0][1:])
    attempts, until_s = found.attempts + 1, now_s + lease_s
    session.change(
        "UPDATE knowledge_jobs SET state = 'running', attempts = ?, lease_until_s = ?, updated_at = ? WHERE number = ?",
        [attempts, until_s, now_s, number],
    )
    body = bytes(session.rows("SELECT body FROM knowledge_job_bodies WHERE job = ?", [number])[0][0])
    new = {"state": "running", "attempts": attempts, "lease_until_s": until_s, "updated_at": now_s}
    return msgspec.structs.replace(found, **new), body


def renew(session: Session, job_id: str, attempts: int, lease_s: int, now_s: int) -> bool:
    """The lease of a running job, for the worker whose claim was the ``attempts``-th; False where it is over."""
    statement = f"UPDATE knowledge_jobs SET lease_until_s = ?, updated_at = ? WHERE {_MINE}"  # noqa: S608
    return session.change(statement, [now_s + lease_s, now_s, job_id, attempts]) > 0


def finish(session: Session, job: Job) -> None:
    """Nothing happens to a job that another worker has taken over."""
    stored = dict(zip(columns(Job), values(job), strict=True))
    new = {name: stored[name] for name in ("state", "error", "document_id", "change", "updated_at")}
    settings = ", ".join(f"{name} = ?" for name in new)
    statement = f"UPDATE knowledge_jobs SET {settings}, lease_until_s = 0 WHERE {_MINE} RETURNING number"  # noqa: S608
    rows = session.rows(statement, [*new.values(), job.id, job.attempts])
    if rows and job.state != "waiting":
        session.change("DELETE FROM knowledge_job_bodies WHERE job = ?", [rows[0][0]])


def postpone(session: Session, job: Job, until_s: int) -> None:
    """As `finish`, for a job that is to be tried again from a moment on."""
    statement = (
        "UPDATE knowledge_jobs SET state = 'waiting', error = ?, lease_until_s = ?, updated_at = ? "  # noqa: S608
        f"WHERE {_MINE}"
    )
    session.change(statement, [plain(job.error), until_s, job.updated_at, job.id, job.attempts])


def give_back(session: Session, job: Job) -> None:
    """As `finish`, for a job whose worker is stopped: it waits as if it had not been claimed."""
    statement = (
        "UPDATE knowledge_jobs SET state = 'waiting', attempts = attempts - 1, lease_until_s = 0, updated_at = ? "  # noqa: S608
        f"WHERE {_MINE}"
    )
    session.change(statement, [job.updated_at, job.id, job.attempts])


def note(session: Session, job: Job, change: Change) -> bool:
    """What a running job has put in, for the worker that has claimed it; False where its claim is over."""
    statement = f"UPDATE knowledge_jobs SET change = ? WHERE {_MINE}"  # noqa: S608
    return session.change(statement, [packed(change), job.id, job.attempts]) > 0


def is_outdone(session: Session, job: Job) -> bool:
    """Whether a later upload of the same document has been put in."""
    statement = (
        "SELECT 1 FROM knowledge_jobs later JOIN knowledge_jobs own ON later.number > own.number "
        "AND later.collection_id = own.collection_id AND later.source = own.source "
        "WHERE own.id = ? AND later.change <> 'null' LIMIT 1"
    )
    return bool(session.rows(statement, [job.id]))


def cancel(session: Session, job_id: str, error: str, now_s: int) -> bool:
    """The worker that has it, if one has, loses its lease by that. False where it is over, or all but over: what it
    brought has been put in."""
    statement = (
        "UPDATE knowledge_jobs SET state = 'failed', error = ?, lease_until_s = 0, updated_at = ? "
        "WHERE id = ? AND state IN ('waiting', 'running') AND change = 'null' RETURNING number"
    )
    rows = session.rows(statement, [plain(error), now_s, job_id])
    if rows:
        session.change("DELETE FROM knowledge_job_bodies WHERE job = ?", [rows[0][0]])
    return bool(rows)


def of_collection(session: Session, collection_id: str, limit: int) -> list[Job]:
    """Newest first."""
    where = "WHERE collection_id = ? ORDER BY number DESC LIMIT ?"
    return [job_of(row) for row in session.rows(_JOB + where, [collection_id, limit])]


def by_id(session: Session, job_id: str) -> Job | None:
    """The job, without what it brought."""
    rows = session.rows(_JOB + "WHERE id = ?", [job_id])
    return job_of(rows[0]) if rows else None


def is_any_free(session: Session, now_s: int, *, vectors: bool) -> bool:
    """Whether there is a job to claim."""
    return bool(session.rows(f"SELECT 1 FROM knowledge_jobs WHERE {_FREE} LIMIT 1", [now_s, vectors]))  # noqa: S608
