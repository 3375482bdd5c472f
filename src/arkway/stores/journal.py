"""The ledger as a local append-only journal: one ``write()`` for each reserve, checkpoint and settle.

What a process crash cannot undo: everything (the lines are in the kernel's page cache when the method returns). What a
power cut can undo depends on the durability: ``group`` at most the last ``group_s`` plus one sync, ``sync`` nothing
that was settled, ``process`` whatever the kernel had not written back.

Disk trouble. A write that fails refuses the attempt (StoreUnavailable, HTTP 503) and heals by itself. A settlement that
cannot be written waits in memory and is tried again every ``retry_s``. A sync that fails says nothing about what is on
the disk any more, so the segment is given up: nothing is taken until its unconfirmed lines are written and synced in a
new one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from arkway.core.chat import Usage
from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import sync_directory
from arkway.ports import Attempt, Settlement
from arkway.stores.framing import Opened, Probe, Settled, Spent, frame
from arkway.stores.locks import FileLock
from arkway.stores.recovery import interrupted
from arkway.stores.segment import Segment, Write, segment_numbers, segment_path

Durability = Literal["process", "group", "sync"]

SEGMENT_BYTES = 8 << 20
TOKENS_MAX = 1 << 53

log = logging.getLogger("arkway.journal")


class InUse(Misconfigured):
    """Another process owns the directory."""


def epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """A Ledger in files ``00000001.log``, ``00000002.log``, … of one directory, owned by one process.

    Opening settles the attempts of a dead process at their last checkpoint, as ``interrupted``. Raises InUse when
    another process owns the directory, Misconfigured when a file is damaged, StoreUnavailable when the disk takes no
    writes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durability: Durability = "group",
        segment_bytes: int = SEGMENT_BYTES,
        group_s: float = 0.010,
        retry_s: float = 0.25,
        now_ms: Callable[[], int] = epoch_ms,
        write: Write = os.write,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self.directory = directory
        self.durability = durability
        self._segment_bytes, self._group_s, self._retry_s = segment_bytes, group_s, retry_s
        self._rotate_at_bytes = segment_bytes
        self._write, self._sync = write, sync
        self._lock = threading.RLock()  # the collector may end a stream, and so settle it, in the middle of a reserve
        self._wake = threading.Event()
        self._closing = self._closed = False
        self._dirty = False
        self._fatal = ""
        self._trouble = ""
        self._unsaved: list[bytes] = []
        self._retired: list[Segment] = []
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = _owned(directory)
        try:
            self._active = self._recovered(now_ms())
        except BaseException:
            self._owner.close()
            raise
        self._keeper = threading.Thread(target=self._keep, name="arkway-journal", daemon=True)
        self._keeper.start()

    # The road of a call

    def reserve(self, attempt: Attempt) -> None:
        """Write the opening entry. Raises StoreUnavailable when the disk does not take it."""
        line = frame(Opened(attempt))
        with self._lock:
            self._refuse_if_unusable()
            try:
                self._append(line)
            except OSError as error:
                self._note_trouble(error)
                raise StoreUnavailable(
                    "the usage ledger cannot be written just now, so no billed call is taken"
                ) from error

    def checkpoint(self, attempt_id: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Write totals so far. Never raises for disk trouble: the next totals make up for these."""
        line = frame(Spent(attempt_id, _tokens(prompt_tokens), _tokens(completion_tokens)))
        with self._lock:
            if self._fatal or self._closing:
                return
            try:
                self._append(line)
            except OSError as error:
                self._note_trouble(error)

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        """Write the closing entry. Never raises for disk trouble: what cannot be written waits and is tried again."""
        line = _settled_line(attempt_id, settlement)
        with self._lock:
            if self._closed:
                log.critical("a settlement came after the journal was closed: %s", line.decode("utf-8", "replace"))
            if self._fatal or self._closing:
                self._unsaved.append(line)
                return
            try:
                self._append(line)
            except OSError as error:
                self._unsaved.append(line)
                self._note_trouble(error)
            else:
                if self.durability == "sync":
                    self._sync_or_give_up()

    # What others ask

    @property
    def trouble(self) -> str:
        """Why the ledger takes no billed calls just now, for the operator; empty when all is well."""
        return self._fatal or self._trouble

    @property
    def unsaved(self) -> int:
        """Settlements that wait in memory for the disk."""
        return len(self._unsaved)

    @property
    def position(self) -> tuple[int, int]:
        """The end of the journal: number of the active segment, octets in it."""
        with self._lock:
            return self._active.number, self._active.size

    def delete_before(self, number: int) -> None:
        """Delete segments older than ``number``, oldest first. Raises OSError."""
        for old in segment_numbers(self.directory):
            if old >= min(number, self._active.number):
                return
            segment_path(self.directory, old).unlink(missing_ok=True)

    def close(self, drained: tuple[int, int] | None = None) -> None:
        """Sync, stop and give the directory up.

        ``drained`` is the position up to which the database holds everything: at the very end, the files are deleted.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake.set()
        self._keeper.join()
        with self._lock:
            self._last_try()
            for segment in (*self._retired, self._active):
                segment.close()
            self._closed = True
        if drained == (self._active.number, self._active.size) and not self._unsaved:
            self.delete_before(self._active.number)
            self._active.path.unlink(missing_ok=True)
        self._owner.close()

    # Opening

    def _recovered(self, now_ms: int) -> Segment:
        endings = interrupted(self.directory, now_ms)
        try:
            segment = self._created()
            for ending in endings:
                segment.append(frame(ending))
            self._sync(segment.fd)
        except OSError as error:
            raise StoreUnavailable(f"the journal {self.directory} cannot be written: {error}") from error
        segment.confirm(segment.size, len(segment.pending))
        if endings:
            log.warning("settled %d calls that the last process left open", len(endings))
        return segment

    def _created(self) -> Segment:
        number = max(segment_numbers(self.directory), default=0) + 1
        path = segment_path(self.directory, number)
        segment = Segment(path, number, self._write, remembers=self.durability != "process")
        sync_directory(self.directory)
        return segment

    # Writing; every method below down to the keeper is called with the lock held

    def _refuse_if_unusable(self) -> None:
        if self._closing:
            raise StoreUnavailable("the server is shutting down and takes no new calls")
        if self._fatal:
            raise StoreUnavailable("the usage ledger is being reopened after a disk error; no billed call is taken")

    def _append(self, line: bytes) -> None:
        if self._active.size >= self._rotate_at_bytes:
            self._rotate()
        self._active.append(line)
        if self._trouble and not self._unsaved:
            self._trouble = ""
        if not self._dirty and self.durability == "group":
            self._dirty = True
            self._wake.set()

    def _rotate(self) -> None:
        """Go on in a new segment. The old one is synced first: a torn tail can then only be in the newest file.

        Raises OSError when that sync fails (``process`` promises nothing about the disk and goes on). When no new file
        can be made, the old one grows on.
        """
        try:
            self._sync(self._active.fd)
        except OSError as error:
            if self.durability != "process":
                self._give_up(error)
                raise
            log.error("a sync of the journal %s failed: %s", self._active.path, error)
        old = self._active
        old.confirm(old.size, len(old.pending))
        try:
            self._active = self._created()
        except OSError as error:
            log.error("no new journal file can be made: %s", error)
            self._rotate_at_bytes = old.size + self._segment_bytes // 8
            return
        self._rotate_at_bytes = self._segment_bytes
        self._retired.append(old)
        self._wake.set()

    def _note_trouble(self, error: OSError) -> None:
        if not self._trouble:
            log.error("the journal %s cannot be written: %s", self._active.path, error)
        self._trouble = f"the journal cannot be written: {error.strerror or error}"
        self._wake.set()

    def _sync_or_give_up(self) -> None:
        try:
            self._sync(self._active.fd)
        except OSError as error:
            self._give_up(error)
        else:
            self._active.confirm(self._active.size, len(self._active.pending))

    def _give_up(self, error: OSError) -> None:
        log.critical("a sync of the journal %s failed, no billed call is taken: %s", self._active.path, error)
        self._fatal = f"a sync of the journal failed: {error.strerror or error}"
        self._wake.set()

    # The keeper: one thread that syncs, heals and closes files

    def _keep(self) -> None:
        while not self._closing:
            self._wake.wait(self._retry_s if self.trouble else None)
            self._wake.clear()
            self._close_retired()
            if self._dirty:
                time.sleep(self._group_s)
                self._sync_group()
            if self.trouble:
                time.sleep(self._retry_s)
                self._heal()

    def _close_retired(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for segment in retired:
            segment.close()

    def _sync_group(self) -> None:
        with self._lock:
            if self._fatal:
                return
            segment, size, lines = self._active, self._active.size, len(self._active.pending)
            self._dirty = False
        try:
            self._sync(segment.fd)
        except OSError as error:
            with self._lock:
                self._give_up(error)
            return
        with self._lock:
            if segment is self._active:
                segment.confirm(size, lines)

    def _heal(self) -> None:
        with self._lock:
            try:
                if self._fatal:
                    self._reopen()
                self._save_waiting()
            except OSError as error:
                log.debug("the journal does not take writes yet: %s", error)

    def _reopen(self) -> None:
        """Move the lines that no sync has confirmed to a new segment. Raises OSError and changes nothing."""
        old = self._active
        fresh = self._created()
        try:
            for line in old.pending:
                fresh.append(line)
            self._sync(fresh.fd)
            old.forget_unsynced()
        except OSError:
            fresh.close()
            fresh.path.unlink(missing_ok=True)
            raise
        fresh.confirm(fresh.size, len(fresh.pending))
        self._active = fresh
        self._retired.append(old)
        self._fatal = ""
        self._dirty = False
        self._wake.set()
        log.warning("the journal goes on in %s", fresh.path)

    def _save_waiting(self) -> None:
        while self._unsaved:
            self._append(self._unsaved[0])
            del self._unsaved[0]
        if self._trouble:
            self._append(frame(Probe()))
        if self.durability == "sync":
            self._sync_or_give_up()

    def _last_try(self) -> None:
        try:
            if self._fatal:
                self._reopen()
            self._save_waiting()
            if self.durability != "process":
                self._sync(self._active.fd)
        except OSError as error:
            log.critical("the journal was closed with unwritten lines: %s", error)
        for line in self._unsaved:
            log.critical("a settlement was never written: %s", line.decode("utf-8", "replace").strip())


def _owned(directory: Path) -> FileLock:
    lock = FileLock(directory / "lock")
    if not lock.take():
        owner = lock.read_note()
        lock.close()
        raise InUse(
            f"another Arkway server{f' (process {owner})' if owner else ''} is using {directory.parent}; "
            "stop it, or give this one a data directory of its own"
        )
    lock.note(str(os.getpid()))
    return lock


def _settled_line(attempt_id: str, settlement: Settlement) -> bytes:
    usage = settlement.usage
    if not 0 <= min(_counts(usage)) <= max(_counts(usage)) <= TOKENS_MAX:
        settlement = msgspec.structs.replace(settlement, usage=_bounded(usage))
    try:
        return frame(Settled(attempt_id, settlement))
    except UnicodeEncodeError:
        error = settlement.error.encode("utf-8", "replace").decode()
        return frame(Settled(attempt_id, msgspec.structs.replace(settlement, error=error)))


def _counts(usage: Usage) -> tuple[int, int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens


def _bounded(usage: Usage) -> Usage:
    prompt, completion, cached, reasoning = map(_tokens, _counts(usage))
    return Usage(prompt, completion, cached, reasoning, usage.provenance)


def _tokens(count: int) -> int:
    """A count that every reader of the journal can hold: an upstream may report any number."""
    return min(max(count, 0), TOKENS_MAX)
