"""How much memory a model will take: read from the head of its GGUF file, without loading it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from arkway.core.errors import BackendUnavailable

MAGIC = b"GGUF"
VOCABULARY = "tokenizer."
"""Where the large part of the head begins; what matters here stands before it."""
OVERHEAD_BYTES = 96 * 1024 * 1024
F16_BYTES = 2
STRING_MAX_BYTES = 16 * 1024 * 1024
ENTRIES_MAX = 4096
ITEMS_MAX = 4_000_000
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING = 8
_ARRAY = 9


def footprint_bytes(path: Path, context_tokens: int, slots: int) -> int:
    """Weights, key-value cache of all slots, and working room.

    Raises BackendUnavailable for a file that is no GGUF.
    """
    try:
        weights = path.stat().st_size
        with path.open("rb") as file:
            facts = _facts(file)
    except FileNotFoundError:
        raise BackendUnavailable(f"the model file {path.name} is missing; pull the model again") from None
    except (OSError, ValueError, struct.error) as error:
        raise BackendUnavailable(f"the model file {path.name} cannot be read ({error}); pull the model again") from None
    return weights + kv_bytes_per_token(facts) * context_tokens * slots + OVERHEAD_BYTES


def kv_bytes_per_token(facts: dict[str, int | str]) -> int:
    """Two half-precision vectors per layer; 0 where the head does not tell."""

    def number(name: str) -> int:
        value = facts.get(f"{facts.get('general.architecture', '')}.{name}", 0)
        return value if isinstance(value, int) else 0

    heads = number("attention.head_count")
    width = number("attention.key_length") or (number("embedding_length") // heads if heads else 0)
    return 2 * F16_BYTES * number("block_count") * (number("attention.head_count_kv") or heads) * width


def memory_cap_bytes(configured: int) -> int:
    """The configured cap, or three quarters of the machine's memory."""
    return configured or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


def _facts(file: BinaryIO) -> dict[str, int | str]:
    if file.read(4) != MAGIC:
        raise ValueError("it is no GGUF file")
    _version, _tensors, entries = struct.unpack("<IQQ", _exactly(file, 20))
    if entries > ENTRIES_MAX:
        raise ValueError("its head is damaged")
    facts = {}
    for _ in range(entries):
        name = _string(file)
        if name.startswith(VOCABULARY):
            break
        value = _value(file, _integer(file, 4))
        if value is not None:
            facts[name] = value
    return facts


def _value(file: BinaryIO, kind: int) -> int | str | None:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        return _first_of_array(file)
    octets = _exactly(file, _size(kind))
    return int(struct.unpack(_FORMATS[kind], octets)[0]) if kind in _FORMATS else None


def _first_of_array(file: BinaryIO) -> int | None:
    """The largest of a list of numbers (heads may differ by layer); other arrays are skipped."""
    kind = _integer(file, 4)
    count = _integer(file, 8)
    if count > ITEMS_MAX:
        raise ValueError("its head is damaged")
    if kind == _STRING:
        for _ in range(count):
            file.seek(_bounded(_integer(file, 8)), os.SEEK_CUR)
        return None
    if kind in _FORMATS and count <= ENTRIES_MAX:
        numbers = [int(struct.unpack(_FORMATS[kind], _exactly(file, _size(kind)))[0]) for _ in range(count)]
        return max(numbers, default=0)
    file.seek(count * _size(kind), os.SEEK_CUR)
    return None


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise ValueError("its head is damaged")
    return _SIZES[kind]


def _integer(file: BinaryIO, width: int) -> int:
    return int.from_bytes(_exactly(file, width), "little")


def _string(file: BinaryIO) -> str:
    return _exactly(file, _bounded(_integer(file, 8))).decode(errors="replace")


def _bounded(length: int) -> int:
    if length > STRING_MAX_BYTES:
        raise ValueError("its head is damaged")
    return length


def _exactly(file: BinaryIO, count: int) -> bytes:
    octets = file.read(count)
    if len(octets) != count:
        raise ValueError("it is cut short")
    return octets
