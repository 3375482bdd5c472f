"""Periods are those of the UTC calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arkway.core.limit import END_OF_TIME_MS, Period, window


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    "period, now_ms, expected",
    [
        ("day", ms(2026, 2, 28, 23, 59, 59), (ms(2026, 2, 28), ms(2026, 3, 1))),
        ("day", ms(2026, 3, 1), (ms(2026, 3, 1), ms(2026, 3, 2))),
        ("month", ms(2024, 2, 29, 12), (ms(2024, 2, 1), ms(2024, 3, 1))),
        ("month", ms(2026, 12, 31, 23, 59, 59), (ms(2026, 12, 1), ms(2027, 1, 1))),
        ("total", ms(2026, 7, 1), (0, END_OF_TIME_MS)),
    ],
)
def test_the_period_around_a_moment(period: Period, now_ms: int, expected: tuple[int, int]) -> None:
    assert window(period, now_ms) == expected
    assert window(period, expected[1] - 1) == expected
