"""What moderation has done."""

from __future__ import annotations

from arkway.telemetry.tally import Tallies, Tally


class ModerationWatch:
    """Counts stages of calls by what became of them; both are from small fixed sets. ``tallies`` are for a registry."""

    def __init__(self) -> None:
        self._actions = Tally(
            "arkway_moderation", "Requests and answers under a strategy of moderation", ("stage", "action")
        )
        self.tallies = Tallies(self._actions)

    def acted(self, stage: str, action: str) -> None:
        """On the event loop."""
        self._actions.cell(stage, action)[0] += 1
