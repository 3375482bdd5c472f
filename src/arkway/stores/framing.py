"""How one record becomes one line of the journal, and back. Pure.

A line is eight hex digits of CRC-32 (zlib's, over the JSON octets), a space, compact JSON and ``\\n``. JSON text never
holds a raw line feed, so a line that lacks one was cut off while it was written.
"""

from __future__ import annotations

import re
from zlib import crc32

import msgspec

from arkway.ports import Attempt, Settlement

HEAD_BYTES = 9


class Opened(msgspec.Struct, frozen=True, tag_field="t", tag="open"):
    """An attempt begins."""

    attempt: Attempt


class Spent(msgspec.Struct, frozen=True, tag_field="t", tag="spent"):
    """Totals so far of one attempt, in tokens."""

    attempt_id: str
    prompt_tokens: int
    completion_tokens: int


class Settled(msgspec.Struct, frozen=True, tag_field="t", tag="settle"):
    """An attempt ends."""

    attempt_id: str
    settlement: Settlement


class Probe(msgspec.Struct, frozen=True, tag_field="t", tag="probe"):
    """Means nothing: written to find out whether the disk takes writes again."""


Record = Opened | Spent | Settled | Probe

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_LINE_START = re.compile(rb"[0-9a-f]{8} \{")


class BadLine(ValueError):
    """These octets are not a line of the journal."""


def frame(record: Record) -> bytes:
    """The record's line, line feed included."""
    payload = _encode(record)
    return b"%08x %b\n" % (crc32(payload), payload)


def unframed(line: bytes) -> Record:
    """The record of a line without its line feed. Raises BadLine with a reason for the operator."""
    payload = line[HEAD_BYTES:]
    if line[:HEAD_BYTES] != b"%08x " % crc32(payload):
        raise BadLine("the checksum does not match the line")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(f"the checksum is right, but this version does not know the record ({error})") from error


def is_torn(tail: bytes) -> bool:
    """Can these last octets of a file come from one write that was cut off?

    False when a whole record hides behind their start: then a line feed between two records was destroyed, and cutting
    the tail off would lose a record that was written completely.
    """
    if b"\n" in tail[:-1]:
        return False
    return not any(_is_line(tail[found.start() :].rstrip(b"\n")) for found in _LINE_START.finditer(tail, 1))


def _is_line(line: bytes) -> bool:
    return line[:HEAD_BYTES] == b"%08x " % crc32(line[HEAD_BYTES:])
