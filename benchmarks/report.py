"""What a programme is told, what it hands back, and how that is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True):
    """``quick``: short rounds, to see that everything runs; such figures say little. ``home``: whose models to use.

    ``only``: which gateways `benchmarks.peers` compares, empty = all; ``profile``: where Arkway's time goes, too.
    """

    quick: bool
    home: Path
    only: tuple[str, ...] = ()
    profile: bool = False


class Table(msgspec.Struct, frozen=True):
    """A small table for people; numbers are shown with three digits."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float | None, ...]]


class Report(msgspec.Struct, frozen=True):
    """A programme's result: the same figures for machines and for people. ``failures``: what could not be measured."""

    figures: dict[str, Any]
    tables: list[Table]
    failures: list[str] = []


class Unmeasured(Exception):
    """The programme cannot run here; the message says what is missing and how to mend it."""


def show(table: Table) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, title_justify="left")
    for place, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if place else "left")
    for row in table.rows:
        drawn.add_row(*map(shown, row))
    Console().print(drawn)


def shown(value: str | float | None) -> str:
    """A cell: text as it is, numbers with three digits, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed. Raises ValueError without values."""
    if not values:
        raise ValueError("no values were measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def medians(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    collected: dict[str, list[float]] = {}
    for figures in rounds:
        for name, value in figures.items():
            collected.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in collected.items()}
