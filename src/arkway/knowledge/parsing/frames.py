"""What parent and child say to each other: a question with a file behind it, and one answer."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from arkway.core.knowledge import Chunk
from arkway.knowledge.parsing.parsed import MIB, Limits, Parsed, Reason

LENGTH: Final = struct.Struct(">Q")


class Question(msgspec.Struct, frozen=True):
    """``size_bytes`` of file follow. ``chunk_limit`` characters per chunk; 0 = no chunks are wanted."""

    file_name: str
    size_bytes: int
    limits: Limits
    document_id: str = ""
    chunk_limit: int = 0


class Success(msgspec.Struct, frozen=True, tag=True):
    """``isolated``: whether the child had no network."""

    parsed: Parsed
    isolated: bool
    chunks: list[Chunk] = []


class Failure(msgspec.Struct, frozen=True, tag=True):
    """The file cannot be taken in; see Unreadable."""

    reason: Reason
    message: str
    detail: str = ""


class Unequipped(msgspec.Struct, frozen=True, tag=True):
    """A library of the extra is not installed."""

    module: str


Answer = Success | Failure | Unequipped

_DECODER: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def framed(message: Question | Answer) -> bytes:
    """The message with its length before it."""
    content = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(content)) + content


def answer_from_bytes(content: bytes | bytearray | memoryview) -> Answer:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(content)


def answer_limit_bytes(limits: Limits) -> int:
    """What an answer may take: the text, the outline and the chunks, which repeat it, and paths of headings."""
    return 4 * limits.text_bytes + MIB
