"""Files that are there whole or not at all, those that nobody but their owner may read, and locks between processes."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arkway.core.errors import Misconfigured, StoreUnavailable

PRIVATE = 0o600
FIRST_WAIT_S = 0.001
LONGEST_WAIT_S = 0.05


def private_directory(path: Path) -> Path:
    """Make the directory, closed to everybody else, unless it is there. Raises Misconfigured."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"the data directory {path} cannot be made: {error.strerror}; choose another one"
        ) from error
    return path


def create_private(path: Path, content: bytes) -> None:
    """Make the file, for its owner alone, unless it is there. Raises OSError.

    The whole file is written under another name, then linked: of two processes that start at once, one succeeds, and
    both find the same content.
    """
    draft = _draft(path, content, PRIVATE)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    sync_directory(path.parent)


def replace(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Put this content in the place of the file's; a crash leaves the one or the other, whole. Raises OSError."""
    draft = _draft(path, content, mode)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise
    sync_directory(path.parent)


def read_private(path: Path, limit_bytes: int, guarded: str) -> bytes:
    """At most that much of a file that no other user may read; ``guarded`` says what it guards.

    Raises OSError, and Misconfigured when others can read it.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(limit_bytes)
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"other users can read {path}, which guards {guarded}; run: chmod 600 {path}")
    return content


def sync_directory(directory: Path) -> None:
    """Make created, renamed and deleted names in the directory survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FileLock:
    """One lock file, open for as long as this object lives. Two objects on one path exclude each other.

    By ``flock``: the kernel drops the lock when its owner dies, however it dies.
    """

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

    @property
    def closed(self) -> bool:
        """Whether it can be taken no more."""
        return self._fd < 0

    def close(self) -> None:
        """Give the lock up and close the file; the file itself stays, or two owners could hold two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _draft(path: Path, content: bytes, mode: int) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        # One write() may take a part of it, on a disk that is almost full: a file object goes on, or raises.
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink()
        raise
    return draft
