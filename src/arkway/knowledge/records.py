"""Rows of the tables as values, and back. Columns have the names of the fields, in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import structs

from arkway.core.knowledge import Change, Chunk, Collection, Document, Job
from arkway.knowledge.sql import Row

T = TypeVar("T", bound=msgspec.Struct)

_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
_PACKED: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "meta": msgspec.json.Decoder(dict[str, str]),
    "path": msgspec.json.Decoder(tuple[str, ...]),
    "change": msgspec.json.Decoder(Change | None),
}


@cache
def columns(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in structs.fields(kind))


def listed(kind: type[msgspec.Struct], table: str = "") -> str:
    """The columns for a statement: ``c.id, c.name``."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + name for name in columns(kind))


def values(value: msgspec.Struct) -> list[object]:
    """The fields as columns hold them: what has parts is JSON, and nothing has a character NUL."""
    return [_stored(name, getattr(value, name)) for name in columns(type(value))]


def collection_of(row: Row) -> Collection:
    return _made(Collection, row)


def document_of(row: Row) -> Document:
    return _made(Document, row)


def chunk_of(row: Row) -> Chunk:
    return _made(Chunk, row)


def job_of(row: Row) -> Job:
    return _made(Job, row)


def packed(value: object) -> str:
    return msgspec.json.encode(value).decode()


def plain(text: str) -> str:
    """PostgreSQL's text cannot hold NUL, and neither database a half of a surrogate pair: both become U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def _made(kind: type[T], row: Sequence[Any]) -> T:
    found = dict(zip(columns(kind), row, strict=True))
    for name in _packed_columns(kind):
        found[name] = _PACKED[name].decode(found[name])
    return kind(**found)


@cache
def _packed_columns(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in columns(kind) if name in _PACKED)


def _stored(name: str, value: object) -> object:
    if name in _PACKED:
        return packed(value)
    return plain(value) if isinstance(value, str) else value
