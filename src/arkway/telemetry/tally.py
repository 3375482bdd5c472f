"""Counters and histograms for the road of a call: a dictionary each, made into metrics when somebody scrapes.

prometheus_client's own children take a lock for every count, which adds up to more than all else that a call is
observed by; here counts are made by one thread, the event loop's, and the scrape reads them in that thread too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Tally:
    """A counter with labels, in the order of ``labels``; as a ``gauge`` it may go down, too.

    `cell` is where one combination of labels is counted: a list of one number, for whoever counts it often. A counter
    that has never counted is not shown.
    """

    __slots__ = ("_cells", "_gauge", "_name", "_text", "labels")

    def __init__(self, name: str, text: str, labels: Labels, *, gauge: bool = False) -> None:
        self._name, self._text, self.labels, self._gauge = name, text, labels, gauge
        self._cells: dict[Labels, list[float]] = {}

    def cell(self, *labels: str) -> list[float]:
        return self._cells.setdefault(labels, [0])

    def metric(self) -> Metric:
        kind = GaugeMetricFamily if self._gauge else CounterMetricFamily
        family = kind(self._name, self._text, labels=self.labels)
        for labels, (count,) in self._cells.items():
            if count or self._gauge:
                family.add_metric(labels, count)
        return family


class Spread:
    """A histogram with labels; ``bounds`` are the buckets' inclusive upper ends."""

    __slots__ = ("_name", "_rows", "_text", "bounds", "labels")

    def __init__(self, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._name, self._text, self.labels, self.bounds = name, text, labels, bounds
        self._rows: dict[Labels, list[float]] = {}

    def row(self, *labels: str) -> list[float]:
        """One count per bucket and one for what is above them all; the sum of the values comes last.

        A value counts at ``bisect_left(bounds, value)``.
        """
        return self._rows.setdefault(labels, [0] * (len(self.bounds) + 1) + [0.0])

    def metric(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self.labels)
        for labels, row in self._rows.items():
            if any(row[:-1]):
                family.add_metric(labels, list(self._buckets(row)), row[-1])
        return family

    def _buckets(self, row: list[float]) -> Iterator[tuple[str, float]]:
        total = 0.0
        for bound, count in zip((*self.bounds, float("inf")), row[:-1], strict=True):
            total += count
            yield floatToGoString(bound), total  # type: ignore[no-untyped-call]


class Tallies(Collector):
    """Several of them, for a registry."""

    def __init__(self, *tallies: Tally | Spread) -> None:
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        return [tally.metric() for tally in self._tallies]
