"""Locks between processes, by ``flock``: the kernel drops them when their owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arkway.core.errors import StoreUnavailable

FIRST_WAIT_S = 0.001
LONGEST_WAIT_S = 0.05


class FileLock:
    """One lock file, open for as long as this object lives. Two objects on one path exclude each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock (or change its kind) if that is possible at once."""
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout_s: float) -> None:
        """Take the lock exclusively. Raises StoreUnavailable when another process keeps it for ``timeout_s``."""
        if self.take():
            return
        deadline, pause = time.monotonic() + timeout_s, FIRST_WAIT_S
        while not self.take():
            if time.monotonic() >= deadline:
                raise StoreUnavailable(f"another process has held the lock {self.path} for {timeout_s:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT_S)

    @contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        self.wait(timeout_s)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def note(self, text: str) -> None:
        """Leave a word in the file for whoever finds it locked."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def read_note(self) -> str:
        return os.pread(self._fd, 64, 0).decode("ascii", "replace").strip()

    def close(self) -> None:
        """Give the lock up and close the file; the file itself stays, or two owners could hold two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
