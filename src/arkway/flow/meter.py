"""Counts one call while it runs and keeps the ledger true: reserve → checkpoint → settle.

Every step is synchronous: a client that leaves, a store that is slow, a task that is cancelled cannot lose a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, CallerError
from arkway.core.events import (
    Completeness,
    Delta,
    Event,
    Finished,
    Progress,
    Quoted,
    ToolDelta,
    UsageReport,
)
from arkway.core.transient import Transient
from arkway.flow.reserve import OCTETS_PER_TOKEN, Reservation
from arkway.ports import Attempt, Ledger, Outcome, Settlement

CHECKPOINT_TOKENS = 16
CHECKPOINT_NS = 250_000_000
NS_PER_MS = 1_000_000
PIECE_CHARACTERS = 32
PIECES = (Delta, ToolDelta)


def unguessed() -> Usage:
    """Where nobody has a guess."""
    return Usage(provenance="estimated")


class Meter(Transient):
    """One attempt, entered into the ledger as it is made. ``_clock_ns`` is a monotonic clock in nanoseconds, ``_held``
    what the call has taken of its limits, ``whole`` whether the answer has come to its end.

    The prompt tokens of ``_guess`` count where a backend that has begun to answer never says what it has read.
    ``spent`` is what the ledger has on record, once ``outcome`` is known.
    """

    _ledger: Ledger
    attempt: Attempt
    _clock_ns: Callable[[], int]
    _held: Reservation | None = None
    _guess: Callable[[], Usage] = unguessed
    whole: Completeness = msgspec.field(default_factory=Completeness)
    outcome: Outcome | None = None
    spent: Usage = Usage()
    first_token_ms: int = -1
    _reported: Usage | None = None
    _prompt: int = 0
    _completion: int = 0
    _deltas: int = 0
    _since: int = 0
    _started_ns: int = 0
    _checkpoint_ns: int = 0
    _checkpoint_tokens: int = 0

    def __post_init__(self) -> None:
        self._started_ns = self._checkpoint_ns = self._clock_ns()
        try:
            self._ledger.reserve(self.attempt)
        except BaseException:
            if self._held is not None:
                self._held.settle(Usage(), counted=False)
            raise

    def observe_all(self, batch: Sequence[Event]) -> None:
        """Counts what one read of the backend's has brought; one checkpoint at most, and none where it is the end."""
        plain, ended, opened = 0, False, self.whole.opened
        for event in batch:
            if isinstance(event, Quoted):  # nearly every event of nearly every stream
                opened.add(event.index)
                plain += 1
            elif isinstance(event, Finished):
                self.whole.finished.add(event.index)
                ended = True
            elif isinstance(event, UsageReport):
                self._reported = event.usage
            elif isinstance(event, Progress):
                self._prompt = max(self._prompt, event.total)
            elif isinstance(event, PIECES):
                opened.add(event.index)
                self._count(event)
        if plain:
            self._deltas += plain
            self._since += plain
        if ended and self.first_token_ms < 0 < self._deltas:
            self.first_token_ms = (self._clock_ns() - self._started_ns) // NS_PER_MS
        elif self._deltas:
            self._mark()

    def report(self, usage: Usage) -> None:
        """Final counts for calls that have no events."""
        self._reported = usage

    def usage(self) -> Usage:
        """The best count so far: reported by the backend, else counted along the stream, else a guess."""
        if self._reported is not None:
            return self._reported
        spent = self._completion + self._since
        if self._completion or self._prompt:
            return Usage(self._prompt or self._guess().prompt_tokens, spent, provenance="counted")
        return Usage(self._guess().prompt_tokens if self._deltas else 0, spent, provenance="estimated")

    def settle(self, outcome: Outcome, error: ArkwayError | None = None) -> None:
        """Closes the attempt, once; later calls change nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        unserved = not self._deltas and outcome in ("upstream_error", "refused", "interrupted")
        # A call that failed or was cut on our side before its first token costs nothing; a client that leaves pays
        # for the prompt it had us read (the billing rule, docs/ledger.md).
        usage = self.spent = Usage(provenance="counted") if unserved else self._reported or self.usage()
        duration_ms = (self._clock_ns() - self._started_ns) // NS_PER_MS
        closed_ms = self.attempt.opened_ms + duration_ms
        failure = type(error).__name__ if error is not None else ""
        settlement = Settlement(outcome, usage, closed_ms, self.first_token_ms, duration_ms, failure)
        try:
            self._ledger.settle(self.attempt.id, settlement)
        finally:
            if self._held is not None:
                # A mistake of the caller's that only the model could find has had its turn; what failed here has not.
                self._held.settle(usage, counted=not unserved or isinstance(error, CallerError))

    def _count(self, event: Delta | ToolDelta) -> None:
        self._deltas += 1
        if event.prompt_tokens > self._prompt:
            self._prompt = event.prompt_tokens
        if event.completion_tokens:
            self._completion, self._since = max(self._completion, event.completion_tokens), 0
        else:
            self._since += _pieces(event)

    def _mark(self) -> None:
        """Writes a checkpoint at the first token and then every 16 tokens or 250 ms."""
        now_ns = self._clock_ns()
        if self.first_token_ms < 0:
            self.first_token_ms = (now_ns - self._started_ns) // NS_PER_MS
        spent = self._completion + self._since
        since = spent - self._checkpoint_tokens
        first = not self._checkpoint_tokens
        if first or since >= CHECKPOINT_TOKENS or now_ns - self._checkpoint_ns >= CHECKPOINT_NS:
            self._checkpoint_tokens, self._checkpoint_ns = spent, now_ns
            self._ledger.checkpoint(self.attempt.id, self._prompt or self._guess().prompt_tokens, spent)


def _pieces(event: Delta | ToolDelta) -> int:
    """Tokens in a piece of which nobody has said how many: one, unless it is as long as several."""
    text = event.text + event.reasoning if isinstance(event, Delta) else event.arguments
    if len(text) <= PIECE_CHARACTERS:
        return 1
    return max(1, len(text.encode(errors="replace")) // OCTETS_PER_TOKEN)
