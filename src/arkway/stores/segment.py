"""One file of the journal: appending whole lines, or nothing.

Where it can be, a segment is a file whose room is allocated beforehand and which is mapped: appending is a copy into
the kernel's memory, without a system call, and outlives the process as a ``write()`` does. What has not been written to
yet is zeros. Everywhere else a line is one ``write()`` (docs/decisions/0011).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
from pathlib import Path

from arkway.files import sync_directory

NAME = re.compile(r"^(\d{8})\.log$")

# Room that was allocated is overwritten in place by these. Others (btrfs, ZFS, network file systems) may need more room
# at any touch of a mapped page, and the process dies of a touch that fails.
MAPPABLE = frozenset({"ext4", "xfs", "tmpfs"})
MADV_POPULATE_WRITE = 23  # Linux 5.14; `mmap` has no name for it
# Beyond the end of the line that is appended; whole pages of it are written back with every sync.
AHEAD_BYTES = 16 << 10
# The line that makes a segment full has room for this; a longer one is written and not copied.
LAST_LINE_BYTES = 16 << 10


class Disk:
    """What a segment asks of the operating system. Every method raises OSError."""

    def write(self, fd: int, line: bytes) -> int:
        """How many octets were taken."""
        return os.write(fd, line)

    def sync(self, fd: int) -> None:
        """What was written and what was copied into a mapping is on the disk."""
        os.fdatasync(fd)

    def sync_names(self, directory: Path) -> None:
        """Names that were made, changed and deleted in the directory are so on the disk."""
        sync_directory(directory)

    def cut(self, fd: int, size_bytes: int) -> None:
        """The file ends there, and all of it is on the disk."""
        os.ftruncate(fd, size_bytes)
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """The descriptor is gone even where this raises, as network file systems do."""
        os.close(fd)

    def allocate(self, fd: int, size_bytes: int) -> None:
        """The file has this size, and room for it on the disk; zeros so far."""
        if _file_system(os.fstat(fd).st_dev) not in MAPPABLE:
            raise OSError(errno.EOPNOTSUPP, "the file system may need more room than was allocated")
        os.posix_fallocate(fd, 0, size_bytes)

    def warm(self, mapped: mmap.mmap, start: int, length: int) -> None:
        """The pages can be written to without asking the file system, which says here that it cannot take them."""
        mapped.madvise(MADV_POPULATE_WRITE, start, length)


class Segment:
    """An open segment. ``size`` counts the octets of complete lines, ``pending`` holds lines no sync has confirmed.

    ``full_bytes`` is the size at which another one is to follow, and no line is merely `copied` any more; 0 = it is
    written and not mapped. ``remembers`` says whether pending lines are wanted at all.

    A write that fails or stops half-way is undone by truncating to ``size``. When even that fails the segment is
    torn, and the next append tries to mend it first: octets of half a line never get a successor. A full mapping is
    torn in the same sense.
    """

    def __init__(
        self, path: Path, number: int, disk: Disk | None = None, *, full_bytes: int = 0, remembers: bool = True
    ) -> None:
        self.path = path
        self.number = number
        self.size = 0
        self.synced = 0
        self.pending: list[bytes] = []
        self._disk = disk or Disk()
        self._torn = False
        self._remembers = remembers
        self._full_bytes = full_bytes
        # Up to here a copy into the mapping asks nothing of the file system.
        self._warm_end = 0
        self._map: mmap.mmap | None = None
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._map = self._mapped()
        except BaseException:
            os.close(self.fd)
            path.unlink(missing_ok=True)
            raise

    @property
    def is_mapped(self) -> bool:
        return self._map is not None

    @property
    def is_warm(self) -> bool:
        """Whether lines may still be copied without asking the file system."""
        return self._warm_end > 0

    def copied(self, line: bytes) -> bool:
        """Copy the line into the mapping; False, with nothing done, where that is more than a copy just now.

        The collector may end a stream, and so append its settlement, in the middle of this: the place is taken first,
        in steps between which nothing is called.
        """
        length = len(line)
        start = self.size
        end = start + length
        if end > self._warm_end or self._map is None:
            return False
        self.size = end
        try:
            self._map[start:end] = line
        except BaseException:
            self._map[start:end] = line  # a place that was taken has to hold a line
            raise
        if self._remembers:
            self.pending.append(line)
        return True

    def append(self, line: bytes) -> None:
        """A copy into the mapping, or one ``write``. Raises OSError with nothing written."""
        while not self.copied(line):
            if not self._warmed(self.size + len(line)):
                self._append_written(line)
                return

    def confirm(self, size: int, lines: int) -> None:
        """A sync that began when the segment had ``size`` octets and ``lines`` pending lines has succeeded."""
        self.synced = size
        del self.pending[:lines]

    def cool(self) -> None:
        """A sync makes the kernel ask the file system again at the next touch of a page: say so before and after."""
        self._warm_end = 0

    def warm(self) -> None:
        """So that the next lines are merely copied. What the file system refuses here, it refuses the next line."""
        if self._warm_end == 0 and self._map is not None and self.size < self._full_bytes:
            with contextlib.suppress(OSError):
                self._warmed(self.size)

    def forget_unsynced(self) -> None:
        """What no sync has confirmed is no part of it any more. Raises OSError when it cannot be cut off the file."""
        self._unmap()
        self.size = self.synced
        self.pending.clear()
        self._disk.cut(self.fd, self.size)

    def rename(self, path: Path) -> None:
        """Raises OSError."""
        self.path = self.path.rename(path)

    def close(self) -> None:
        """Give back the room that was not used; readers stop at zeros where that fails."""
        self._unmap()
        with contextlib.suppress(OSError):
            if self._torn:
                self._mend()
        with contextlib.suppress(OSError):
            self._disk.close(self.fd)

    def discard(self) -> None:
        """As if it had never been. Raises OSError."""
        self.close()
        self.path.unlink(missing_ok=True)

    # Mapped

    def _mapped(self) -> mmap.mmap | None:
        """None where the file system or the kernel refuses, or the disk has too little room for all of it."""
        if not self._full_bytes:
            return None
        room_bytes, mapped = self._full_bytes + LAST_LINE_BYTES, None
        try:
            self._disk.allocate(self.fd, room_bytes)
            mapped = mmap.mmap(self.fd, room_bytes)
            self._disk.warm(mapped, 0, mmap.PAGESIZE)
        except (OSError, ValueError):
            if mapped is not None:
                mapped.close()
            os.ftruncate(self.fd, 0)
            return None
        return mapped

    def _warmed(self, end: int) -> bool:
        """Whether a line may be copied up to there; False = it has to be written. Raises OSError: nothing is taken."""
        if self._map is None or end > len(self._map):
            return False
        first = self.size - self.size % mmap.PAGESIZE
        page_end = min(_page_end(end + AHEAD_BYTES), len(self._map))
        try:
            self._disk.warm(self._map, first, page_end - first)
        except OSError as error:
            raise OSError(errno.EIO, "the file system takes no writes") from error
        self._warm_end = max(end, min(page_end, self._full_bytes))  # at which the journal has something to do
        return True

    def _unmap(self) -> None:
        self._warm_end = 0
        if self._map is not None:
            self._torn = True  # by the zeros of what was not used
            self._map.close()
            self._map = None

    # Written

    def _append_written(self, line: bytes) -> None:
        self._unmap()
        if self._torn:
            self._mend()
        try:
            written = self._disk.write(self.fd, line)
        except OSError:
            self._undo()
            raise
        if written != len(line):
            self._undo()
            raise OSError(errno.ENOSPC, "only part of the line was written")
        self.size += written
        if self._remembers:
            self.pending.append(line)

    def _undo(self) -> None:
        self._torn = True
        try:
            self._mend()
        except OSError:
            return

    def _mend(self) -> None:
        os.ftruncate(self.fd, self.size)
        self._torn = False


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}.log"


def draft_path(directory: Path, number: int) -> Path:
    """Where a segment is that is not to be read before all of it is on the disk."""
    return directory / f"{number:08d}.new"


def drop_drafts(directory: Path) -> None:
    """Whatever somebody began to write under such a name is of no use. Raises OSError."""
    for path in directory.glob("*.new"):
        path.unlink(missing_ok=True)


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of all segments in the directory, oldest first."""
    return sorted(int(found[1]) for found in map(NAME.match, os.listdir(directory)) if found)


def _page_end(at: int) -> int:
    return -(-at // mmap.PAGESIZE) * mmap.PAGESIZE


def _file_system(device: int) -> str:
    """The type of the mounted file system with this device number, from proc(5); empty when it is not known."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for mount in mounts:
            fields, _, described = mount.partition(" - ")
            if fields.split(" ", 3)[2] == wanted:
                return described.split(" ", 1)[0]
    return ""
