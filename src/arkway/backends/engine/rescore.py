"""Fills the gaps of a `TokenLog`: the engine is asked again for the positions it passed over.

Each question repeats the prompt and the answer up to the gap on the slot that still holds them, so it costs one token.
The engine shows nothing of a token that ends inside a character, so a plain letter is forced in its place: the
probabilities are those before any bias.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from arkway.backends.engine.client import Candidate, EngineClient, Position
from arkway.backends.engine.sampling import GREEDY
from arkway.backends.engine.tokenlog import Entry, Gap, Known, candidates
from arkway.core.chat import LogprobEntry, TokenLogprob

ASKED = 512
QUESTIONS_MAX = 64
"""Positions that are asked again in one answer; the tokens of a gap beyond them share one entry."""
FORCE = 1000.0
UNLIKELY = -9999.0
"""What the field shows for a token that is not among the likely ones."""


class Rescorer:
    """One answer's second look. ``ids`` are the prompt's; entries must come in order."""

    def __init__(self, client: EngineClient, ids: list[int], slot: int, top: int) -> None:
        self._client = client
        self._ids = list(ids)
        self._slot = slot
        self._top = top
        self._letter: int | None = None
        self._questions = 0

    def known(self, entry: Known) -> LogprobEntry:
        self._ids.append(entry.id)
        return entry.entry

    async def fill(self, entries: list[Entry]) -> tuple[LogprobEntry, ...]:
        """The entries with every gap replaced by its tokens."""
        filled: list[LogprobEntry] = []
        for entry in entries:
            if isinstance(entry, Known):
                filled.append(self.known(entry))
            else:
                filled += await self._tokens_of(entry)
        return tuple(filled)

    async def _tokens_of(self, gap: Gap) -> list[LogprobEntry]:
        self._questions += gap.count
        if self._questions > QUESTIONS_MAX:
            return [self._entry(None, gap.octets, [])]
        found = []
        octets = gap.octets
        for left in range(gap.count - 1, -1, -1):
            rivals = (await self._asked()).top_logprobs
            fitting = [rival for rival in rivals if _fits(bytes(rival.octets), octets, left)]
            width = len(fitting[0].octets) if fitting else len(octets) - left
            found.append(self._entry(fitting[0] if fitting else None, octets[:width], rivals))
            octets = octets[width:]
        return found

    async def _asked(self) -> Position:
        if self._letter is None:
            self._letter = (await self._client.ids("a", special=False))[-1]
        body: dict[str, Any] = {
            "prompt": self._ids, "n_predict": 1, "n_probs": ASKED, "temperature": 0.0, **GREEDY,
            "id_slot": self._slot, "cache_prompt": True,
            "logit_bias": [[self._letter, FORCE]],
        }  # fmt: skip
        completion = self._client.complete(body)
        asked = Position(-1, "", UNLIKELY)
        try:
            async with aclosing(completion.frames()) as frames:
                async for frame in frames:
                    asked = next(iter(frame.completion_probabilities), asked)
        finally:
            completion.abandon()
        return asked

    def _entry(self, found: Candidate | None, octets: bytes, rivals: list[Candidate]) -> LogprobEntry:
        if found is not None:
            self._ids.append(found.id)
        logprob = UNLIKELY if found is None else found.logprob
        return LogprobEntry(
            TokenLogprob(octets.decode(errors="replace"), logprob, octets), candidates(rivals[: self._top])
        )


def _fits(octets: bytes, wanted: bytes, left: int) -> bool:
    """May a token of these octets stand at the start of ``wanted`` with ``left`` more tokens after it?"""
    if not octets or not wanted.startswith(octets):
        return False
    rest = len(wanted) - len(octets)
    return rest == 0 if left == 0 else rest >= left
