"""The sources of one answer: chosen among what was found, numbered, and cut to the room that there is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from arkway.backends.bot import cleaning, size
from arkway.core.bot import Snippet
from arkway.core.reference import Reference

FENCE_TOKENS = 24
"""What stands around one source."""
KEY_MAX_CHARACTERS = 4096
LEAST_TOKENS = 48
"""A source of which less would fit is left out."""


class Source(msgspec.Struct, frozen=True):
    """A source as the model sees it, and as the caller does; its number is ``reference.idx + 1``."""

    heading: str
    text: str
    reference: Reference


class Sources:
    """What an answer may cite. Numbers begin with 1 and stay; ``room`` is the tokens that are left.

    ``shown``: the model gets to see them.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.found: list[Source] = []
        self.shown = True
        self._seen: set[str] = set()

    def add(self, finds: Sequence[Sequence[Snippet]]) -> list[list[int]]:
        """Takes the best of each find in turn, while there is room; the new sources' numbers, find by find.

        What is there already, by the id of its chunk or by its URL, is left out. No source gets more than half of the
        room, unless it is the only one.
        """
        share = self.room if sum(map(len, finds)) == 1 else self.room // 2
        taken: list[list[tuple[Snippet, str, str]]] = [[] for _ in finds]
        for rank in range(max(map(len, finds), default=0)):
            for place, find in enumerate(finds):
                if rank < len(find) and (texts := self._taken(find[rank], share)):
                    taken[place].append((find[rank], *texts))
        return [[self._numbered(*each) for each in find] for find in taken]

    def hide(self, told: int) -> None:
        """None of them is to be used from now on, and no other one either; of the first ``told`` callers know."""
        del self.found[told:]
        self.room, self.shown = 0, False

    def references(self) -> tuple[Reference, ...]:
        return tuple([source.reference for source in self.found])

    def _taken(self, snippet: Snippet, share: int) -> tuple[str, str] | None:
        """Heading and text, if it is new and fits."""
        limit = min(share, self.room) - FENCE_TOKENS
        key = _key(snippet)
        if limit < LEAST_TOKENS or key in self._seen:
            return None
        heading = size.cut(_heading(snippet.reference), limit // 2)
        text = cleaning.plain(snippet.text, limit * size.OCTETS_PER_TOKEN).strip()
        text = size.cut(cleaning.fenceless(text), limit - size.tokens(heading))
        if not text:
            return None
        self._seen.add(key)
        self.room -= size.tokens(heading) + size.tokens(text) + FENCE_TOKENS
        return heading, text

    def _numbered(self, snippet: Snippet, heading: str, text: str) -> int:
        self.found.append(Source(heading, text, cleaning.reference(snippet.reference, len(self.found))))
        return len(self.found)


def _key(snippet: Snippet) -> str:
    found = snippet.reference
    if found.chunk_id or found.url:
        return f"chunk {found.chunk_id}" if found.chunk_id else f"url {found.url}"
    return f"text {snippet.text[:KEY_MAX_CHARACTERS]}"


def _heading(found: Reference) -> str:
    """What it is and where it is from, on one line."""
    name = found.title or found.doc_name or found.url
    parts = (name, found.chunk_title, found.site_name or found.collection_name, found.publish_time)
    return " | ".join(dict.fromkeys(shown for part in parts if (shown := cleaning.line(part))))
