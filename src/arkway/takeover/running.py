"""Which takeover listens for a data directory: one at most, known by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from arkway.core.errors import Misconfigured
from arkway.files import private_directory, replace

CLAIM_S = 1.0
POLL_S = 0.05


class Running(msgspec.Struct, frozen=True):
    """A listener: its process, ``url`` of the proxy, ``server`` that everything is passed to, hosts taken over."""

    pid: int
    url: str
    server: str
    hosts: tuple[str, ...]
    ca: str
    started_at_s: int


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """While the block runs, this process is the one that listens. Raises Misconfigured where another one does."""
    with (private_directory(folder) / "listener.lock").open("w") as lock:
        if not _locked(lock.fileno(), fcntl.LOCK_EX, CLAIM_S):
            found = running(folder)
            where = f" at {found.url} (process {found.pid})" if found else ""
            raise Misconfigured(f"a takeover listens already{where}; `arkway takeover stop` ends it")
        try:
            yield
        finally:
            _state(folder).unlink(missing_ok=True)


def announce(folder: Path, listener: Running) -> None:
    """Tells other processes. Within `claimed`; raises OSError."""
    replace(_state(folder), msgspec.json.encode(listener))


def running(folder: Path) -> Running | None:
    """The listener that runs, None where none does or it has not said yet where it is."""
    try:
        with (folder / "listener.lock").open("r") as lock:
            if _locked(lock.fileno(), fcntl.LOCK_SH, 0):
                return None
        return msgspec.json.decode(_state(folder).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def end(folder: Path, patience_s: float) -> Running | None:
    """Ends the listener that runs, and waits for it; None where none does. Raises Misconfigured where it stays."""
    found = running(folder)
    if found is None:
        return None
    for which in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(found.pid, which)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise Misconfigured(
                f"the takeover's process {found.pid} belongs to another user; stop it as that user"
            ) from None
        if _gone(folder, patience_s):
            with suppress(FileNotFoundError):
                _state(folder).unlink()
            return found
    raise Misconfigured(f"the takeover's process {found.pid} does not end; kill it, then run this again")


def _gone(folder: Path, patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while running(folder) is not None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def _locked(fd: int, kind: int, patience_s: float) -> bool:
    """Takes the lock; False where another process keeps it for so long. Those that only look hold it for a moment."""
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(POLL_S)
        else:
            return True


def _state(folder: Path) -> Path:
    return folder / "listener.json"
