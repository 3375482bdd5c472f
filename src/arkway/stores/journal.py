"""The ledger as a local append-only journal: one line for each reserve, checkpoint and settle, in a mapped file.

What a process crash cannot undo: everything (the lines are in the kernel's page cache when the method returns). What a
power cut can undo depends on the durability: ``group`` at most the last ``group_s`` plus one sync, ``sync`` nothing
that was settled, ``process`` whatever the kernel had not written back.

Nothing on the road of a call wakes another thread or asks the kernel for anything while there is traffic: the keeper
looks by itself every ``group_s``, makes room for the next lines after each sync, and is only woken for the first line
after a second without any.

Disk trouble. A write that fails refuses the attempt (StoreUnavailable, HTTP 503) and heals by itself. A settlement that
cannot be written waits in memory and is tried again every ``retry_s``. A sync that fails says nothing about what is on
the disk any more, and says so once, so the segment is given up: nothing is taken until its unconfirmed lines are
written and synced in a new one. Nobody else syncs a segment while the keeper does.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import FileLock
from arkway.ports import Attempt, Settlement
from arkway.stores.framing import Opened, Probe, Spent, bounded, frame, settled_line
from arkway.stores.recovery import interrupted
from arkway.stores.segment import Disk, Segment, draft_path, drop_drafts, segment_numbers, segment_path

Durability = Literal["process", "group", "sync"]

SEGMENT_BYTES = 8 << 20
# How far a segment grows beyond its size while it waits for a sync.
OVERDUE_BYTES = 8 << 20
COOL_S = 1.0
QUIET_S = 1.0

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
        self._syncing = False
        self._ends: dict[int, int] = {}
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
        line = frame(Spent(attempt_id, bounded(prompt_tokens), bounded(completion_tokens)))
        with self._lock:
            if not self._active.copied(line):
                self._checkpoint(line)

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        """Write the closing entry. Never raises for disk trouble: what cannot be written waits and is tried again."""
        line = settled_line(attempt_id, settlement)
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

    def end_of(self, number: int) -> int:
        """Where the lines of an older segment end at the latest: what follows was written anew in a later one."""
        return self._ends.get(number, sys.maxsize)

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
        try:
            self._disk.sync_names(self.directory.parent)
            endings = interrupted(self.directory, now_ms, self._disk)
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
        segment = self._drafted(segment_path)
        try:
            self._disk.sync_names(self.directory)
        except OSError:
            segment.discard()
            raise
        return segment

    def _drafted(self, place: Callable[[Path, int], Path]) -> Segment:
        """The next segment, under a name that it may not keep."""
        number = max(segment_numbers(self.directory), default=0) + 1
        remembers = self.durability != "process"
        path = place(self.directory, number)
        return Segment(path, number, self._disk, full_bytes=self._segment_bytes, remembers=remembers)

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
                self._make_room()
            self._active.append(line)
        except OSError:
            self._unsaved += self._nested
            self._nested.clear()
            raise
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

    def _make_room(self) -> None:
        """A new segment follows, but not in the middle of the keeper's sync: the kernel tells of an error once, and of
        two syncs of one file only one would hear of it. Raises OSError when that takes all too long.
        """
        if not self._syncing:
            self._rotate()
        elif self._active.size >= self._rotate_at_bytes + OVERDUE_BYTES:
            raise OSError(errno.EBUSY, "a sync has been under way for too long")

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
        quiet = looks = int(QUIET_S / self._group_s) if self.durability == "group" else 0
        while not self._closing:
            if quiet >= looks and self._nothing_to_do():
                self._wake.wait()
                self._wake.clear()
                quiet = 0
            self._close_retired()
            if self.durability == "group" and not self._fatal:
                time.sleep(self._group_s)
                quiet = 0 if self._sync_group() else quiet + 1
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

    def _sync_group(self) -> bool:
        """True where there was something to sync. The next line finds the segment warm."""
        with self._lock:
            segment, size, lines = self._active, self._active.size, len(self._active.pending)
            if self._fatal or size == segment.synced:
                return False
            segment.cool()
            self._syncing = True
        trouble: OSError | None = None
        try:
            self._disk.sync(segment.fd)
        except OSError as error:
            trouble = error
        with self._lock:
            self._syncing = False
            if trouble is not None:
                self._give_up(trouble)
                return True
            segment.confirm(size, lines)
            segment.cool()
            if not (self.trouble or self._closing):
                segment.warm()
        return True

    def _heal(self) -> None:
        with self._lock:
            try:
                if self._fatal:
                    self._reopen()
                self._save_waiting()
            except OSError as error:
                log.debug("the journal does not take writes yet: %s", error)

    def _reopen(self) -> None:
        """Go on in a new segment, with the lines that no sync has confirmed. Raises OSError and changes nothing.

        It gets a segment's name when all of it is on the disk. From then on its first line voids what the old one has
        beyond its last sync, torn or not: whether that can be cut off as well is no matter.
        """
        old, fresh = self._active, self._written_anew()
        fresh.confirm(fresh.size, len(fresh.pending))
        self._active, self._rotate_at_bytes = fresh, self._segment_bytes
        self._ends[old.number] = old.synced
        try:
            old.forget_unsynced()
        except OSError as error:
            log.error("what was written anew stays in %s as well: %s", old.path, error)
        self._retired.append(old)
        self._fatal = ""
        log.warning("the journal goes on in %s", fresh.path)

    def _written_anew(self) -> Segment:
        old = self._active
        drop_drafts(self.directory)
        fresh = self._drafted(draft_path)
        try:
            for line in (frame(Probe(old.number, old.synced)), *old.pending):
                fresh.append(line)
            self._disk.sync(fresh.fd)
            fresh.rename(segment_path(self.directory, fresh.number))
            self._disk.sync_names(self.directory)
        except OSError:
            fresh.discard()
            raise
        return fresh

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
