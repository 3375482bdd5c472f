"""Prometheus metrics. Labels are bounded: dialect, operation, model, status, error class; never a key, never a user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from arkway.core.limit import Rule
from arkway.ports import CallRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)

ADJUSTED_NAMES_MAX = 256

Reading = Mapping[str, float]

# A second series for each counter says nothing that the scraper does not know.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Implements `arkway.ports.Observer`; `render` is what ``/metrics`` answers.

    A child of a metric is looked up once per combination of labels: finding it costs more than counting with it.
    ``gauges()`` is read at every scrape: name → value, for what other parts know about themselves.
    """

    def __init__(self, gauges: Callable[[], Reading] = dict) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        where = ("dialect", "operation")
        self._requests = cache(self._counter("requests", "Calls answered", (*where, "model", "status")).labels)
        self._errors = cache(self._counter("errors", "Calls that failed, by class of error", (*where, "error")).labels)
        self._tokens = cache(self._counter("tokens", "Tokens, by kind", ("model", "kind")).labels)
        self._seconds = cache(
            self._histogram("request_seconds", "From arrival to the last byte", where, SECONDS).labels
        )
        self._first = cache(
            self._histogram("ttft_seconds", "From admission to the first token", ("model",), SECONDS).labels
        )
        self._each = cache(
            self._histogram("tpot_seconds", "Per token after the first", ("model",), TOKEN_SECONDS).labels
        )
        self._adjusted = self._counter(
            "adjusted_fields", "Fields of requests that had no or not their full effect", ("dialect", "field", "effect")
        )
        self._adjusted_names: set[str] = set()
        self._limited = cache(
            self._counter("limited", "Calls over a limit, refused or (shadow) not", ("scope", "kind", "shadow")).labels
        )
        self._inflight = cache(Gauge("arkway_inflight", "Calls being served", where, registry=self._registry).labels)
        self._registry.register(_Readings(gauges))

    def started(self, dialect: str, operation: str) -> None:
        self._inflight(dialect, operation).inc()

    def ended(self, record: CallRecord) -> None:
        where = (record.dialect, record.operation)
        self._inflight(*where).dec()
        self._requests(*where, record.model, str(record.status)).inc()
        self._seconds(*where).observe(record.duration_s)
        if record.error:
            self._errors(*where, record.error).inc()
        for name, effect in record.adjusted:
            self._adjusted.labels(record.dialect, self._bounded(name), effect).inc()
        self._count_tokens(record)

    def limited(self, rule: Rule) -> None:
        """One call was over this limit."""
        self._limited(rule.scope, rule.kind, "yes" if rule.shadow else "no").inc()

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)

    def _bounded(self, name: str) -> str:
        """Callers choose the names of unknown fields: past so many, they are all one."""
        if len(self._adjusted_names) < ADJUSTED_NAMES_MAX:
            self._adjusted_names.add(name)
        return name if name in self._adjusted_names else "other"

    def _count_tokens(self, record: CallRecord) -> None:
        usage = record.usage
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens),
        ):
            if count:
                self._tokens(record.model, kind).inc(count)
        if record.first_token_s >= 0:
            self._first(record.model).observe(record.first_token_s)
            if usage.completion_tokens > 1:
                rest_s = record.duration_s - record.first_token_s
                self._each(record.model).observe(max(0.0, rest_s) / (usage.completion_tokens - 1))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"arkway_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"arkway_{name}", text, labels, buckets=buckets, registry=self._registry)


class _Readings(Collector):
    def __init__(self, gauges: Callable[[], Reading]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"arkway_{name}", name.replace("_", " "), value=value)
