"""Counts one call while it runs and keeps the ledger true: reserve → checkpoint → settle.

Every step is synchronous: a client that leaves, a store that is slow, a task that is cancelled cannot lose a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, CallerError
from arkway.core.events import Delta, Event, Finished, Progress, Quoted, ToolDelta, UsageReport
from arkway.flow.reserve import OCTETS_PER_TOKEN, Reservation
from arkway.ports import Attempt, Ledger, Outcome, Settlement

CHECKPOINT_TOKENS = 16
CHECKPOINT_MS = 250
PIECE_CHARACTERS = 32


class Meter:
    """One attempt. ``clock_ms`` is a monotonic clock in milliseconds, ``held`` what it has taken of its limits.

    ``prompt_guess`` counts, in tokens, where a backend that has begun to answer never says what it has read.
    """

    __slots__ = (
        "_attempt",
        "_checkpoint_ms",
        "_checkpoint_tokens",
        "_clock_ms",
        "_completion",
        "_deltas",
        "_held",
        "_ledger",
        "_prompt",
        "_prompt_guess",
        "_reported",
        "_since",
        "_started_ms",
        "first_token_ms",
        "outcome",
    )

    def __init__(
        self,
        ledger: Ledger,
        attempt: Attempt,
        clock_ms: Callable[[], int],
        held: Reservation | None = None,
        prompt_guess: int = 0,
    ) -> None:
        self._ledger = ledger
        self._held = held
        self._prompt_guess = prompt_guess
        self._attempt = attempt
        self._clock_ms = clock_ms
        self._started_ms = self._checkpoint_ms = clock_ms()
        self._prompt = self._completion = self._deltas = self._since = self._checkpoint_tokens = 0
        self._reported: Usage | None = None
        self.first_token_ms = -1
        self.outcome: Outcome | None = None
        try:
            ledger.reserve(attempt)
        except BaseException:
            self._return(Usage(), counted=False)
            raise

    def observe_all(self, batch: Sequence[Event]) -> None:
        """Counts what one read of the backend's has brought; one checkpoint at most, and none where it is the end."""
        plain, ended = 0, False
        for event in batch:
            kind = type(event)
            if kind is Quoted:
                plain += 1
            elif kind is Finished:
                ended = True
            else:
                self._count(event)
        self._deltas += plain
        self._since += plain
        if self._deltas and not (ended and self.first_token_ms < 0):
            self._mark()
        elif self._deltas:
            self.first_token_ms = self._clock_ms() - self._started_ms

    def report(self, usage: Usage) -> None:
        """Final counts for calls that have no events."""
        self._reported = usage

    def usage(self) -> Usage:
        """The best count so far: reported by the backend, else counted along the stream, else a guess."""
        if self._reported is not None:
            return self._reported
        spent = self._completion + self._since
        if self._completion or self._prompt:
            return Usage(self._prompt or self._prompt_guess, spent, provenance="counted")
        return Usage(self._prompt_guess if self._deltas else 0, spent, provenance="estimated")

    def settle(self, outcome: Outcome, error: ArkwayError | None = None) -> None:
        """Closes the attempt, once; later calls change nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        now_ms = self._clock_ms()
        unserved = outcome in ("upstream_error", "refused", "interrupted") and not self._deltas
        # A call that failed or was cut on our side before its first token costs nothing; a client that leaves pays
        # for the prompt it had us read (the billing rule, docs/ledger.md).
        usage = Usage(provenance="counted") if unserved else self.usage()
        settlement = Settlement(
            outcome=outcome,
            usage=usage,
            closed_ms=self._attempt.opened_ms + now_ms - self._started_ms,
            first_token_ms=self.first_token_ms,
            duration_ms=now_ms - self._started_ms,
            error=type(error).__name__ if error is not None else "",
        )
        try:
            self._ledger.settle(self._attempt.id, settlement)
        finally:
            # A mistake of the caller's that only the model could find has had its turn; what failed here has not.
            self._return(usage, counted=not unserved or isinstance(error, CallerError))

    def _return(self, usage: Usage, *, counted: bool) -> None:
        if self._held is not None:
            self._held.settle(usage, counted=counted)

    def _count(self, event: Event) -> None:
        if isinstance(event, Delta | ToolDelta):
            self._deltas += 1
            self._prompt = max(self._prompt, event.prompt_tokens)
            if event.completion_tokens:
                self._completion, self._since = max(self._completion, event.completion_tokens), 0
            else:
                self._since += _pieces(event)
        elif isinstance(event, UsageReport):
            self._reported = event.usage
        elif isinstance(event, Progress):
            self._prompt = max(self._prompt, event.total)

    def _mark(self) -> None:
        """Writes a checkpoint at the first token and then every 16 tokens or 250 ms."""
        now_ms = self._clock_ms()
        if self.first_token_ms < 0:
            self.first_token_ms = now_ms - self._started_ms
        spent = self._completion + self._since
        since = spent - self._checkpoint_tokens
        first = not self._checkpoint_tokens
        if first or since >= CHECKPOINT_TOKENS or now_ms - self._checkpoint_ms >= CHECKPOINT_MS:
            self._checkpoint_tokens, self._checkpoint_ms = spent, now_ms
            self._ledger.checkpoint(self._attempt.id, self._prompt or self._prompt_guess, spent)


def _pieces(event: Delta | ToolDelta) -> int:
    """Tokens in a piece of which nobody has said how many: one, unless it is as long as several."""
    text = event.text + event.reasoning if isinstance(event, Delta) else event.arguments
    if len(text) <= PIECE_CHARACTERS:
        return 1
    return max(1, len(text.encode(errors="replace")) // OCTETS_PER_TOKEN)
