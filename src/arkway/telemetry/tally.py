"""Counters and histograms for the road of a call: a dictionary each, made into metrics when somebody scrapes.

prometheus_client's own children take a lock for every count, which adds up to more than all else that a call is
observed by; here counts are made by one thread, the event loop's, and the scrape reads them in that thread too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Tally:
    """A counter with labels, in the order of ``labels``; as a ``gauge`` it may go down, too."""

    __slots__ = ("_counts", "_gauge", "_name", "_text", "labels")

    def __init__(self, name: str, text: str, labels: Labels, *, gauge: bool = False) -> None:
        self._name, self._text, self.labels, self._gauge = name, text, labels, gauge
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, count: float = 1) -> None:
        counts = self._counts
        counts[labels] = counts.get(labels, 0) + count

    def metric(self) -> Metric:
        kind = GaugeMetricFamily if self._gauge else CounterMetricFamily
        family = kind(self._name, self._text, labels=self.labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return family


class Spread:
    """A histogram with labels; ``bounds`` are the buckets' inclusive upper ends."""

    __slots__ = ("_bounds", "_name", "_rows", "_text", "labels")

    def __init__(self, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._name, self._text, self.labels, self._bounds = name, text, labels, bounds
        # One count per bucket and one for what is above them all; the sum of the values comes last.
        self._rows: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = [0] * (len(self._bounds) + 1) + [0.0]
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def metric(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self.labels)
        for labels, row in self._rows.items():
            family.add_metric(labels, list(self._buckets(row)), row[-1])
        return family

    def _buckets(self, row: list[float]) -> Iterator[tuple[str, float]]:
        total = 0.0
        for bound, count in zip((*self._bounds, float("inf")), row[:-1], strict=True):
            total += count
            yield floatToGoString(bound), total  # type: ignore[no-untyped-call]


class Tallies(Collector):
    """Several of them, for a registry."""

    def __init__(self, *tallies: Tally | Spread) -> None:
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        return [tally.metric() for tally in self._tallies]
