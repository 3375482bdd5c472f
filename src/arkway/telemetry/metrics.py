"""Prometheus metrics. Labels are bounded: dialect, operation, model, status, error class; never a key, never a user."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from arkway.core.limit import Rule
from arkway.ports import CallRecord
from arkway.telemetry.tally import Spread, Tallies, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)

ADJUSTED_NAMES_MAX = 256

Reading = Mapping[str, float]

# A second series for each counter says nothing that the scraper does not know.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric at one moment: ``samples`` are names, labels and values."""

    name: str
    documentation: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


class Clearance(NamedTuple):
    """Where calls are counted that have dialect, operation, model and status in common."""

    inflight: list[float]
    requests: list[float]
    seconds: list[float]
    prompt: list[float]
    completion: list[float]
    cached: list[float]
    first: list[float]
    each: list[float]


class Metrics:
    """Implements `arkway.ports.Observer`; `render` is what ``/metrics`` answers.

    ``gauges()`` is read at every scrape: name → value, for what other parts know about themselves. ``more``: what
    others count by themselves.
    """

    def __init__(self, gauges: Callable[[], Reading] = dict, more: Iterable[Collector] = ()) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        where = ("dialect", "operation")
        self._requests = Tally("arkway_requests", "Calls answered", (*where, "model", "status"))
        self._errors = Tally("arkway_errors", "Calls that failed, by class of error", (*where, "error"))
        self._tokens = Tally("arkway_tokens", "Tokens, by kind", ("model", "kind"))
        self._seconds = Spread("arkway_request_seconds", "From arrival to the last byte", where, SECONDS)
        self._first = Spread("arkway_ttft_seconds", "From admission to the first token", ("model",), SECONDS)
        self._each = Spread("arkway_tpot_seconds", "Per token after the first", ("model",), TOKEN_SECONDS)
        self._inflight = Tally("arkway_inflight", "Calls being served", where, gauge=True)
        self._clearances: dict[tuple[str, str, str, int], Clearance] = {}
        self._arrived: dict[tuple[str, str], list[float]] = {}
        self._registry.register(
            Tallies(self._inflight, self._requests, self._errors, self._tokens, self._seconds, self._first, self._each)
        )
        self._adjusted = self._counter(
            "adjusted_fields", "Fields of requests that had no or not their full effect", ("dialect", "field", "effect")
        )
        self._adjusted_names: set[str] = set()
        self._limited = cache(
            self._counter("limited", "Calls over a limit, refused or (shadow) not", ("scope", "kind", "shadow")).labels
        )
        self._registry.register(_Readings(gauges))
        for collector in more:
            self._registry.register(collector)

    def started(self, dialect: str, operation: str) -> None:
        cell = self._arrived.get((dialect, operation))
        if cell is None:
            cell = self._arrived[dialect, operation] = self._inflight.cell(dialect, operation)
        cell[0] += 1

    def ended(self, record: CallRecord) -> None:
        where = (record.dialect, record.operation, record.model, record.status)
        clearance = self._clearances.get(where)
        if clearance is None:
            clearance = self._clearances[where] = self._clearance(*where)
        seconds, usage, first_s = record.duration_s, record.usage, record.first_token_s
        clearance.inflight[0] -= 1
        clearance.requests[0] += 1
        clearance.seconds[bisect_left(SECONDS, seconds)] += 1
        clearance.seconds[-1] += seconds
        clearance.prompt[0] += usage.prompt_tokens
        clearance.completion[0] += usage.completion_tokens
        clearance.cached[0] += usage.cached_tokens
        if first_s >= 0:
            clearance.first[bisect_left(SECONDS, first_s)] += 1
            clearance.first[-1] += first_s
            if usage.completion_tokens > 1:
                each_s = max(0.0, seconds - first_s) / (usage.completion_tokens - 1)
                clearance.each[bisect_left(TOKEN_SECONDS, each_s)] += 1
                clearance.each[-1] += each_s
        if record.error:
            self._errors.cell(record.dialect, record.operation, record.error)[0] += 1
        for name, effect in record.adjusted:
            self._adjusted.labels(record.dialect, self._bounded(name), effect).inc()

    def limited(self, rule: Rule) -> None:
        """One call was over this limit."""
        self._limited(rule.scope, rule.kind, "yes" if rule.shadow else "no").inc()

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)

    def families(self) -> list[Family]:
        """What `render` shows, for another process of the same server."""
        return [
            Family(m.name, m.documentation, m.type, [(s.name, dict(s.labels), s.value) for s in m.samples])
            for m in self._registry.collect()
        ]

    def _bounded(self, name: str) -> str:
        """Callers choose the names of unknown fields: past so many, they are all one."""
        if len(self._adjusted_names) < ADJUSTED_NAMES_MAX:
            self._adjusted_names.add(name)
        return name if name in self._adjusted_names else "other"

    def _clearance(self, dialect: str, operation: str, model: str, status: int) -> Clearance:
        return Clearance(
            inflight=self._inflight.cell(dialect, operation),
            requests=self._requests.cell(dialect, operation, model, str(status)),
            seconds=self._seconds.row(dialect, operation),
            prompt=self._tokens.cell(model, "prompt"),
            completion=self._tokens.cell(model, "completion"),
            cached=self._tokens.cell(model, "cached"),
            first=self._first.row(model),
            each=self._each.row(model),
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"arkway_{name}", text, labels, registry=self._registry)


def of_processes(found: Mapping[int, Sequence[Family] | None]) -> bytes:
    """The exposition text of several processes by number, each under its label; None = it has not answered."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Together(found))
    return generate_latest(registry)


class _Together(Collector):
    def __init__(self, found: Mapping[int, Sequence[Family] | None]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "arkway_process_up", "Whether the process has told its metrics in time", labels=["process"]
        )
        metrics: dict[str, Metric] = {}
        for number, families in self._found.items():
            up.add_metric([str(number)], families is not None)
            for family in families or ():
                metric = metrics.setdefault(family.name, Metric(family.name, family.documentation, family.kind))
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "process": str(number)}, value)
        return [up, *metrics.values()]


class _Readings(Collector):
    def __init__(self, gauges: Callable[[], Reading]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"arkway_{name}", name.replace("_", " "), value=value)
