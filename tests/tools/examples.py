"""How many examples a property is tried with: few in every run, ``ARKWAY_EXAMPLES`` times as many for who has time."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("ARKWAY_EXAMPLES", "1"))


def examples(count: int) -> int:
    return count * TIMES
