"""Reads the head of a GGUF file: enough to know a model, its need of memory, and to refuse a broken file.

Layout (little-endian): magic ``GGUF``, u32 version, u64 tensors, u64 entries; the entries (string key, u32 type,
value); the tensors (string name, u32 dimensions, u64 each, u32 type, u64 offset); padding; the tensor data. Every
length is checked against what is left of the file, so no file makes this reader allocate or loop beyond its own size.
Source: the GGUF specification of the ggml project (docs/gguf.md).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from arkway.core.errors import Misconfigured

Scalar = str | int | float | bool
Fact = Scalar | list[Scalar]
Part = TypeVar("Part")

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
    }
)
_KEPT_ENDINGS = (
    ".context_length",
    ".embedding_length",
    ".pooling_type",
    ".block_count",
    ".attention.head_count",
    ".attention.head_count_kv",
    ".attention.key_length",
    ".attention.value_length",
)
_VOCABULARY = "tokenizer."
_TEMPLATE = "tokenizer.chat_template"
_TOKENS = "tokenizer.ggml.tokens"
# By its name the engine knows families whose special tokens differ.
_NAME = "general.name"
_KEY_MAX_BYTES = 1 << 16
_KEPT_MAX_ITEMS = 4096
_LAYERS_MAX = 4096
_F16_BYTES = 2


class GgufShape(msgspec.Struct, frozen=True):
    """What a model's key-value cache is made of; absent numbers are 0.

    ``heads_kv`` counts the key-value heads of every layer, ``key_length`` and ``value_length`` are a head's elements.
    """

    heads_kv: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0

    @property
    def kv_bytes_per_token(self) -> int:
        """A key and a value in half precision for every head of every layer; 0 where the head does not tell."""
        return _F16_BYTES * sum(self.heads_kv) * (self.key_length + self.value_length)


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
    shape: GgufShape


class GgufVocabulary(msgspec.Struct, frozen=True):
    """What a file says of its tokens: how many there are, and the entries as they stand in it, without a template."""

    tokens: int
    entries: tuple[bytes, ...]


class _Broken(Exception):
    """A reason the file cannot be a model."""


def read_gguf(path: Path) -> GgufHeader:
    """Reads and checks the head of ``path``; raises Misconfigured with the reason if it is no whole GGUF model."""
    return _read(path, _Reader.header)


def read_gguf_shape(path: Path) -> GgufShape:
    """Reads as far as the vocabulary, which takes no time; raises Misconfigured if the file is no GGUF model."""
    return _read(path, _Reader.shape)


def read_gguf_vocabulary(path: Path) -> GgufVocabulary:
    """Reads the head, and of it what belongs to the tokens; raises Misconfigured if the file has no vocabulary."""
    return _read(path, _Reader.vocabulary)


def _read(path: Path, part: Callable[[_Reader], Part]) -> Part:
    try:
        with path.open("rb") as file:
            return part(_Reader(file, path.stat().st_size))
    except _Broken as broken:
        raise Misconfigured(f"`{path.name}` is not a usable GGUF model: {broken}; fetch it again") from broken
    except OSError as error:
        raise Misconfigured(f"`{path.name}` cannot be read: {error.strerror or 'no reason given'}") from error


class _Reader:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left = size_bytes
        self._size = size_bytes

    def header(self) -> GgufHeader:
        tensors, entries = self._counts()
        facts = self._facts(entries, whole=True)
        end = self._data_end(tensors, _whole(facts.get("general.alignment"), 32))
        if end > self._size:
            raise _Broken(f"it is cut short: {self._size} bytes of {end}")
        return _header(facts, tensors, end)

    def shape(self) -> GgufShape:
        _, entries = self._counts()
        return _shape(self._facts(entries, whole=False))

    def vocabulary(self) -> GgufVocabulary:
        _, entries = self._counts()
        found: dict[str, bytes] = {}
        for _ in range(entries):
            start = self._file.tell()
            key = self._text(_KEY_MAX_BYTES)
            kind = self._number("<I")
            if key == _TOKENS and kind != _ARRAY:
                raise _Broken("its vocabulary is no list")
            self._value(kind, keep=False)
            if key == _NAME or (key.startswith(_VOCABULARY) and key != _TEMPLATE):
                found[key] = self._again(start)
        if _TOKENS not in found:
            raise _Broken("it has no vocabulary")
        # Behind the key and its length: the type of the value, that of its items, and how many there are.
        (tokens,) = struct.unpack_from("<Q", found[_TOKENS], 8 + len(_TOKENS) + 8)
        return GgufVocabulary(tokens, tuple(found.values()))

    def _again(self, start: int) -> bytes:
        """What was read from there on."""
        end = self._file.tell()
        self._file.seek(start)
        return self._file.read(end - start)

    def _counts(self) -> tuple[int, int]:
        """How many tensors and how many entries there are."""
        if self._bytes(4) != b"GGUF":
            raise _Broken("it does not begin with the letters GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            raise _Broken(f"its format version is {version}, and 2 and 3 are known")
        return self._count("<Q", 24), self._count("<Q", 13)

    def _facts(self, entries: int, *, whole: bool) -> dict[str, Fact]:
        """The entries that matter. Unless ``whole``, a vocabulary that comes after the model's shape is not read."""
        facts: dict[str, Fact] = {}
        for _ in range(entries):
            key = self._text(_KEY_MAX_BYTES)
            if not whole and key.startswith(_VOCABULARY) and f"{_architecture(facts)}.block_count" in facts:
                break
            wanted = key in _KEPT or key.endswith(_KEPT_ENDINGS)
            value = self._value(self._number("<I"), keep=wanted)
            if key == _TEMPLATE:
                facts[key] = True
            elif wanted and value is not None:
                facts[key] = value
        return facts

    def _value(self, kind: int, *, keep: bool) -> Fact | None:
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


def _header(facts: dict[str, Fact], tensors: int, data_bytes: int) -> GgufHeader:
    shape = _shape(facts)
    architecture = _architecture(facts)
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
        has_chat_template=_TEMPLATE in facts,
        embeds=_whole(facts.get(f"{architecture}.pooling_type")) > 0 or "bert" in architecture,
        tensors=tensors,
        data_bytes=data_bytes,
        shape=shape,
    )


def _shape(facts: dict[str, Fact]) -> GgufShape:
    """Head counts are one number for all layers or a list with one for each; a missing length is the usual one."""
    architecture = _architecture(facts)
    if not architecture:
        raise _Broken("it does not name its architecture")

    def counts(name: str) -> list[int]:
        value = facts.get(f"{architecture}.{name}")
        return [max(0, _whole(each)) for each in ((value or [0]) if isinstance(value, list) else [value])]

    layers = min(counts("block_count")[0], _LAYERS_MAX)
    heads = counts("attention.head_count")
    heads_kv = counts("attention.head_count_kv") if any(counts("attention.head_count_kv")) else heads
    usual = counts("embedding_length")[0] // max(1, *heads)
    key_length = counts("attention.key_length")[0] or usual
    return GgufShape(
        heads_kv=tuple(heads_kv if len(heads_kv) > 1 else heads_kv * layers),
        key_length=key_length,
        value_length=counts("attention.value_length")[0] or key_length,
    )


def _architecture(facts: dict[str, Fact]) -> str:
    return _words(facts.get("general.architecture"))


def _words(value: Fact | None) -> str:
    return value.strip() if isinstance(value, str) else ""


def _whole(value: Fact | None, otherwise: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
