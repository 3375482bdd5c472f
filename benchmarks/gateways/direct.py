"""No gateway: the upstream itself, which says how far the harness goes."""

from __future__ import annotations

from benchmarks.gateways.gateway import Command, Gateway, Place


class Direct(Gateway):
    """The load talks to the upstream."""

    name, language, note = "direct", "C", "the harness itself"

    def install(self) -> str:
        return "-"

    def command(self, place: Place) -> Command | None:
        return None
