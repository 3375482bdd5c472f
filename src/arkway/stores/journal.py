"""The ledger as a local append-only journal: one line for each reserve, checkpoint and settle, in a mapped file.

What a process crash cannot undo: everything (the lines are in the kernel's page cache when the method returns). What a
power cut can undo depends on the durability: ``group`` at most the last ``group_s`` plus one sync, ``sync`` nothing
that was settled, ``process`` whatever the kernel had not written back.

Nothing on the road of a call wakes another thread while there is traffic: the keeper looks by itself every ``group_s``
and is only woken for the first line after a time without any.

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
from arkway.stores.segment import Disk, Segment, segment_numbers, segment_path

Durability = Literal["process", "group", "sync"]

SEGMENT_BYTES = 8 << 20
TOKENS_MAX = 1 << 53
COOL_S = 1.0

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
        disk: Disk | None = None,
    ) -> None:
        self.directory = directory
        self.durability = durability
        self._syncs_settlements = durability == "sync"
        self._segment_bytes, self._group_s, self._retry_s = segment_bytes, group_s, retry_s
        self._rotate_at_bytes = segment_bytes
        self._disk = disk or Disk()
        self._lock = threading.RLock()  # the collector may end a stream, and so settle it, in the middle of a reserve
        self._appending = False
        self._nested: list[bytes] = []
        self._wake = threading.Event()
        self._waits_for_a_line = False
        self._closing = self._closed = False
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
            if not self._active.copied(line):
                self._reserve(line)

    def checkpoint(self, attempt_id: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Write totals so far. Never raises for disk trouble: the next totals make up for these."""
        line = frame(Spent(attempt_id, _tokens(prompt_tokens), _tokens(completion_tokens)))
        with self._lock:
            if not self._active.copied(line):
                self._checkpoint(line)

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        """Write the closing entry. Never raises for disk trouble: what cannot be written waits and is tried again."""
        line = _settled_line(attempt_id, settlement)
        with self._lock:
            if self._syncs_settlements or not self._active.copied(line):
                self._settle(line)

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
            self._active.cool()
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
            self._disk.sync(segment.fd)
        except OSError as error:
            raise StoreUnavailable(f"the journal {self.directory} cannot be written: {error}") from error
        segment.confirm(segment.size, len(segment.pending))
        if endings:
            log.warning("settled %d calls that the last process left open", len(endings))
        return segment

    def _created(self) -> Segment:
        number = max(segment_numbers(self.directory), default=0) + 1
        path = segment_path(self.directory, number)
        segment = Segment(
            path,
            number,
            self._disk,
            full_bytes=self._segment_bytes,
            remembers=self.durability != "process",
        )
        sync_directory(self.directory)
        return segment

    # Writing; every method below down to the keeper is called with the lock held. The active segment is cold, so that
    # no line is merely copied, whenever anything else than that has to be done or looked at.

    def _reserve(self, line: bytes) -> None:
        if self._closing:
            raise StoreUnavailable("the server is shutting down and takes no new calls")
        if self._fatal:
            raise StoreUnavailable("the usage ledger is being reopened after a disk error; no billed call is taken")
        try:
            self._append(line)
        except OSError as error:
            self._note_trouble(error)
            raise StoreUnavailable("the usage ledger cannot be written just now, so no billed call is taken") from error

    def _checkpoint(self, line: bytes) -> None:
        if self._fatal or self._closing:
            return
        try:
            self._append(line)
        except OSError as error:
            self._note_trouble(error)

    def _settle(self, line: bytes) -> None:
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
            if self._syncs_settlements and not self._appending:
                self._sync_or_give_up()

    def _append(self, line: bytes) -> None:
        if self._appending:
            self._nested.append(line)  # by the collector, from within what is below; whoever is there writes it
            return
        self._appending = True
        try:
            if self._active.size >= self._rotate_at_bytes:
                self._rotate()
            self._active.append(line)
        finally:
            self._appending = False
        self._after_append()

    def _after_append(self) -> None:
        if self._waits_for_a_line:
            self._waits_for_a_line = False
            self._wake.set()
        if self._trouble and not self._unsaved:
            self._trouble = ""
        while self._nested:
            self._append_nested(self._nested.pop(0))
        if self._trouble or self._closing:
            self._active.cool()

    def _append_nested(self, line: bytes) -> None:
        try:
            self._append(line)
        except OSError as error:
            self._unsaved.append(line)
            self._note_trouble(error)
        else:
            if self._syncs_settlements:
                self._sync_or_give_up()

    def _rotate(self) -> None:
        """Go on in a new segment. The old one is synced first: a torn tail can then only be in the newest file.

        Raises OSError when that sync fails (``process`` promises nothing about the disk and goes on). When no new file
        can be made, the old one grows on.
        """
        old = self._active
        old.cool()
        try:
            self._disk.sync(old.fd)
        except OSError as error:
            if self.durability != "process":
                self._give_up(error)
                raise
            log.error("a sync of the journal %s failed: %s", old.path, error)
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
        self._active.cool()
        self._trouble = f"the journal cannot be written: {error.strerror or error}"
        self._wake.set()

    def _sync_or_give_up(self) -> None:
        segment = self._active
        segment.cool()
        try:
            self._disk.sync(segment.fd)
        except OSError as error:
            self._give_up(error)
        else:
            segment.confirm(segment.size, len(segment.pending))

    def _give_up(self, error: OSError) -> None:
        log.critical("a sync of the journal %s failed, no billed call is taken: %s", self._active.path, error)
        self._active.cool()
        self._fatal = f"a sync of the journal failed: {error.strerror or error}"
        self._wake.set()

    # The keeper: one thread that syncs, heals and closes files

    def _keep(self) -> None:
        while not self._closing:
            if self._nothing_to_do():
                self._wake.wait()
                self._wake.clear()
            self._close_retired()
            if self.durability == "group" and not self._fatal:
                time.sleep(self._group_s)
                self._sync_group()
            elif self.durability == "process":
                self._cool_later()
            if self.trouble:
                time.sleep(self._retry_s)
                self._heal()

    def _nothing_to_do(self) -> bool:
        """If so, the next line wakes the keeper, unless who settles does the keeper's work."""
        with self._lock:
            segment = self._active
            dirty = self.durability == "group" and segment.size > segment.synced
            warm = self.durability == "process" and segment.is_warm
            idle = not (dirty or warm or self._retired or self.trouble or self._closing)
            self._waits_for_a_line = idle and not self._syncs_settlements
            if idle:
                segment.cool()
            return idle

    def _cool_later(self) -> None:
        """Without syncs of ours, the kernel's own make it ask the file system again, at moments it tells nobody."""
        self._wake.wait(COOL_S)
        self._wake.clear()
        with self._lock:
            self._active.cool()

    def _close_retired(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for segment in retired:
            segment.close()

    def _sync_group(self) -> None:
        with self._lock:
            segment, size, lines = self._active, self._active.size, len(self._active.pending)
            if self._fatal or size == segment.synced:
                return
            segment.cool()
        try:
            self._disk.sync(segment.fd)
        except OSError as error:
            with self._lock:
                self._give_up(error)
            return
        with self._lock:
            if segment is self._active:
                segment.confirm(size, lines)
                segment.cool()

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
            self._disk.sync(fresh.fd)
            old.forget_unsynced()
        except OSError:
            fresh.close()
            fresh.path.unlink(missing_ok=True)
            raise
        fresh.confirm(fresh.size, len(fresh.pending))
        self._active = fresh
        self._retired.append(old)
        self._fatal = ""
        log.warning("the journal goes on in %s", fresh.path)

    def _save_waiting(self) -> None:
        while self._unsaved:
            self._append(self._unsaved[0])
            del self._unsaved[0]
        if self._trouble:
            self._append(frame(Probe()))
        if self._syncs_settlements:
            self._sync_or_give_up()

    def _last_try(self) -> None:
        try:
            if self._fatal:
                self._reopen()
            self._save_waiting()
            if self.durability != "process":
                self._disk.sync(self._active.fd)
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
    # A sign or a high bit in any of them is in their union.
    bits = usage.prompt_tokens | usage.completion_tokens | usage.cached_tokens | usage.reasoning_tokens
    if not 0 <= bits < TOKENS_MAX:
        settlement = msgspec.structs.replace(settlement, usage=_bounded(usage))
    try:
        return frame(Settled(attempt_id, settlement))
    except UnicodeEncodeError:
        error = settlement.error.encode("utf-8", "replace").decode()
        return frame(Settled(attempt_id, msgspec.structs.replace(settlement, error=error)))


def _bounded(usage: Usage) -> Usage:
    counts = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens
    prompt, completion, cached, reasoning = map(_tokens, counts)
    return Usage(prompt, completion, cached, reasoning, usage.provenance)


def _tokens(count: int) -> int:
    """A count that every reader of the journal can hold: an upstream may report any number."""
    return min(max(count, 0), TOKENS_MAX)
