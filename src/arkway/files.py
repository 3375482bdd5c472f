"""Files that are there whole or not at all, and those that nobody but their owner may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from arkway.core.errors import Misconfigured

PRIVATE = 0o600


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
