from __future__ import annotations

from arkway.telemetry.metrics import Metrics
from arkway.telemetry.plugins import PluginWatch


def lines(metrics: Metrics) -> dict[str, float]:
    told = [line.rpartition(" ") for line in metrics.render().decode().split("\n") if line.startswith("arkway_plugin")]
    return {name: float(value) for name, _, value in told}


def test_searches_are_counted_by_plugin_and_outcome_with_how_long_they_took() -> None:
    watch = PluginWatch()
    metrics = Metrics(more=(watch.tallies,))
    assert lines(metrics) == {}
    watch.ended("knowledge", "found", 0.02)
    watch.ended("knowledge", "found", 2.5)
    watch.ended("weather", "late", 100.0)
    told = lines(metrics)
    labels = 'outcome="found",plugin="knowledge"'
    assert told[f"arkway_plugin_seconds_count{{{labels}}}"] == 2
    assert told[f"arkway_plugin_seconds_sum{{{labels}}}"] == 2.52
    assert told[f'arkway_plugin_seconds_bucket{{le="0.025",{labels}}}'] == 1
    assert told[f'arkway_plugin_seconds_bucket{{le="2.0",{labels}}}'] == 1
    assert told[f'arkway_plugin_seconds_bucket{{le="3.0",{labels}}}'] == 2
    late = 'outcome="late",plugin="weather"'
    assert told[f'arkway_plugin_seconds_bucket{{le="30.0",{late}}}'] == 0
    assert told[f'arkway_plugin_seconds_bucket{{le="+Inf",{late}}}'] == 1
