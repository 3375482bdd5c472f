"""What travels between server and child: MessagePack structs, each behind a 4-byte big-endian length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import msgspec

from arkway.core.embedding import Tokenized

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


class Tokens(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: tokens of each text, in order."""

    id: int
    texts: tuple[Tokenized, ...]


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Child to server: this request could not be done; details are on the child's standard error."""

    id: int


Question = Embed | Tokenize | Drop
Answer = Ready | Working | Vectors | Tokens | Failed

_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)
question_from_bytes: Callable[[bytes], Question] = _questions.decode
answer_from_bytes: Callable[[bytes], Answer] = _answers.decode


def framed(frame: Question | Answer) -> bytes:
    """The frame as it travels. Raises UnicodeEncodeError for a text with a lone surrogate."""
    body = msgspec.msgpack.encode(frame)
    return LENGTH.pack(len(body)) + body
