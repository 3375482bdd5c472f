"""The data directory: what lies where in it, and its files that nobody else may read."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import create_private, private_directory, read_private

PEPPER_BYTES = 32
SECRET_MAX_CHARACTERS = 512


def database_path(home: Path) -> Path:
    return home / "arkway.db"


def journal_path(home: Path, worker: int = 1) -> Path:
    """The journal of one of a server's processes, which count from 1; the first one's is a lone process's too."""
    return home / "journal" if worker == 1 else home / "journal" / str(worker)


def journal_paths(home: Path) -> list[Path]:
    """Every journal that is there, of processes that are gone too."""
    first = journal_path(home)
    numbers = sorted(int(entry.name) for entry in first.glob("[1-9]*") if entry.is_dir() and entry.name.isdecimal())
    return [first, *(journal_path(home, number) for number in numbers if number > 1)]


def pepper_path(home: Path) -> Path:
    return home / "pepper"


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
    path = pepper_path(private_directory(home))
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
