"""From engine frames to log-probability entries: one per token, whose octets add up to the answer's text.

The engine reports a token that ends inside a character together with the next one, under the later token's name. The
tokens it passed over are left as ``Gap`` entries with their octets known; `arkway.backends.engine.rescore` fills them.
"""

from __future__ import annotations

from collections import deque

import msgspec

from arkway.backends.engine.client import Candidate, Frame
from arkway.core.chat import LogprobEntry, TokenLogprob


class Known(msgspec.Struct, frozen=True):
    """A token the engine reported."""

    id: int
    entry: LogprobEntry


class Gap(msgspec.Struct, frozen=True):
    """``count`` tokens the engine passed over; together they are ``octets``."""

    octets: bytes
    count: int


Entry = Known | Gap


class TokenLog:
    """Pairs tokens with the text sent so far: an entry is released once the text has caught up with it.

    Text lags behind tokens while the engine holds back what may become a stop string.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._pending: deque[Entry] = deque()
        self._tokens = 0
        self._token_bytes = 0
        self._text_bytes = 0
        self._released_bytes = 0
        self.gaps = 0

    def feed(self, frame: Frame, own: bytes) -> list[Entry]:
        """Entries that the text now covers. ``own``: the octets of the frame's token (none: it shows nothing)."""
        if not frame.completion_probabilities:
            return []
        sent = bytes(frame.completion_probabilities[0].octets)
        passed_over = frame.tokens_predicted - self._tokens - 1
        self._tokens = frame.tokens_predicted
        if passed_over > 0:
            self._push_gap(sent.removesuffix(own)[self._token_bytes - self._text_bytes :], passed_over)
        if own:
            self._push(Known(frame.completion_probabilities[0].id, self._entry(frame, own)))
        self._text_bytes += len(sent)
        return self._covered()

    def close(self) -> list[Entry]:
        """What a stop string cut: the token that is partly shown, with the octets that are."""
        shown = self._text_bytes - self._released_bytes
        first = self._pending[0] if self._pending else None
        self._pending.clear()
        if not isinstance(first, Known) or shown <= 0:
            return []
        octets = first.entry.chosen.octets[:shown]
        chosen = TokenLogprob(octets.decode(errors="replace"), first.entry.chosen.logprob, octets)
        return [Known(first.id, LogprobEntry(chosen, first.entry.top))]

    def _push_gap(self, octets: bytes, count: int) -> None:
        if octets:
            self.gaps += 1
            self._push(Gap(octets, count))

    def _push(self, entry: Entry) -> None:
        self._pending.append(entry)
        self._token_bytes += _width(entry)

    def _covered(self) -> list[Entry]:
        covered = []
        while self._pending and self._released_bytes + _width(self._pending[0]) <= self._text_bytes:
            entry = self._pending.popleft()
            self._released_bytes += _width(entry)
            covered.append(entry)
        return covered

    def _entry(self, frame: Frame, own: bytes) -> LogprobEntry:
        position = frame.completion_probabilities[0]
        chosen = TokenLogprob(own.decode(errors="replace"), position.logprob, own)
        return LogprobEntry(chosen, candidates(position.top_logprobs[: self._top]))


def candidates(rivals: list[Candidate]) -> tuple[TokenLogprob, ...]:
    """The engine's candidates, as they are shown."""
    return tuple(
        TokenLogprob(bytes(rival.octets).decode(errors="replace"), rival.logprob, bytes(rival.octets))
        for rival in rivals
    )


def _width(entry: Entry) -> int:
    return len(entry.octets) if isinstance(entry, Gap) else len(entry.entry.chosen.octets)
