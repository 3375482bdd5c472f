"""Journals under test: what is in their files, and a disk that does what a test tells it."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from arkway.ports import Settlement
from arkway.stores.framing import Record, Settled, used
from arkway.stores.recovery import read_segment
from arkway.stores.segment import Disk, segment_numbers, segment_path


def records(directory: Path) -> list[Record]:
    """Everything in the directory, after checking that every line is whole, and that nothing follows but free room."""
    found: list[Record] = []
    for number in segment_numbers(directory):
        path = segment_path(directory, number)
        more, size = read_segment(path, is_last=False)
        assert not used(path.read_bytes()[size:])
        found += more
    return found


def settled(directory: Path) -> dict[str, Settlement]:
    endings: dict[str, Settlement] = {}
    for record in records(directory):
        if isinstance(record, Settled):
            endings.setdefault(record.attempt_id, record.settlement)
    return endings


class ScriptedDisk(Disk):
    """A disk whose writes fail by number (from 1), and that is full or cannot sync while it is told so. Pages need no
    warming on it: what a kernel without that advice does is not what the tests are about.

    ``allocates``: whether it has the room for mapped segments; a line is one write where it has not.
    """

    def __init__(
        self,
        *,
        allocates: bool = False,
        fail_writes: frozenset[int] = frozenset(),
        short: bool = False,
        code: int = errno.ENOSPC,
    ) -> None:
        self.allocates = allocates
        self.fail_writes, self.short, self.code = fail_writes, short, code
        self.fail_syncs = False
        self.full = False
        self.writes = self.syncs = self.warmed = self.allocated = 0

    def write(self, fd: int, line: bytes) -> int:
        self.writes += 1
        if not self.full and self.writes not in self.fail_writes:
            return super().write(fd, line)
        if self.short:
            return super().write(fd, line[: len(line) // 2])
        raise OSError(self.code, os.strerror(self.code))

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.fail_syncs:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(fd)

    def allocate(self, fd: int, size_bytes: int) -> None:
        self.allocated += 1
        if not self.allocates or self.full:
            os.ftruncate(fd, size_bytes)  # as a disk that fills up on the way
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, 0, size_bytes)

    def warm(self, mapped: mmap.mmap, start: int, length: int) -> None:
        self.warmed += 1
        if self.full:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
