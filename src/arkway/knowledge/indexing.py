"""What of a chunk goes into the word index: the name of its document, the headings above it, and its text.

Cutting text into words is most of the work of an upload, so it is done before the transaction that needs it begins.
"""

from __future__ import annotations

from collections.abc import Iterable

from arkway.core.knowledge import Chunk, Document
from arkway.knowledge.words import words


def label(document: Document) -> str:
    """What the document is called, wherever in it a chunk stands."""
    return document.title or document.name


class Cutting:
    """The words of chunks, each cut once. Kept as one text for each chunk: a list takes twelve times the memory."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def prepare(self, chunks: Iterable[Chunk], label: str) -> None:
        """Cuts them now, so that it need not be done later."""
        for chunk in chunks:
            self._cut(chunk, label)

    def words(self, chunk: Chunk, label: str) -> list[str]:
        """A label that is also the outermost heading counts once."""
        return self._cut(chunk, label).split()

    def _cut(self, chunk: Chunk, label: str) -> str:
        key = (chunk.id, label)
        if key not in self._known:
            above = chunk.path if label in chunk.path else (label, *chunk.path)
            self._known[key] = " ".join(words("\n".join((*above, chunk.text))))
        return self._known[key]
