"""Embedding and tokenization calls in canonical form."""

from __future__ import annotations

from typing import Literal

import msgspec

from arkway.core.chat import Usage


class EmbedRequest(msgspec.Struct, frozen=True):
    """Texts to turn into vectors. ``encoding`` is how the caller wants the numbers written."""

    asked: str
    texts: tuple[str, ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str = ""
    ignored: tuple[str, ...] = ()
    asked_version: str = ""


class EmbedReply(msgspec.Struct, frozen=True):
    """One vector per text, in order, each as little-endian float32 octets."""

    vectors: tuple[bytes, ...]
    usage: Usage


class TokenizeRequest(msgspec.Struct, frozen=True):
    """Texts to cut into the serving model's tokens."""

    asked: str
    texts: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    asked_version: str = ""


class Tokenized(msgspec.Struct, frozen=True):
    """Token ids of one text and, for each, its half-open range of characters (Unicode code points) in the text.

    A token that is only part of a character has the range of that character.
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
