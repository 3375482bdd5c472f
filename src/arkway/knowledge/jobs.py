"""Uploads that wait, are taken in, or are over, within one transaction.

A job is claimed by a worker for the length of a lease. Each claim counts up ``attempts``, which tells the worker that
has it from one that had it before.
"""

from __future__ import annotations

import msgspec

from arkway.core.knowledge import Job
from arkway.knowledge.records import columns, job_of, listed, plain, values
from arkway.knowledge.sql import Session, marks

_JOB = f"SELECT {listed(Job)} FROM knowledge_jobs "  # noqa: S608 - names of columns
_NEXT = (
    f"SELECT number, {listed(Job)} FROM knowledge_jobs WHERE state IN ('waiting', 'running') "  # noqa: S608
    "AND lease_until_s <= ? ORDER BY number LIMIT 1"
)
_MINE = "id = ? AND state = 'running' AND attempts = ?"


def add(session: Session, job: Job, body: bytes) -> None:
    """A new job and what it brought."""
    names = columns(Job)
    statement = f"INSERT INTO knowledge_jobs ({', '.join(names)}) VALUES ({marks(names)}) RETURNING number"  # noqa: S608
    number = session.rows(statement, values(job))[0][0]
    session.change("INSERT INTO knowledge_job_bodies (job, body) VALUES (?, ?)", [number, body])


def claim(session: Session, lease_s: int, now_s: int, *, locked: str) -> tuple[Job, bytes] | None:
    """``locked`` ends the query in a way that no two workers get the same row."""
    rows = session.rows(_NEXT + locked, [now_s])
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


def cancel(session: Session, job_id: str, error: str, now_s: int) -> bool:
    """The worker that has it, if one has, loses its lease by that. False where it is over already."""
    statement = (
        "UPDATE knowledge_jobs SET state = 'failed', error = ?, lease_until_s = 0, updated_at = ? "
        "WHERE id = ? AND state IN ('waiting', 'running') RETURNING number"
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


def unfinished(session: Session) -> bool:
    """Whether any job waits or runs."""
    return bool(session.rows("SELECT 1 FROM knowledge_jobs WHERE state IN ('waiting', 'running') LIMIT 1"))
