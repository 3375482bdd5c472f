"""How long the plugins of bots take, and how they end."""

from __future__ import annotations

from bisect import bisect_left

from arkway.telemetry.tally import Spread, Tallies

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30)


class PluginWatch:
    """Counts searches by plugin and outcome; both are from small fixed sets. ``tallies`` are for a registry."""

    def __init__(self) -> None:
        labels = ("plugin", "outcome")
        self._seconds = Spread("arkway_plugin_seconds", "What bots looked up, by plugin and outcome", labels, SECONDS)
        self.tallies = Tallies(self._seconds)

    def ended(self, plugin: str, outcome: str, seconds: float) -> None:
        """One search is over. On the event loop."""
        row = self._seconds.row(plugin, outcome)
        row[bisect_left(SECONDS, seconds)] += 1
        row[-1] += seconds
