"""The generic cell rate algorithm (ITU-T I.371), as arithmetic on moments: a bucket is two numbers of seconds.

A bucket that refills at ``rate`` a second holds ``burst_s`` seconds' worth of it. Whatever is taken costs time: ``n``
of something at ``rate`` a second cost ``n / rate`` seconds. ``due_s`` is the moment at which the bucket will be full
again; ``full_s`` the last moment at which it was found full.
"""

from __future__ import annotations


class Bucket:
    """State of one rate limit; full at first."""

    __slots__ = ("due_s", "full_s")

    def __init__(self) -> None:
        self.due_s = self.full_s = float("-inf")

    def wait_s(self, now_s: float, cost_s: float, burst_s: float) -> float:
        """How long until so much can be taken; zero or less: now.

        What costs more than the bucket holds needs it full, and is owed afterwards.
        """
        return max(self.due_s, now_s) + min(cost_s, burst_s) - burst_s - now_s

    def take(self, now_s: float, cost_s: float) -> None:
        """Takes it, whether it is there or not."""
        if self.due_s <= now_s:
            self.full_s = self.due_s = now_s
        self.due_s += cost_s

    def settle(self, now_s: float, taken_s: float, difference_s: float) -> None:
        """Corrects what was taken at ``taken_s``: more (above zero) or less (below) than it costs after all.

        Nothing comes back from before a moment when the bucket was full: it could not have held more then.
        """
        if difference_s > 0:
            self.take(now_s, difference_s)
        elif self.due_s > now_s and self.full_s <= taken_s:
            self.due_s += difference_s


def rate(per_minute: float, burst_s: float) -> tuple[float, float]:
    """What one of so many a minute costs, and what the bucket holds: at least one; both in seconds."""
    each_s = 60.0 / per_minute
    return each_s, max(burst_s, each_s)
