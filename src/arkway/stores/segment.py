"""One file of the journal: appending whole lines, or nothing."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

NAME = re.compile(r"^(\d{8})\.log$")

Write = Callable[[int, bytes], int]


class Segment:
    """An open segment. ``size`` counts the octets of complete lines, ``pending`` holds lines no sync has confirmed.

    A write that fails or stops half-way is undone by truncating to ``size``. When even that fails the segment is
    torn, and the next append tries to mend it first: octets of half a line never get a successor. ``remembers`` says
    whether pending lines are wanted at all.
    """

    def __init__(self, path: Path, number: int, write: Write = os.write, *, remembers: bool = True) -> None:
        self.path = path
        self.number = number
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.synced = 0
        self.pending: list[bytes] = []
        self._torn = False
        self._write = write
        self._remembers = remembers

    def append(self, line: bytes) -> None:
        """One ``write``. Raises OSError with nothing written."""
        if self._torn:
            self._mend()
        try:
            written = self._write(self.fd, line)
        except OSError:
            self._undo()
            raise
        if written != len(line):
            self._undo()
            raise OSError(errno.ENOSPC, "only part of the line was written")
        self.size += written
        if self._remembers:
            self.pending.append(line)

    def confirm(self, size: int, lines: int) -> None:
        """A sync that began when the segment had ``size`` octets and ``lines`` pending lines has succeeded."""
        self.synced = size
        del self.pending[:lines]

    def forget_unsynced(self) -> None:
        """Cut off what no sync has confirmed. Raises OSError."""
        os.ftruncate(self.fd, self.synced)
        os.fsync(self.fd)
        self.size = self.synced
        self.pending.clear()

    def close(self) -> None:
        os.close(self.fd)

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


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of all segments in the directory, oldest first."""
    return sorted(int(found[1]) for found in map(NAME.match, os.listdir(directory)) if found)
