"""The data directory: what lies where in it, and its files that nobody else may read."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.stores.segment import sync_directory

PEPPER_BYTES = 32
SECRET_MAX_CHARACTERS = 512


def database_path(home: Path) -> Path:
    return home / "arkway.db"


def journal_path(home: Path) -> Path:
    return home / "journal"


def private_directory(path: Path) -> Path:
    """Make the directory, closed to everybody else, unless it is there. Raises Misconfigured."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"the data directory {path} cannot be made: {error.strerror}; choose another one"
        ) from error
    return path


class Pepper:
    """The key under which API keys are hashed: without the file, the digests in a stolen database are worthless."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, secret: str) -> bytes:
        """HMAC-SHA256 of the secret, 32 bytes. Anything past 512 characters is not looked at: no key is that long."""
        return hmac.digest(self._key, secret[:SECRET_MAX_CHARACTERS].encode("utf-8", "surrogatepass"), "sha256")


def pepper(home: Path) -> Pepper:
    """The pepper of this data directory, made on first use.

    Raises Misconfigured when other users can read the file or when it is not whole.
    """
    path = private_directory(home) / "pepper"
    try:
        if not path.exists():
            create_private(path, secrets.token_bytes(PEPPER_BYTES))
        key = read_private(path, PEPPER_BYTES + 1, "the API keys")
    except OSError as error:
        raise StoreUnavailable(f"the file {path} cannot be read: {error.strerror}") from error
    if len(key) != PEPPER_BYTES:
        raise Misconfigured(
            f"{path} is not {PEPPER_BYTES} bytes long; restore it from a backup, "
            "or delete it and create every API key anew"
        )
    return Pepper(key)


def create_private(path: Path, content: bytes) -> None:
    """Make the file, for its owner alone, unless it is there. Raises OSError.

    The whole file is written under another name, then linked: of two processes that start at once, one succeeds, and
    both find the same content.
    """
    draft = _draft(path, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    sync_directory(path.parent)


def replace_private(path: Path, content: bytes) -> None:
    """Put this content in the place of the file's; a crash leaves the one or the other, whole. Raises OSError."""
    draft = _draft(path, content)
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
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        content = os.read(fd, limit_bytes)
    finally:
        os.close(fd)
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"other users can read {path}, which guards {guarded}; run: chmod 600 {path}")
    return content


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
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
