"""How one record becomes one line of the journal, and back. Pure.

A line is eight hex digits of CRC-32 (zlib's, over the JSON octets), a space, compact JSON and ``\\n``. JSON text never
holds a raw line feed, so a line that lacks one was cut off while it was written. It never holds a zero octet either:
zeros at the end of a file are room that was allocated and not used, zeros before that never reached the disk.
"""

from __future__ import annotations

import re
from zlib import crc32

import msgspec

from arkway.core.chat import Usage
from arkway.ports import Attempt, Settlement

HEAD_BYTES = 9
# What a disk writes whole or not at all.
SECTOR_BYTES = 512
TOKENS_MAX = 1 << 53


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


class Probe(msgspec.Struct, frozen=True, tag_field="t", tag="probe", omit_defaults=True):
    """No attempt's: written to find out whether the disk takes writes again.

    As the first line of a segment it may void what the segment ``voids`` holds from ``from_bytes`` on: that is in this
    one, written anew because no sync had confirmed it. (A program that knows no such line sees only a probe.)
    """

    voids: int = 0
    from_bytes: int = 0


Record = Opened | Spent | Settled | Probe

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_LINE_START = re.compile(rb"[0-9a-f]{8} \{")
_SPENT = b'{"t":"spent",'
_ZEROS = re.compile(rb"\0+")


class BadLine(ValueError):
    """These octets are not a line of the journal."""


def frame(record: Record) -> bytes:
    """The record's line, line feed included."""
    payload = _encode(record)
    return b"%08x %b\n" % (crc32(payload), payload)


def settled_line(attempt_id: str, settlement: Settlement) -> bytes:
    """The line of an end, whatever an upstream has reported: counts are `bounded`, text that is none is replaced."""
    usage = settlement.usage
    # A sign or a high bit in any of them is in their union.
    bits = usage.prompt_tokens | usage.completion_tokens | usage.cached_tokens | usage.reasoning_tokens
    if not 0 <= bits < TOKENS_MAX:
        settlement = msgspec.structs.replace(settlement, usage=_bounded_usage(usage))
    try:
        return frame(Settled(attempt_id, settlement))
    except UnicodeEncodeError:
        error = settlement.error.encode("utf-8", "replace").decode()
        return frame(Settled(attempt_id, msgspec.structs.replace(settlement, error=error)))


def _bounded_usage(usage: Usage) -> Usage:
    counts = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens
    prompt, completion, cached, reasoning = map(bounded, counts)
    return Usage(prompt, completion, cached, reasoning, usage.provenance)


def bounded(count: int) -> int:
    """A count of tokens that every reader of the journal can hold."""
    return min(max(count, 0), TOKENS_MAX)


def unframed(line: bytes) -> Record:
    """The record of a line without its line feed. Raises BadLine with a reason for the operator."""
    payload = line[HEAD_BYTES:]
    if line[:HEAD_BYTES] != b"%08x " % crc32(payload):
        raise BadLine("the checksum does not match the line")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(f"the checksum is right, but this version does not know the record ({error})") from error


def is_spent(line: bytes) -> bool:
    """Whether it is a checkpoint, by its looks: for those who need none and would only decode it to find out."""
    return line.startswith(_SPENT, HEAD_BYTES)


def is_torn(tail: bytes) -> bool:
    """Can these last octets of a file come from one write that was cut off?

    False when a whole record hides behind their start: then a line feed between two records was destroyed, and cutting
    the tail off would lose a record that was written completely.
    """
    if b"\n" in tail[:-1]:
        return False
    return not any(_is_line(tail[found.start() :].rstrip(b"\n")) for found in _LINE_START.finditer(tail, 1))


def used(data: bytes) -> bytes:
    """A file's octets without the unused room at its end."""
    return data.rstrip(b"\0")


def without_gaps(data: bytes) -> bytes:
    """The lines of a newest file (`used`) that a power cut left whole, and whatever is wrong with it besides.

    Of what no sync has confirmed, some sectors may have reached the disk before others: those are zeros up to the next
    sector's start, within one line or across several. A zero that is none of these is damage, and stays.
    """
    if b"\0" not in data:
        return data
    kept, start = [], 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        kept.append(_beside_gap(data, start, end))
        start = end
    return b"".join(kept)


def _beside_gap(data: bytes, start: int, end: int) -> bytes:
    """Of what a line feed ends: all of it, or where a gap is, the whole line after that, if there is one."""
    line = data[start:end]
    gaps = [found.end() for found in _ZEROS.finditer(line) if (start + found.end()) % SECTOR_BYTES == 0]
    if not gaps or _is_line(line[:-1]):
        return line
    rest = line[gaps[-1] :]
    return rest if rest.endswith(b"\n") and _is_line(rest[:-1]) else b""


def _is_line(line: bytes) -> bool:
    return line[:HEAD_BYTES] == b"%08x " % crc32(line[HEAD_BYTES:])
