"""What upstream servers answer to calls that are no chats: vectors, tokens, lists of models."""

from __future__ import annotations

import base64
import binascii
import struct
from itertools import accumulate

import msgspec

from arkway.core.chat import Usage
from arkway.core.embedding import EmbedReply, Tokenized
from arkway.core.errors import BackendFailed
from arkway.wire.openai_shape.pieces import UNREADABLE, usage

_NULL = msgspec.Raw(b"null")


class _Vector(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: msgspec.Raw = _NULL


class _ArkText(msgspec.Struct):
    token_ids: list[int]
    offset_mapping: list[tuple[int, int]]
    index: int = 0


class _ArkTexts(msgspec.Struct):
    data: list[_ArkText]


class _Piece(msgspec.Struct):
    """llama.cpp's server; ``piece`` is octets where they are no text."""

    id: int
    piece: str | list[int]


class _Pieces(msgspec.Struct):
    """``tokens`` are pieces (llama.cpp's server), or ids beside ``token_strs`` (vLLM)."""

    tokens: list[_Piece | int]
    token_strs: list[str] | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_vectors = msgspec.json.Decoder(_Vectors).decode
_ark_texts = msgspec.json.Decoder(_ArkTexts).decode
_pieces = msgspec.json.Decoder(_Pieces).decode
_models = msgspec.json.Decoder(_Models).decode


def embed_reply(body: bytes, texts: int) -> EmbedReply:
    """The vectors of ``texts`` texts, in their order, whether written as numbers or in base64.

    Raises BackendFailed unless there is one for each, all of one length. Without true counts the usage is a guess of 0.
    """
    try:
        read = _vectors(body)
        entries = sorted(read.data, key=lambda entry: entry.index)
        if texts == 1 == len(entries):
            entries[0].index = 0  # the only one, whatever it is called
        vectors = tuple(_octets(entry.embedding) for entry in entries)
    except (ValueError, RecursionError, struct.error, OverflowError):
        raise BackendFailed(UNREADABLE) from None
    if [entry.index for entry in entries] != list(range(texts)) or len({len(octets) for octets in vectors}) != 1:
        raise BackendFailed("the model's server did not send one vector for each text")
    counts = usage(read.usage)
    return EmbedReply(vectors, Usage(counts.prompt_tokens) if counts else Usage(provenance="estimated"))


def _octets(vector: str | list[float]) -> bytes:
    """Little-endian float32. Raises ValueError, OverflowError."""
    if isinstance(vector, list):
        octets = struct.pack(f"<{len(vector)}f", *vector)
    else:
        try:
            octets = base64.b64decode(vector, validate=True)
        except binascii.Error as error:
            raise ValueError from error
    if not octets or len(octets) % 4:
        raise ValueError
    return octets


def ark_tokens(body: bytes, texts: int) -> tuple[Tokenized, ...]:
    """Ark's own tokenization. Raises BackendFailed."""
    try:
        entries = sorted(_ark_texts(body).data, key=lambda entry: entry.index)
    except (ValueError, RecursionError):
        raise BackendFailed(UNREADABLE) from None
    if len(entries) != texts or any(len(entry.token_ids) != len(entry.offset_mapping) for entry in entries):
        raise BackendFailed(UNREADABLE)
    return tuple(Tokenized(tuple(entry.token_ids), tuple(entry.offset_mapping)) for entry in entries)


def server_tokens(body: bytes, text: str) -> Tokenized | None:
    """The answer of ``/tokenize``; None when it does not tell which characters a token covers.

    Raises BackendFailed for what is no such answer.
    """
    try:
        read = _pieces(body)
        ids = tuple(token if isinstance(token, int) else token.id for token in read.tokens)
        wanted = text.encode()
        for pieces in _spellings(read):
            if b"".join(pieces) == wanted and len(pieces) == len(ids):
                return Tokenized(ids, _ranges(pieces, text))
    except (ValueError, RecursionError):
        raise BackendFailed(UNREADABLE) from None
    return None


def models(body: bytes) -> tuple[str, ...]:
    """The ids of a list of models. Raises BackendFailed."""
    try:
        return tuple(entry.id for entry in _models(body).data)
    except (ValueError, RecursionError):
        raise BackendFailed(UNREADABLE) from None


def _spellings(read: _Pieces) -> list[list[bytes]]:
    """The tokens' octets, as each of the known ways to write tokens gives them."""
    if read.token_strs is None:
        return [[_written(token.piece) for token in read.tokens if isinstance(token, _Piece)]]
    found = [[token.encode() for token in read.token_strs], [_sentence_piece(token) for token in read.token_strs]]
    if all(char in _BYTE_LEVEL for token in read.token_strs for char in token):
        found.append([bytes(_BYTE_LEVEL[char] for char in token) for token in read.token_strs])
    if found[1] and found[1][0].startswith(b" "):
        found.append([found[1][0][1:], *found[1][1:]])  # the space that such vocabularies put before a text
    return found


def _written(piece: str | list[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _sentence_piece(token: str) -> bytes:
    """U+2581 is a space, ``<0xNN>`` an octet."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()


def _byte_level() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): printable Latin-1 stands for itself, the rest from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [octet for octet in range(256) if octet not in plain]
    return {chr(octet): octet for octet in plain} | {chr(0x100 + i): octet for i, octet in enumerate(others)}


_BYTE_LEVEL = _byte_level()


def _ranges(pieces: list[bytes], text: str) -> tuple[tuple[int, int], ...]:
    """The characters that each piece of the text's octets touches."""
    owner = [number for number, char in enumerate(text) for _ in char.encode()]
    ends = list(accumulate(len(piece) for piece in pieces))
    found = []
    for end, piece in zip(ends, pieces, strict=True):
        start = end - len(piece)
        begin = owner[start] if start < len(owner) else len(text)
        found.append((begin, owner[end - 1] + 1 if piece else begin))
    return tuple(found)
