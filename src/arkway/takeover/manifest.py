"""Every file that was changed for the takeover, written down before it was changed, and put back as it was.

``<home>/takeover/manifest.json`` lists the changes, ``backups`` holds the files as they were. The order makes it safe
to be killed at any point: backup, then manifest, then the change itself, which replaces the file at once; and on the
way back the file, then the manifest, then the backup. Names of drafts are in the manifest too, so that none is left.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from arkway.core.errors import Misconfigured
from arkway.files import PRIVATE, private_directory, replace, sync_directory

CREATED_MODE = 0o644


class Before(msgspec.Struct, frozen=True):
    """A file as it was."""

    sha256: str
    size_bytes: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int


class Entry(msgspec.Struct, frozen=True):
    """One change: ``before`` is None where there was no file. ``target``: whose trust, such as ``python``."""

    id: str
    target: str
    path: str
    draft: str
    before: Before | None
    after_sha256: str
    ca_sha256: str
    at_s: int


class Restored(msgspec.Struct, frozen=True):
    """What became of one entry: ``restored``, ``unchanged`` (it never was changed), ``gone`` or ``forgotten``."""

    path: str
    target: str
    outcome: str


class _Kept(msgspec.Struct, frozen=True):
    version: int = 1
    entries: tuple[Entry, ...] = ()


class Manifest:
    """The changes of one folder (``<home>/takeover``). Every method raises Misconfigured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "manifest.json"
        self._backups = folder / "backups"

    @contextmanager
    def alone(self) -> Generator[None]:
        """While the block runs, no other process changes anything."""
        private_directory(self._folder)
        with (self._folder / "manifest.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def entries(self) -> tuple[Entry, ...]:
        """The changes that are not undone, oldest first."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Kept).entries
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise Misconfigured(
                f"{self._file} cannot be read ({error}), and it says which files were changed; "
                f"what they were is in {self._backups}"
            ) from None

    def entry(self, path: Path) -> Entry | None:
        """The change of this file that is not undone."""
        return next((each for each in self.entries() if each.path == str(path)), None)

    def changed(self, entry: Entry) -> bool:
        """Whether the file is what the change made of it."""
        return _sha256(Path(entry.path)) == entry.after_sha256

    def change(self, path: Path, content: bytes, *, target: str, ca_sha256: str, now_s: int) -> Entry:
        """Gives the file this content, once what it was is safe. ``path`` is absolute and no symbolic link.

        An earlier change of the same file is undone first. Within `alone`.
        """
        self.undo(path)
        before = _before(path)
        name = secrets.token_hex(8)
        draft = path.with_name(f".{path.name}.arkway-{name}")
        entry = Entry(name, target, str(path), str(draft), before, _digest(content), ca_sha256, now_s)
        try:
            if before is not None:
                self._keep(path, entry, before)
            self._write((*self.entries(), entry))
            _put(path, draft, content, before)
        except OSError as error:
            self._undo(entry, force=False)
            raise Misconfigured(
                f"{error.filename or path} cannot be written: {error.strerror}; nothing was changed"
            ) from None
        return entry

    def undo(self, path: Path) -> None:
        """Undoes the change of one file, where there is one. Within `alone`."""
        found = self.entry(path)
        if found is not None:
            self._undo(found, force=False)

    def restore(self, *, force: bool = False, forget: bool = False) -> tuple[Restored, ...]:
        """Undoes every change, the latest first.

        A file that somebody else has changed since stays as it is, and so does its entry: after all others are
        restored, Misconfigured says how to go on. ``force`` puts back what there was over it, ``forget`` leaves it.
        Within `alone`.
        """
        done: list[Restored] = []
        refused: list[str] = []
        for entry in reversed(self.entries()):
            try:
                done.append(self._undo(entry, force=force, forget=forget))
            except Misconfigured as error:
                refused.append(error.message)
        if refused:
            raise Misconfigured("; ".join(refused))
        self._sweep()
        return tuple(done)

    def _undo(self, entry: Entry, *, force: bool, forget: bool = False) -> Restored:
        path, draft = Path(entry.path), Path(entry.draft)
        try:
            draft.unlink(missing_ok=True)
            outcome = self._outcome(entry, path, force=force, forget=forget)
            if outcome == "restored" and entry.before is None:
                path.unlink()
                sync_directory(path.parent)
            elif outcome == "restored" and entry.before is not None:
                _put(path, draft, self._backup(entry, entry.before), entry.before)
            self._write(tuple(each for each in self.entries() if each.id != entry.id))
            (self._backups / entry.id).unlink(missing_ok=True)
        except OSError as error:
            raise Misconfigured(f"{error.filename or path} cannot be restored: {error.strerror}") from None
        return Restored(entry.path, entry.target, outcome)

    def _outcome(self, entry: Entry, path: Path, *, force: bool, forget: bool) -> str:
        found = _sha256(path)
        if found == entry.after_sha256:
            return "restored"
        if found == (entry.before.sha256 if entry.before else ""):
            return "unchanged"
        if forget:
            return "forgotten"
        if not found and not (entry.before and path.parent.exists()):
            return "gone"
        if force:
            return "restored"
        raise Misconfigured(self._conflict(entry, found))

    def _conflict(self, entry: Entry, found: str) -> str:
        what = f"its sha256 is {found}" if found else "it is gone"
        backup = f"{self._backups / entry.id}, as it was" if entry.before else "nothing: it was made for the takeover"
        return (
            f"{entry.path} was changed by somebody else since the takeover changed it ({what}) and is left alone; "
            f"its backup is {backup}. `arkway takeover stop --force` puts that in its place; or take our certificate "
            "out of it yourself and run `arkway takeover stop --forget`"
        )

    def _keep(self, path: Path, entry: Entry, before: Before) -> None:
        content = path.read_bytes()
        if _digest(content) != before.sha256:
            raise Misconfigured(f"{path} is being changed by somebody else; try again")
        private_directory(self._backups)
        replace(self._backups / entry.id, content)

    def _backup(self, entry: Entry, before: Before) -> bytes:
        content = (self._backups / entry.id).read_bytes()
        if _digest(content) != before.sha256:
            raise Misconfigured(f"the backup of {entry.path}, {self._backups / entry.id}, is damaged and not put back")
        return content

    def _write(self, entries: tuple[Entry, ...]) -> None:
        replace(self._file, msgspec.json.format(msgspec.json.encode(_Kept(entries=entries)), indent=2))

    def _sweep(self) -> None:
        """What a crash may have left in our own folder, once nothing of it is needed any more."""
        for leftover in (*self._backups.glob("*"), *self._folder.glob("manifest.json*")):
            leftover.unlink(missing_ok=True)


def _before(path: Path) -> Before | None:
    try:
        found = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None
    if content is None:
        raise Misconfigured(f"{path} is no file")
    mode = stat.S_IMODE(found.st_mode)
    return Before(_digest(content), len(content), mode, found.st_mtime_ns, found.st_uid, found.st_gid)


def _put(path: Path, draft: Path, content: bytes, before: Before | None) -> None:
    """Replaces the file at once, with mode and owner as before; and with its time, where the content is as before.

    A new file takes the place of the old one: others that share the old one's content (hard links) are not touched.
    """
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        held = os.fstat(file.fileno())
        if before is not None and (held.st_uid, held.st_gid) != (before.uid, before.gid):
            os.fchown(file.fileno(), before.uid, before.gid)
        os.fchmod(file.fileno(), before.mode if before else CREATED_MODE)
        if before is not None and _digest(content) == before.sha256:
            os.utime(file.fileno(), ns=(before.mtime_ns, before.mtime_ns))
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def _sha256(path: Path) -> str:
    """Of the file's content; empty where there is none."""
    try:
        return _digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
