"""From the journal into the database: idempotent, in batches, beside the road of a call."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from arkway.core.errors import StoreUnavailable
from arkway.ports import Attempt, Settlement
from arkway.stores.framing import Opened, Settled, is_spent, unframed, used
from arkway.stores.journal import InUse, Journal
from arkway.stores.segment import segment_numbers, segment_path
from arkway.stores.tables import Row

CHUNK_BYTES = 256 << 10
INTERVAL_S = 0.2
# Lines taken between two moments in which the other threads may go on.
LINES_AT_ONCE = 64
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
DELETE_EVERY_S = 1.0

log = logging.getLogger("arkway.drain")


class UsageRows(Protocol):
    """Where settled attempts go."""

    def insert(self, rows: list[Row]) -> None:
        """Idempotent by ``attempt_id``. Raises StoreUnavailable with nothing written."""


class Checkpointed(Protocol):
    """What makes inserted rows survive a power cut."""

    def checkpoint_sync(self) -> bool: ...


class Drain:
    """A thread that follows the journal and writes each settled attempt as one row, within ``interval_s`` or so.

    It looks by itself: nobody on the road of a call wakes it, and what came in an interval is one transaction.

    Segments are deleted oldest first, when every attempt they opened is in the database and the database is on the
    disk. While the database refuses, the thread waits and tries again; the journal keeps everything.
    """

    def __init__(
        self,
        journal: Journal,
        rows: UsageRows,
        store: Checkpointed,
        *,
        batch_rows: int = 500,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._journal, self._rows, self._store = journal, rows, store
        self._batch_rows, self._interval_s = batch_rows, interval_s
        numbers = segment_numbers(journal.directory)
        self._segment, self._offset = numbers[0], 0
        self._oldest = numbers[0]
        self._committed = (self._segment, 0)
        self._open: dict[str, tuple[Attempt, int]] = {}
        self._batch: list[Row] = []
        self._waiting: list[tuple[tuple[int, int], Future[None]]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._delete_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="arkway-drain", daemon=True)
        self._thread.start()

    @property
    def lag(self) -> int:
        """Octets of the journal that are not in the database yet; 0 = everything is."""
        (number, offset), (last, size) = self._committed, self._journal.position
        if number == last:
            return size - offset
        sizes = (_size(self._journal, middle) for middle in range(number, last))
        return max(0, sum(sizes) - offset + size)

    @property
    def open_attempts(self) -> int:
        """Attempts that were opened and not settled, as far as the journal has been read."""
        return len(self._open)

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until all that is in the journal now is in the database. Raises StoreUnavailable after ``timeout_s``."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._flushed()), timeout_s)
        except TimeoutError:
            raise StoreUnavailable(_behind(timeout_s)) from None

    def flush_sync(self, timeout_s: float = 5.0) -> None:
        """As ``flush``, for threads other than the event loop's."""
        try:
            self._flushed().result(timeout_s)
        except TimeoutError:
            raise StoreUnavailable(_behind(timeout_s)) from None

    def close(self, timeout_s: float = 5.0) -> tuple[int, int] | None:
        """Flush and stop. The position up to which the journal is no longer needed, or None: for ``Journal.close``."""
        try:
            self.flush_sync(timeout_s)
            complete = not self._open and self._store.checkpoint_sync()
        except StoreUnavailable as error:
            log.warning("the journal keeps calls for the next start: %s", error)
            complete = False
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)  # a database that neither takes a row nor refuses it is not waited for
        return self._committed if complete and not self._thread.is_alive() else None

    def _flushed(self) -> Future[None]:
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append((self._journal.position, done))
        self._wake.set()
        return done

    # The thread

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._closing:
            try:
                more = self._step()
                retry_s = FIRST_RETRY_S
            except Exception as error:
                log.warning("usage waits in the journal, next try in %g s: %s", retry_s, error)
                self._pause(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            if not more:
                self._pause(self._interval_s)

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _step(self) -> bool:
        """Read one chunk and write its rows; True when there may be more to read at once."""
        more = bool(self._batch) or self._read()
        while self._batch:
            self._rows.insert(self._batch[: self._batch_rows])
            del self._batch[: self._batch_rows]
        self._committed = (self._segment, self._offset)
        self._answer()
        if not more:
            self._delete_drained()
        return more

    def _read(self) -> bool:
        """One chunk; True when there is more than that, False when the journal's present end is reached."""
        last, size = self._journal.position
        limit = size if self._segment == last else self._journal.end_of(self._segment)
        data = _chunk(self._journal, self._segment, self._offset, limit)
        end = data.rfind(b"\n") + 1
        self._take_all(data[:end].split(b"\n")[:-1])
        self._offset += end
        if self._segment == last:
            return end > 0 and self._offset < limit
        if end == 0:
            self._segment, self._offset = self._next_segment(), 0
        return True

    def _take_all(self, lines: list[bytes]) -> None:
        for place, line in enumerate(lines, 1):
            if not is_spent(line):
                self._take(line)
            if place % LINES_AT_ONCE == 0:
                time.sleep(0)  # an event loop that has become ready need not wait for the interpreter's turn

    def _next_segment(self) -> int:
        """Numbers may have gaps: an operator may have moved a damaged file away."""
        return next(number for number in segment_numbers(self._journal.directory) if number > self._segment)

    def _take(self, line: bytes) -> None:
        record = unframed(line)
        if type(record) is Opened:
            self._open[record.attempt.id] = (record.attempt, self._segment)
        elif type(record) is Settled and (found := self._open.pop(record.attempt_id, None)) is not None:
            self._batch.append(usage_row(found[0], record.settlement))

    def _answer(self) -> None:
        with self._lock:
            reached = [done for position, done in self._waiting if position <= self._committed]
            self._waiting = [entry for entry in self._waiting if entry[0] > self._committed]
        for done in reached:
            if done.set_running_or_notify_cancel():
                done.set_result(None)

    def _delete_drained(self) -> None:
        needed = min((number for _, number in self._open.values()), default=self._segment)
        if needed <= self._oldest or time.monotonic() < self._delete_at_s:
            return
        self._delete_at_s = time.monotonic() + DELETE_EVERY_S
        if self._store.checkpoint_sync():
            self._journal.delete_before(needed)
            self._oldest = needed


def drain_left(directories: Iterable[Path], rows: UsageRows, store: Checkpointed, timeout_s: float = 30.0) -> None:
    """Write what processes that are gone have left in their journals. One that is in use is left alone.

    Raises Misconfigured for a damaged file. What is not written within ``timeout_s`` stays for the next start.
    """
    for directory in directories:
        try:
            journal = Journal(directory)
        except InUse:
            continue
        drain = Drain(journal, rows, store)
        journal.close(drain.close(timeout_s))
        log.info("the journal %s of a process that is gone has been taken in", directory)


def usage_row(attempt: Attempt, settlement: Settlement) -> dict[str, Any]:
    """The row of the usage table for one settled attempt."""
    usage = settlement.usage
    return {
        "attempt_id": attempt.id,
        "request_id": attempt.request_id,
        "account": attempt.account,
        "project": attempt.project,
        "key_id": attempt.key_id,
        "endpoint_id": attempt.endpoint_id,
        "model": attempt.model,
        "dialect": attempt.dialect,
        "operation": attempt.operation,
        "opened_ms": attempt.opened_ms,
        "closed_ms": settlement.closed_ms,
        "outcome": settlement.outcome,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "provenance": usage.provenance,
        "first_token_ms": settlement.first_token_ms,
        "duration_ms": settlement.duration_ms,
        "error": settlement.error,
        "caller": attempt.caller,
    }


def _chunk(journal: Journal, number: int, offset: int, limit: int) -> bytes:
    """The next octets of a segment, at least one line of them if there is one before ``limit``.

    Up to ``limit`` the segment that is being written has whole lines only; an older one may end in unused room.
    """
    size = CHUNK_BYTES
    with segment_path(journal.directory, number).open("rb", buffering=0) as file:
        while True:
            file.seek(offset)
            wanted = min(size, max(0, limit - offset))
            data = used(file.read(wanted))
            if b"\n" in data or len(data) < size:
                return data
            size *= 2


def _size(journal: Journal, number: int) -> int:
    try:
        return segment_path(journal.directory, number).stat().st_size
    except FileNotFoundError:
        return 0


def _behind(timeout_s: float) -> str:
    return f"the usage journal could not be written to the database within {timeout_s:g} seconds; it will be later"
