"""A GGUF model that is nothing but a vocabulary: what an engine needs that is to cut texts into tokens and no more.

Engines refuse a file without weights, and read all of those that there are. So the vocabulary of a real model is put
into a model of one layer and the least width, whose weights are zeros: some octets for each token, and holes on the
disk.
Layout: see `arkway.wire.gguf`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from arkway.wire.gguf import GgufVocabulary

CONTEXT_TOKENS = 256
_WIDTH = 32
_ALIGNMENT = 32
_U32, _F32, _STRING = 4, 6, 8
_SMALL = 2
"""The tensor type Q4_0: 18 octets for 32 elements."""
_SMALL_BLOCK = (32, 18)
_EXACT = 0
"""The tensor type F32."""

_SHAPE: Mapping[str, int] = {
    "context_length": CONTEXT_TOKENS,
    "embedding_length": _WIDTH,
    "block_count": 1,
    "feed_forward_length": _WIDTH,
    "attention.head_count": 1,
    "rope.dimension_count": _WIDTH,
}
_NORMS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
_SQUARES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write_bare_model(vocabulary: GgufVocabulary, file: BinaryIO) -> None:
    """Writes the model into an empty file that can be extended by truncation."""
    entries = [*_entries(), *vocabulary.entries]
    tensors = list(_tensors(vocabulary.tokens))
    described, data_bytes = _described(tensors)
    head = b"".join((b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(entries)), *entries, described))
    file.write(head)
    file.truncate(_aligned(len(head)) + data_bytes)


def _entries() -> Iterator[bytes]:
    yield _text("general.architecture") + struct.pack("<I", _STRING) + _text("llama")
    for name, value in _SHAPE.items():
        yield _text(f"llama.{name}") + struct.pack("<II", _U32, value)
    yield _text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", _F32, 1e-5)


def _tensors(tokens: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and dimensions."""
    yield "token_embd.weight", (_WIDTH, tokens)
    for name in _NORMS:
        yield f"{name}.weight", (_WIDTH,)
    for name in _SQUARES:
        yield f"blk.0.{name}.weight", (_WIDTH, _WIDTH)


def _described(tensors: list[tuple[str, tuple[int, ...]]]) -> tuple[bytes, int]:
    """The tensors as the head names them, and how many octets of data they have together."""
    lines, offset = list[bytes](), 0
    for name, dimensions in tensors:
        kind = _SMALL if len(dimensions) > 1 else _EXACT
        sizes = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        lines.append(_text(name) + sizes + struct.pack("<IQ", kind, offset))
        offset += _aligned(_size(dimensions))
    return b"".join(lines), offset


def _size(dimensions: tuple[int, ...]) -> int:
    if len(dimensions) == 1:
        return 4 * dimensions[0]
    elements, octets = _SMALL_BLOCK
    return dimensions[0] * dimensions[1] // elements * octets


def _aligned(octets: int) -> int:
    return -(-octets // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    octets = text.encode()
    return struct.pack("<Q", len(octets)) + octets
