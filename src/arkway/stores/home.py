"""The data directory: what lies where in it, and the secret that only it holds."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from arkway.core.errors import Misconfigured, StoreUnavailable

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
            _create(path)
        return Pepper(_read(path))
    except OSError as error:
        raise StoreUnavailable(f"the file {path} cannot be read: {error.strerror}") from error


def _create(path: Path) -> None:
    """Write the whole file under another name, then link it: two processes that start at once agree on one pepper."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(PEPPER_BYTES))
        os.fsync(fd)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        os.close(fd)
        draft.unlink()


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        key = os.read(fd, PEPPER_BYTES + 1)
    finally:
        os.close(fd)
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"other users can read {path}, which guards the API keys; run: chmod 600 {path}")
    if len(key) != PEPPER_BYTES:
        raise Misconfigured(
            f"{path} is not {PEPPER_BYTES} bytes long; restore it from a backup, "
            "or delete it and create every API key anew"
        )
    return key
