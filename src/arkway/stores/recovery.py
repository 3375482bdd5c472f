"""Reading the journal a dead process left behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from arkway.core.chat import Usage
from arkway.core.errors import Misconfigured
from arkway.files import replace
from arkway.ports import Attempt, Settlement
from arkway.stores.framing import (
    BadLine,
    Opened,
    Probe,
    Record,
    Settled,
    Spent,
    is_torn,
    unframed,
    used,
    without_gaps,
)
from arkway.stores.segment import Disk, drop_drafts, segment_numbers, segment_path

# Longer than any that voids something.
FIRST_LINE_MAX_BYTES = 256

log = logging.getLogger("arkway.journal")


def interrupted(directory: Path, now_ms: int, disk: Disk) -> list[Settled]:
    """The missing ends of attempts that a dead process left open, each at its last checkpoint.

    Cuts a torn tail off the last segment, and out of it what never reached the disk before a power cut (a copy stays
    beside it, ending in ``.torn``). All that is left is on the disk then. Raises Misconfigured on damage anywhere else,
    and OSError.
    """
    spent: dict[str, Spent] = {}
    opened: dict[str, Attempt] = {}
    for record in _records(directory, disk):
        match record:
            case Opened(attempt):
                opened[attempt.id] = attempt
            case Spent(attempt_id) if attempt_id in opened:
                spent[attempt_id] = record
            case Settled(attempt_id):
                opened.pop(attempt_id, None)
                spent.pop(attempt_id, None)
            case _:
                pass
    return [_ending(attempt, spent.get(attempt.id), now_ms) for attempt in opened.values()]


def _ending(attempt: Attempt, spent: Spent | None, now_ms: int) -> Settled:
    usage = Usage(
        prompt_tokens=spent.prompt_tokens if spent else 0,
        completion_tokens=spent.completion_tokens if spent else 0,
        provenance="counted",
    )
    return Settled(attempt.id, Settlement("interrupted", usage, max(now_ms, attempt.opened_ms)))


def _records(directory: Path, disk: Disk) -> Iterator[Record]:
    _finish_reopening(directory, disk)
    numbers = segment_numbers(directory)
    for number in numbers:
        path = segment_path(directory, number)
        is_last = number == numbers[-1]
        if is_last:
            _close_gaps(path)
        records, good_bytes = read_segment(path, is_last=is_last)
        if is_last or good_bytes < path.stat().st_size:
            _cut(path, good_bytes, disk)
        yield from records


def _finish_reopening(directory: Path, disk: Disk) -> None:
    """Cut off what was written anew in a later file and is void where it was."""
    drop_drafts(directory)
    for number, end in ends_of(directory).items():
        path = segment_path(directory, number)
        if path.exists() and path.stat().st_size > end:
            log.warning("what follows byte %d of %s has been written anew in a later file", end, path)
            _shorten(path, end, disk)


def ends_of(directory: Path) -> dict[int, int]:
    """Where some segments end, in octets, whatever their files hold: what follows is void. Raises OSError."""
    first = (_first_record(segment_path(directory, number)) for number in segment_numbers(directory))
    return {record.voids: record.from_bytes for record in first if isinstance(record, Probe) and record.voids}


def _first_record(path: Path) -> Record | None:
    try:
        with path.open("rb") as file:
            return unframed(file.readline(FIRST_LINE_MAX_BYTES)[:-1])
    except (BadLine, FileNotFoundError):
        return None


def read_segment(path: Path, *, is_last: bool) -> tuple[list[Record], int]:
    """Every record of the file, and the octets they take. Raises Misconfigured on anything but a torn tail.

    Room at the end that was not used is no part of the file's content.
    """
    data = used(path.read_bytes())
    records: list[Record] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        try:
            if end < 0:
                raise BadLine("the last line is cut off")
            records.append(unframed(data[start:end]))
        except BadLine as error:
            if is_last and is_torn(data[start:]):
                break
            raise Misconfigured(_damage(path, start, len(records) + 1, str(error))) from error
        start = end + 1
    return records, start


def _damage(path: Path, offset: int, line: int, reason: str) -> str:
    return (
        f"the journal file {path} is damaged at byte {offset} (line {line}): {reason}. Nothing was changed. Restore "
        f"the file from a backup, or accept the loss of that line's call with: sed -i.damaged '{line}d' {path}"
    )


def _close_gaps(path: Path) -> None:
    data = used(path.read_bytes())
    kept = without_gaps(data)
    if kept == data or not _is_whole_but_for_its_end(kept):
        return
    _keep_beside(path, data)
    replace(path, kept)
    log.error("lines of %d bytes had not reached the disk before the machine stopped: %s", len(data) - len(kept), path)


def _is_whole_but_for_its_end(data: bytes) -> bool:
    start = 0
    for line in data.split(b"\n")[:-1]:
        try:
            unframed(line)
        except BadLine:
            break
        start += len(line) + 1
    return start == len(data) or is_torn(data[start:])


def _cut(path: Path, good_bytes: int, disk: Disk) -> None:
    """End the file there, with a copy of what is cut off beside it."""
    torn = used(path.read_bytes()[good_bytes:])
    if torn:
        _keep_beside(path, torn)
        log.warning("cut a half-written line of %d bytes off %s", len(torn), path)
    _shorten(path, good_bytes, disk)


def _shorten(path: Path, size_bytes: int, disk: Disk) -> None:
    """Durably, with all that stays: no later segment is ever on the disk before this, which the kernel may still have
    had in its memory alone. A torn tail can only be in the newest file."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.cut(fd, size_bytes)
    finally:
        os.close(fd)
    disk.sync_names(path.parent)


def _keep_beside(path: Path, octets: bytes) -> None:
    with open(path.with_name(path.name + ".torn"), "ab", opener=_private) as copy:
        copy.write(octets)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
