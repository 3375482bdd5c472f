"""The meter alone, under a clock that is moved by hand."""

from __future__ import annotations

import pytest

from arkway.core.chat import Usage
from arkway.core.errors import BackendFailed
from arkway.core.events import Delta, Finished, Progress, ToolDelta, UsageReport
from arkway.flow.meter import Meter
from arkway.ports import Attempt, Outcome
from arkway.testing import MemoryLedger

ATTEMPT = Attempt("a", "r", "default", "default", "key-1", "ep-1", "m-1", "v3", "chat", opened_ms=1_000_000)


class Clock:
    """Moved by hand in milliseconds, read in nanoseconds."""

    def __init__(self) -> None:
        self.now_ms = 50

    def __call__(self) -> int:
        return self.now_ms * 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def meter(ledger: MemoryLedger, clock: Clock) -> Meter:
    return Meter(ledger, ATTEMPT, clock)


def test_an_attempt_is_reserved_before_anything_else(meter: Meter, ledger: MemoryLedger) -> None:
    assert list(ledger.attempts.values()) == [ATTEMPT]
    assert meter.outcome is None


def test_a_checkpoint_at_the_first_token_and_every_16(meter: Meter, ledger: MemoryLedger) -> None:
    for count in range(1, 50):
        meter.observe_all([Delta("x", completion_tokens=count, prompt_tokens=7)])
    assert ledger.checkpoints == [("a", 7, 1), ("a", 7, 17), ("a", 7, 33), ("a", 7, 49)]


def test_a_checkpoint_every_250_ms(meter: Meter, ledger: MemoryLedger, clock: Clock) -> None:
    for count in range(1, 6):
        clock.now_ms += 100
        meter.observe_all([ToolDelta(0, "x", completion_tokens=count, prompt_tokens=7)])
    assert ledger.checkpoints == [("a", 7, 1), ("a", 7, 4)]


def test_deltas_stand_for_tokens_where_none_are_told(meter: Meter, ledger: MemoryLedger) -> None:
    for _ in range(17):
        meter.observe_all([Delta("x")])
    assert ledger.checkpoints == [("a", 0, 1), ("a", 0, 17)]
    assert meter.usage() == Usage(0, 17, provenance="estimated")


def test_the_best_count_wins(meter: Meter) -> None:
    meter.observe_all([Progress(3, 7)])
    meter.observe_all([Delta("x", completion_tokens=5, prompt_tokens=7)])
    meter.observe_all([Delta("y", completion_tokens=4)])
    assert meter.usage() == Usage(7, 5, provenance="counted")
    meter.observe_all([Finished("stop")])
    meter.observe_all([UsageReport(Usage(8, 6, 2))])
    assert meter.usage() == Usage(8, 6, 2, provenance="reported")


def test_a_call_is_settled_once(meter: Meter, ledger: MemoryLedger, clock: Clock) -> None:
    clock.now_ms += 30
    meter.observe_all([Delta("x", completion_tokens=1, prompt_tokens=7)])
    clock.now_ms += 70
    meter.settle("upstream_error", BackendFailed("broken"))
    meter.settle("done")
    settled = ledger.settlements["a"]
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendFailed")
    assert (settled.first_token_ms, settled.duration_ms, settled.closed_ms) == (30, 100, 1_000_100)
    assert settled.usage == Usage(7, 1, provenance="counted")


@pytest.mark.parametrize(
    ("outcome", "billed"),
    [("client_abort", 7), ("upstream_error", 0), ("refused", 0), ("interrupted", 0)],
)
def test_before_the_first_token_only_a_client_that_leaves_pays_for_the_prompt(
    meter: Meter, ledger: MemoryLedger, outcome: Outcome, billed: int
) -> None:
    meter.observe_all([Progress(3, 7)])
    assert ledger.checkpoints == []
    meter.settle(outcome)
    assert ledger.settlements["a"].usage.prompt_tokens == billed
