"""A tiny image projector made of seeded noise (a CLIP encoder and two layers behind it, as LLaVA 1.5 has them), for the
models of `tests.tools.random_gguf`: images really change what such a model reads. And images to send, drawn here.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np

SIDE = 28
PATCH = 14
TOKENS = (SIDE // PATCH) ** 2
"""What an image is to the model, whatever its size: the encoder has one size."""


def write_random_projector(path: Path, *, width: int = 128, seed: int = 3) -> Path:
    """Writes it to ``path`` and returns that. ``width`` is the model's."""
    writer = gguf.GGUFWriter(path, "clip")
    _write_shape(writer, width)
    noise = np.random.default_rng(seed)

    def matrix(*shape: int, scale: float = 0.2) -> Any:
        return (noise.standard_normal(shape) * scale).astype(np.float32)

    writer.add_tensor("v.patch_embd.weight", matrix(HIDDEN, 3, PATCH, PATCH, scale=0.1))
    writer.add_tensor("v.class_embd", matrix(HIDDEN))
    writer.add_tensor("v.position_embd.weight", matrix(TOKENS + 1, HIDDEN))
    _norm(writer, "v.pre_ln")
    for layer in range(LAYERS):
        _write_layer(writer, f"v.blk.{layer}", matrix)
    for place, columns in ((0, HIDDEN), (2, width)):
        writer.add_tensor(f"mm.{place}.weight", matrix(width, columns, scale=0.3))
        writer.add_tensor(f"mm.{place}.bias", matrix(width, scale=0.01))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


HIDDEN, INNER, LAYERS = 32, 64, 2


def _write_shape(writer: Any, width: int) -> None:
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for name, value in {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "block_count": LAYERS,
        "attention.head_count": 2,
        "projection_dim": width,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])


def _write_layer(writer: Any, block: str, matrix: Any) -> None:
    for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
        writer.add_tensor(f"{block}.{part}.weight", matrix(HIDDEN, HIDDEN))
        writer.add_tensor(f"{block}.{part}.bias", matrix(HIDDEN, scale=0.01))
    for part in ("ln1", "ln2"):
        _norm(writer, f"{block}.{part}")
    for part, rows, columns in (("ffn_up", INNER, HIDDEN), ("ffn_down", HIDDEN, INNER)):
        writer.add_tensor(f"{block}.{part}.weight", matrix(rows, columns))
        writer.add_tensor(f"{block}.{part}.bias", matrix(rows, scale=0.01))


def _norm(writer: Any, name: str) -> None:
    writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, dtype=np.float32))
    writer.add_tensor(f"{name}.bias", np.zeros(HIDDEN, dtype=np.float32))


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A pattern of its own for each seed."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes((x * 7 + y * 13 + seed * 101 + part * 53) % 256 for x in range(width) for part in range(3))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    )


def large_png(width: int, height: int) -> bytes:
    """All of one colour: a few octets that unpack to ``width * height`` pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, part) for kind, part in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    )


def gif() -> bytes:
    """One white pixel (GIF89a, one global colour table of two)."""
    return b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;"


def jpeg(side: int = 8) -> bytes:
    """Grey all over: baseline JPEG, one component, every block with no difference and no frequencies (T.81)."""
    blocks = ((side + 7) // 8) ** 2
    bits = "00" * blocks
    bits += "1" * (-len(bits) % 8)
    table = bytes([1]) + bytes(15) + b"\0"
    parts = (
        (0xDB, b"\0" + b"\1" * 64),
        (0xC0, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        (0xC4, b"\0" + table),
        (0xC4, b"\x10" + table),
        (0xDA, b"\1\1\0\0\x3f\0"),
    )
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for marker, part in parts)
    return b"\xff\xd8" + head + int(bits, 2).to_bytes(len(bits) // 8) + b"\xff\xd9"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
