"""A folder compared with what a collection has of it: what has been added, what has changed, what is gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from arkway.core.errors import InvalidField
from arkway.core.knowledge import Document
from arkway.knowledge.holdings import SOURCE_MAX_CHARACTERS, UPLOAD_MAX_BYTES
from arkway.knowledge.ingestion import fingerprint
from arkway.knowledge.parsing import Unreadable, kind_of
from arkway.knowledge.parsing.parsed import shown_mib


class Found(msgspec.Struct, frozen=True):
    """A file, and what its document is called: the folder's label, and the path below the folder."""

    source: str
    path: str


class Skipped(msgspec.Struct, frozen=True):
    """A file that is not taken, and why."""

    path: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """What a sync does. ``gone`` are documents whose files are not there any more."""

    added: tuple[Found, ...]
    changed: tuple[Found, ...]
    unchanged: int
    gone: tuple[Document, ...]
    skipped: tuple[Skipped, ...]


def compared(folder: Path, label: str, documents: Iterable[Document], chunk_chars: int) -> Plan:
    """Reads every file that is taken. Documents that do not come from a folder of this label are left alone.

    Raises InvalidField for a folder or a label that is none.
    """
    if not label or "/" in label or not label.isprintable():
        raise InvalidField("the label of a folder is one name without slashes; say it with --as", "as")
    there = {each.source: each for each in documents if each.source.startswith(f"{label}/")}
    added, changed, skipped, unchanged = list[Found](), list[Found](), list[Skipped](), 0
    kept = set()
    for path in files(folder):
        source = f"{label}/{path.relative_to(folder).as_posix()}"
        kept.add(source)
        try:
            reason = why_not(path) or why_not_called(source)
            is_new = source not in there
            differs = not reason and not is_new and is_changed(path, there[source], chunk_chars)
        except OSError as error:
            reason, is_new, differs = f"it cannot be read: {error.strerror}", False, False
        if reason:
            skipped.append(Skipped(shown_path(path), reason))
        elif is_new or differs:
            (added if is_new else changed).append(Found(source, str(path)))
        else:
            unchanged += 1
    gone = tuple(document for source, document in there.items() if source not in kept)
    return Plan(tuple(added), tuple(changed), unchanged, gone, tuple(skipped))


def files(folder: Path) -> Iterator[Path]:
    """Every file below it in order, but for hidden ones; links are not followed. Raises InvalidField."""
    if not folder.is_dir():
        raise InvalidField(f"{folder} is not a folder", "folder")
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def shown_path(path: Path) -> str:
    """As it can be printed, whatever its bytes are."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(path))


def why_not_called(source: str) -> str:
    """Why no document can be called that; "" where one can."""
    if not source.isprintable():
        return "its name has characters that cannot be printed"
    return f"its path has more than {SOURCE_MAX_CHARACTERS} characters" if len(source) > SOURCE_MAX_CHARACTERS else ""


def why_not(path: Path) -> str:
    """Why a file is not taken; "" for one that is. Raises OSError."""
    try:
        kind_of(path.name)
    except Unreadable as error:
        return error.message
    if not os.access(path, os.R_OK):
        return "it may not be read"
    size_bytes = path.stat().st_size
    if not size_bytes:
        return "the file is empty"
    if size_bytes > UPLOAD_MAX_BYTES:
        return f"the file has {shown_mib(size_bytes)}, and {shown_mib(UPLOAD_MAX_BYTES)} is the limit"
    return ""


def is_changed(path: Path, document: Document, chunk_chars: int, meta: Mapping[str, str] | None = None) -> bool:
    return fingerprint(path.read_bytes(), path.name, chunk_chars, meta) != document.content_hash
