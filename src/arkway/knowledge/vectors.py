"""Vectors as bytes, and the exact search for the closest ones: every vector of a collection is compared.

The matrix of a collection stays in memory. Rows of the table are never changed, only added and deleted, so after a
change by any process what is new is read and the rest is kept.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from arkway.core.errors import InvalidField, Misconfigured
from arkway.knowledge.sql import Session, marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Numbers = NDArray[np.int64]

FLOAT_BYTES: Final = 4
CACHE_BYTES: Final = 512 * 1024 * 1024
DIMENSIONS_LIMIT: Final = 16_000
_BATCH: Final = 500


def unit(vector: Sequence[float]) -> bytes:
    """At length 1, as float32; a vector of zeroes stays. Raises InvalidField when it is too long or not finite."""
    if not 0 < len(vector) <= DIMENSIONS_LIMIT:
        raise InvalidField(f"a vector has {len(vector)} numbers; there may be 1 to {DIMENSIONS_LIMIT}", "vectors")
    length = math.hypot(*vector)
    if not math.isfinite(length):
        raise InvalidField("a vector has a number that is not finite", "vectors")
    floats = array("f", (number / length for number in vector) if length else vector)
    return floats.tobytes()


def dimensions(vector: bytes) -> int:
    return len(vector) // FLOAT_BYTES


class _Kept:
    """A collection's vectors: rows of the table, the chunks they are of, and the matrix, in one order."""

    def __init__(self, generation: int, rows: Numbers, chunks: Numbers, matrix: Matrix) -> None:
        self.generation, self.rows, self.chunks, self.matrix = generation, rows, chunks, matrix

    @property
    def size_bytes(self) -> int:
        return int(self.matrix.nbytes)


class ExactVectors:
    """Implements `arkway.knowledge.sql.VectorIndex` over a column of bytes. Matrices of ``cache_bytes`` are kept."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[int, threading.Lock] = {}

    def add(self, session: Session, collection: int, rows: Sequence[tuple[int, bytes]]) -> None:
        session.each("DELETE FROM knowledge_vectors WHERE chunk = ?", [[chunk] for chunk, _ in rows])
        statement = "INSERT INTO knowledge_vectors (collection, chunk, vector) VALUES (?, ?, ?)"
        session.each(statement, [[collection, chunk, vector] for chunk, vector in rows])

    def best(self, session: Session, collection: int, vector: bytes, limit: int) -> list[tuple[int, float]]:
        np = numpy()
        kept = self._current(session, collection, dimensions(vector))
        if not len(kept.rows):
            return []
        closeness = kept.matrix @ np.frombuffer(vector, dtype=np.float32)
        some = min(limit, len(closeness))
        best = np.argpartition(-closeness, some - 1)[:some]
        best = best[np.lexsort((kept.chunks[best], -closeness[best]))]
        return [(int(kept.chunks[place]), float(closeness[place])) for place in best]

    def _current(self, session: Session, collection: int, width: int) -> _Kept:
        statement = "SELECT generation FROM knowledge_collections WHERE number = ?"
        generation = session.rows(statement, [collection])[0][0]
        with self._lock:
            loading = self._loading.setdefault(collection, threading.Lock())
        with loading:
            kept = self._kept.get(collection)
            if kept is None or kept.generation != generation or kept.matrix.shape[1] != width:
                before = kept if kept is not None and kept.matrix.shape[1] == width else None
                if before is not None and _has_only_grown(session, collection, before):
                    kept = _grown(session, collection, generation, before)
                else:
                    kept = _loaded(session, collection, generation, width, before)
            self._keep(collection, kept)
        return kept

    def _keep(self, collection: int, kept: _Kept) -> None:
        """A reader of an older moment does not take the place of a newer one's."""
        with self._lock:
            there = self._kept.get(collection)
            if there is None or there.generation <= kept.generation:
                self._kept[collection] = kept
            self._kept.move_to_end(collection)
            while len(self._kept) > 1 and sum(one.size_bytes for one in self._kept.values()) > self._cache_bytes:
                self._kept.popitem(last=False)


def _has_only_grown(session: Session, collection: int, before: _Kept) -> bool:
    """Whether all rows that were there still are. New ones have higher numbers: one writes at a time."""
    if not len(before.rows):
        return False
    statement = "SELECT count(*) FROM knowledge_vectors WHERE collection = ? AND number <= ?"
    [(still,)] = session.rows(statement, [collection, int(before.rows[-1])])
    return bool(still == len(before.rows))


def _grown(session: Session, collection: int, generation: int, before: _Kept) -> _Kept:
    """With what is new behind what there was; the same matrix where nothing is."""
    np = numpy()
    statement = "SELECT number, chunk FROM knowledge_vectors WHERE collection = ? AND number > ? ORDER BY number"
    new = session.rows(statement, [collection, int(before.rows[-1])])
    if not new:
        return _Kept(generation, before.rows, before.chunks, before.matrix)
    listed = np.array(new, dtype=np.int64)
    rows = np.concatenate((before.rows, listed[:, 0]))
    chunks = np.concatenate((before.chunks, listed[:, 1]))
    matrix: Matrix = np.empty((len(rows), before.matrix.shape[1]), dtype=np.float32)
    matrix[: len(before.rows)] = before.matrix
    places = np.arange(len(before.rows), len(rows))
    for start in range(0, len(places), _BATCH):
        _fill(session, matrix, rows, places[start : start + _BATCH])
    return _Kept(generation, rows, chunks, matrix)


def _loaded(session: Session, collection: int, generation: int, width: int, before: _Kept | None) -> _Kept:
    np = numpy()
    statement = "SELECT number, chunk FROM knowledge_vectors WHERE collection = ? ORDER BY number"
    listed = np.array(session.rows(statement, [collection]), dtype=np.int64).reshape(-1, 2)
    rows, chunks = listed[:, 0].copy(), listed[:, 1].copy()
    matrix: Matrix = np.zeros((len(rows), width), dtype=np.float32)
    missing = np.arange(len(rows))
    if before is not None:
        known = np.isin(rows, before.rows, assume_unique=True)
        matrix[known] = before.matrix[np.searchsorted(before.rows, rows[known])]
        missing = np.flatnonzero(~known)
    for start in range(0, len(missing), _BATCH):
        _fill(session, matrix, rows, missing[start : start + _BATCH])
    return _Kept(generation, rows, chunks, matrix)


def _fill(session: Session, matrix: Matrix, rows: Numbers, places: Numbers) -> None:
    """The vectors of these places, which are in order."""
    np = numpy()
    wanted = [int(number) for number in rows[places]]
    statement = f"SELECT vector FROM knowledge_vectors WHERE number IN ({marks(wanted)}) ORDER BY number"  # noqa: S608
    found = b"".join(bytes(row[0]) for row in session.rows(statement, wanted))
    matrix[places] = np.frombuffer(found, dtype=np.float32).reshape(len(places), -1)


def numpy() -> Any:
    """Raises Misconfigured where it is not installed."""
    try:
        import numpy as np
    except ImportError as missing:
        raise Misconfigured(
            "looking up by vectors needs numpy, which is not installed: pip install 'arkway[knowledge]'"
        ) from missing
    return np
