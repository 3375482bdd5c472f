"""Times in the form of callers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arkway.search.times import shown, shown_time

WANTED = "2025年04月08日 10:30:00(CST) 星期二"


@pytest.mark.parametrize(
    "text",
    [
        WANTED, "2025-04-08T10:30:00+08:00", "2025-04-08T02:30:00Z", "2025-04-08 10:30:00", "2025-04-08T10:30",
        "2025/4/8 10:30", "2025.04.08 10:30:00", "2025年4月8日 10:30", "2025年04月08日10时30分",
        "Tue, 08 Apr 2025 02:30:00 GMT",
        "1744079400", "1744079400000", "  2025-04-08T10:30:00.000000+08:00 ",
    ],
)  # fmt: skip
def test_every_form_becomes_the_callers(text: str) -> None:
    assert shown_time(text) == WANTED


def test_a_day_alone_begins_at_midnight() -> None:
    assert shown_time("2025-04-06") == "2025年04月06日 00:00:00(CST) 星期日"


@pytest.mark.parametrize(
    "text",
    [None, "", "yesterday", "3 hours ago", "2025-13-40", "9999999999999999", "0001-01-01", "2025-04-08T99:00",
    "1969-12-31",
     "x" * 1000, "2025" * 20, "９９９９-01-01", "Tue, 99 Apr 2025 02:30:00 GMT", "\ud800"],
)  # fmt: skip
def test_what_is_no_time_is_empty(text: str | None) -> None:
    assert shown_time(text) == ""


def test_moments_are_shown_in_chinas_time() -> None:
    assert shown(datetime(2025, 4, 8, 2, 30, tzinfo=UTC)) == WANTED
