"""Spans of time on the command line: ``90s``, ``45m``, ``24h``, ``30d``, ``2w``."""

from __future__ import annotations

import re

import click

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST_S = 100 * 365 * UNITS_S["d"]

_SPAN = re.compile(r"^([0-9]{1,9})([smhdw])$")


class Duration(click.ParamType[int]):
    """A span of time, in seconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SPAN.match(value.strip().lower())
        seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value!r} is not a span of time; write 90s, 45m, 24h, 30d or 2w", param, ctx)
        return seconds
