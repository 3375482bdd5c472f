"""What documents and chunks are called, so that the same thing has the same name after every upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

DOCUMENT_ID_BYTES: Final = 16
PIECE_BYTES: Final = 8


def document_id(collection_id: str, source: str) -> str:
    """32 hexadecimal digits that follow from the collection and from what its uploader calls the document."""
    return _digest((collection_id, source), DOCUMENT_ID_BYTES)


def chunk_ids(document_id: str, pieces: Iterable[tuple[tuple[str, ...], str]]) -> Iterator[str]:
    """One id per piece (its path of headings, its text), in order: ``<document id>-<16 hexadecimal digits>``.

    An id follows from the piece alone and not from where it stands, so what is inserted before it does not change it.
    A piece that was there before in the same document gets its number as well: ``-2``, ``-3``.
    """
    seen: Counter[str] = Counter()
    for path, text in pieces:
        piece = _digest((*path, text), PIECE_BYTES)
        seen[piece] += 1
        number = f"-{seen[piece]}" if seen[piece] > 1 else ""
        yield f"{document_id}-{piece}{number}"


def _digest(parts: tuple[str, ...], size_bytes: int) -> str:
    """Every part is preceded by its length: two lists of parts never look alike."""
    digest = blake2b(digest_size=size_bytes)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
