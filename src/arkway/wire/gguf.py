"""Reads the head of a GGUF file: enough to know a model and to refuse a broken one before any engine opens it.

Layout (little-endian): magic ``GGUF``, u32 version, u64 tensors, u64 entries; the entries (string key, u32 type,
value); the tensors (string name, u32 dimensions, u64 each, u32 type, u64 offset); padding; the tensor data. Every
length is checked against what is left of the file, so no file makes this reader allocate or loop beyond its own size.
Source: the GGUF specification of the ggml project (docs/gguf.md).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from arkway.core.errors import Misconfigured

Scalar = str | int | float | bool

_STRING, _ARRAY = 8, 9
# Value types by number: u8 i8 u16 i16 u32 i32 f32 bool, then u64 i64 f64.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# Tensor types by number: elements and bytes of one block (ggml.h, GGML_TYPE_*).
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
# general.file_type by number (llama.h, LLAMA_FTYPE_*): how the quantisation is usually written.
_FILE_TYPES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m",
    13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 30: "iq4_xs", 32: "bf16",
}  # fmt: skip
_KEPT = frozenset(
    {
        "general.architecture",
        "general.name",
        "general.license",
        "general.languages",
        "general.file_type",
        "general.alignment",
        "tokenizer.ggml.model",
    }
)
_KEPT_ENDINGS = (".context_length", ".embedding_length", ".pooling_type")
_KEY_MAX_BYTES = 1 << 16
_KEPT_MAX_ITEMS = 64


class GgufHeader(msgspec.Struct, frozen=True):
    """What a file says of itself. Absent texts are empty, absent numbers 0."""

    architecture: str
    name: str
    licence: str
    languages: tuple[str, ...]
    quantisation: str
    context_tokens: int
    embedding_length: int
    has_chat_template: bool
    embeds: bool
    tensors: int
    data_bytes: int


class _Broken(Exception):
    """A reason the file cannot be a model."""


def read_gguf(path: Path) -> GgufHeader:
    """Reads and checks the head of ``path``; raises Misconfigured with the reason if it is no whole GGUF model."""
    try:
        with path.open("rb") as file:
            return _Reader(file, path.stat().st_size).header()
    except _Broken as broken:
        raise Misconfigured(f"`{path.name}` is not a usable GGUF model: {broken}; fetch it again") from broken
    except OSError as error:
        raise Misconfigured(f"`{path}` cannot be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left = size_bytes
        self._size = size_bytes

    def header(self) -> GgufHeader:
        if self._bytes(4) != b"GGUF":
            raise _Broken("it does not begin with the letters GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            raise _Broken(f"its format version is {version}, and 2 and 3 are known")
        tensors, entries = self._count("<Q", 24), self._count("<Q", 13)
        facts, has_template = self._facts(entries)
        end = self._data_end(tensors, _whole(facts.get("general.alignment"), 32))
        if end > self._size:
            raise _Broken(f"it is cut short: {self._size} bytes of {end}")
        return _header(facts, has_template, tensors, end)

    def _facts(self, entries: int) -> tuple[dict[str, Scalar | list[Scalar]], bool]:
        facts: dict[str, Scalar | list[Scalar]] = {}
        has_template = False
        for _ in range(entries):
            key = self._text(_KEY_MAX_BYTES)
            has_template = has_template or key == "tokenizer.chat_template"
            wanted = key in _KEPT or key.endswith(_KEPT_ENDINGS)
            value = self._value(self._number("<I"), keep=wanted)
            if wanted and value is not None:
                facts[key] = value
        return facts, has_template

    def _value(self, kind: int, *, keep: bool) -> Scalar | list[Scalar] | None:
        if kind == _ARRAY:
            return self._array(keep=keep)
        return self._scalar(kind, keep=keep)

    def _scalar(self, kind: int, *, keep: bool) -> Scalar | None:
        if kind == _STRING:
            if keep:
                return self._text(_KEY_MAX_BYTES)
            self._skip(self._number("<Q"))
            return None
        if kind not in _SCALARS:
            raise _Broken(f"it holds a value of unknown type {kind}")
        value: int | float | bool = struct.unpack(_SCALARS[kind], self._bytes(struct.calcsize(_SCALARS[kind])))[0]
        return value

    def _array(self, *, keep: bool) -> list[Scalar] | None:
        kind = self._number("<I")
        if kind == _STRING:
            count = self._count("<Q", 8)
        elif kind in _SCALARS:
            count = self._count("<Q", struct.calcsize(_SCALARS[kind]))
        else:
            raise _Broken(f"it holds a list of unknown type {kind}")
        if keep and count <= _KEPT_MAX_ITEMS:
            items = [self._scalar(kind, keep=True) for _ in range(count)]
            return [item for item in items if item is not None]
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
            return None
        for _ in range(count):
            self._skip(self._number("<Q"))
        return None

    def _data_end(self, tensors: int, alignment: int) -> int:
        """Where the last tensor ends, counted from the beginning of the file."""
        if not 1 <= alignment <= 1 << 20:
            raise _Broken(f"its alignment is {alignment}")
        furthest = max((self._tensor_end() for _ in range(tensors)), default=0)
        begin = math.ceil((self._size - self._left) / alignment) * alignment
        return begin + furthest if tensors else self._size - self._left

    def _tensor_end(self) -> int:
        self._text(_KEY_MAX_BYTES)
        dimensions = self._number("<I")
        if dimensions > 8:
            raise _Broken(f"a tensor has {dimensions} dimensions")
        elements = math.prod(self._number("<Q") for _ in range(dimensions))
        kind, offset = self._number("<I"), self._number("<Q")
        # A type newer than this table is left to the engine; its data is at least where it begins.
        block_elements, block_bytes = _BLOCKS.get(kind, (1, 0))
        return offset + elements // block_elements * block_bytes

    def _count(self, form: str, least_bytes: int) -> int:
        """A number of things that take at least ``least_bytes`` each; more than the file holds is refused."""
        count = self._number(form)
        if count * least_bytes > self._left:
            raise _Broken("it is cut short, or a length in its head is wrong")
        return count

    def _number(self, form: str) -> int:
        value: int = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        return value

    def _text(self, limit_bytes: int) -> str:
        length = self._number("<Q")
        if length > limit_bytes:
            raise _Broken(f"a name in its head is {length} bytes long")
        return self._bytes(length).decode("utf-8", errors="replace")

    def _bytes(self, count: int) -> bytes:
        self._take(count)
        data = self._file.read(count)
        if len(data) != count:
            raise _Broken("it is cut short")
        return data

    def _skip(self, count: int) -> None:
        self._take(count)
        if count > 4096:
            self._file.seek(count, 1)
        else:
            self._file.read(count)

    def _take(self, count: int) -> None:
        if count > self._left:
            raise _Broken("it is cut short, or a length in its head is wrong")
        self._left -= count


def _header(facts: dict[str, Scalar | list[Scalar]], has_template: bool, tensors: int, data_bytes: int) -> GgufHeader:
    architecture = _words(facts.get("general.architecture"))
    if not architecture:
        raise _Broken("it does not name its architecture")
    if not tensors:
        raise _Broken("it holds no tensors (a vocabulary only)")
    languages = facts.get("general.languages")
    return GgufHeader(
        architecture=architecture,
        name=_words(facts.get("general.name")),
        licence=_words(facts.get("general.license")),
        languages=tuple(str(item) for item in languages) if isinstance(languages, list) else (),
        quantisation=_FILE_TYPES.get(_whole(facts.get("general.file_type"), -1), ""),
        context_tokens=_whole(facts.get(f"{architecture}.context_length")),
        embedding_length=_whole(facts.get(f"{architecture}.embedding_length")),
        has_chat_template=has_template,
        embeds=_whole(facts.get(f"{architecture}.pooling_type")) > 0 or "bert" in architecture,
        tensors=tensors,
        data_bytes=data_bytes,
    )


def _words(value: Scalar | list[Scalar] | None) -> str:
    return value.strip() if isinstance(value, str) else ""


def _whole(value: Scalar | list[Scalar] | None, otherwise: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
