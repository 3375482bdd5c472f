"""What travels between server and child: MessagePack structs, each behind a 4-byte big-endian length."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from arkway.core.embedding import Tokenized

UNPACKED_AT_ONCE: Final = 8192
LENGTH: Final = struct.Struct(">I")


class Embed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Server to child: vectors for these texts. ``caller`` is whom to be fair to."""

    id: int
    caller: str
    texts: tuple[str, ...]


class Tokenize(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Server to child: tokens of these texts."""

    id: int
    caller: str
    texts: tuple[str, ...]


class Drop(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Server to child: nobody waits for this request any more."""

    id: int


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: the model is loaded and has embedded a text."""

    dimensions: int


class Working(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: one more piece of this request is done."""

    id: int


class Vectors(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: the vectors one after the other as little-endian float32, and the tokens of all texts."""

    id: int
    octets: bytes
    tokens: int


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of one text, as unsigned 32-bit numbers one after the other: a million of them are read in no time."""

    ids: bytes
    starts: bytes
    stops: bytes


class Tokens(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: tokens of each text, in order."""

    id: int
    texts: tuple[Packed, ...]


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: this request could not be done; details are on the child's standard error."""

    id: int


Question = Embed | Tokenize | Drop
Answer = Ready | Working | Vectors | Tokens | Failed

_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)
question_from_bytes: Callable[[bytes], Question] = _questions.decode
answer_from_bytes: Callable[[bytes], Answer] = _answers.decode


def packed(tokens: Tokenized) -> Packed:
    """The tokens of one text as they travel; ``unpacked`` turns them back."""
    starts, stops = zip(*tokens.offsets, strict=True) if tokens.offsets else ((), ())
    return Packed(_octets(tokens.ids), _octets(starts), _octets(stops))


def unpacked(tokens: Packed) -> Tokenized:
    """What ``packed`` was given."""
    starts, stops = _numbers(tokens.starts), _numbers(tokens.stops)
    offsets: list[tuple[int, int]] = []
    for at in range(0, len(starts), UNPACKED_AT_ONCE):  # in pieces, so that other threads get their turn
        offsets += zip(starts[at : at + UNPACKED_AT_ONCE], stops[at : at + UNPACKED_AT_ONCE], strict=True)
    return Tokenized(tuple(_numbers(tokens.ids)), tuple(offsets))


def _octets(numbers: Sequence[int]) -> bytes:
    return array("I", numbers).tobytes()


def _numbers(octets: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(octets)
    return numbers


def framed(frame: Question | Answer) -> bytes:
    """The frame as it travels. Raises UnicodeEncodeError for a text with a lone surrogate."""
    body = msgspec.msgpack.encode(frame)
    return LENGTH.pack(len(body)) + body
