"""Moments on the command line: ``2026-11-01``, ``2026-11-01T08:00``, or a span of time ago, such as ``30d``."""

from __future__ import annotations

import datetime
import time

import click

from arkway.cli.duration import Duration

EXAMPLES = "write 2026-11-01, 2026-11-01T08:00 (UTC), 2026-11-01T08:00+08:00, or a time ago such as 24h or 30d"


class Moment(click.ParamType[int]):
    """A moment in epoch milliseconds; UTC unless an offset is written."""

    name = "moment"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return self._ago(value, param, ctx)
        return round((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp() * 1000)

    def _ago(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return (int(time.time()) - Duration().convert(value, param, ctx)) * 1000
        except click.BadParameter:
            self.fail(f"{value!r} is not a moment and not a span of time; {EXAMPLES}", param, ctx)
