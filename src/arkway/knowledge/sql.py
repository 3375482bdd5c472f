"""What the tables of knowledge ask of a database, and what differs between SQLite and PostgreSQL.

Statements are written once: with ``?`` for values, and with words that both databases know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

Row = tuple[Any, ...]


class Session(Protocol):
    """One transaction."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]: ...

    def change(self, statement: str, values: Sequence[object] = ()) -> int:
        """How many rows it has changed."""
        ...

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """The statement once for every row of values."""
        ...


class Database(Protocol):
    """Where the transactions are made. Raises StoreUnavailable."""

    def reading(self) -> AbstractContextManager[Session]:
        """What it reads is of one moment."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """Kept when the block ends, undone when it raises."""
        ...

    def close(self) -> None: ...


class Counted(msgspec.Struct, frozen=True):
    """``total`` chunks, and how many of them have each word."""

    total: int
    having: Mapping[str, int]


class WordIndex(Protocol):
    """Which chunks have which words. ``collection`` and ``chunk`` are the numbers of rows."""

    def make(self, session: Session, collection: int) -> None:
        """An empty one for a new collection."""
        ...

    def drop(self, session: Session, collection: int) -> None: ...

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, Sequence[str]]]) -> None: ...

    def remove(self, session: Session, collection: int, chunks: Sequence[int]) -> None: ...

    def counted(self, session: Session, collection: int, terms: Sequence[str]) -> Counted: ...

    def best(self, session: Session, collection: int, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """Chunks that have some of the words, best first by BM25, with their scores."""
        ...

    def words_of(self, session: Session, collection: int, chunks: Sequence[int]) -> list[Mapping[str, int]]:
        """How often each of the chunks has which word."""
        ...


class VectorIndex(Protocol):
    """The vectors of chunks: float32, little-endian, of length 1."""

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, bytes]]) -> None:
        """In the place of those that the chunks had."""
        ...

    def best(self, session: Session, collection: int, vector: bytes, limit: int) -> list[tuple[int, float]]:
        """The closest chunks, closest first, with the cosine."""
        ...


def marks(values: Sequence[object]) -> str:
    """Places for as many values: ``?, ?, ?``."""
    return ", ".join("?" * len(values))
