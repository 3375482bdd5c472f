"""Who is over a limit: counted each time, logged once a minute for each limit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from arkway.core.limit import Rule

LOG_EVERY_S = 60.0
REMEMBERED_MAX = 10_000

log = logging.getLogger("arkway.limits")


class LimitWatch:
    """Told of every call that is over a limit, synchronously. ``count`` is a metric."""

    def __init__(self, count: Callable[[Rule], None], clock_s: Callable[[], float] = monotonic) -> None:
        self._count, self._clock_s = count, clock_s
        self._logged: dict[str, tuple[float, int]] = {}

    def exceeded(self, rule: Rule) -> None:
        """One call was over this limit: refused, or served all the same where the limit is in shadow."""
        self._count(rule)
        now_s = self._clock_s()
        logged_s, unlogged = self._logged.get(rule.place, (float("-inf"), 0))
        if now_s - logged_s < LOG_EVERY_S:
            self._logged[rule.place] = (logged_s, unlogged + 1)
            return
        if len(self._logged) >= REMEMBERED_MAX:
            self._logged.clear()
        self._logged[rule.place] = (now_s, 0)
        log.warning(
            "over the limit of %g %s%s of the %s %s: calls are %s (%d more since the last such line)",
            rule.amount,
            rule.kind,
            f" per {rule.period}" if rule.period else "",
            rule.scope,
            rule.subject or rule.project or rule.account,
            "served, the limit is in shadow" if rule.shadow else "refused",
            unlogged,
        )
