"""How many processors this process may really use: what the scheduler allows and what its control group pays for."""

from __future__ import annotations

import os
from pathlib import Path

from arkway.backends.engine.cgroup import CGROUP_ROOT, MEMBERSHIP, own_groups, setting


def usable_cpus(cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """The smaller of the scheduling affinity and the control groups' tightest quota (rounded down), at least 1."""
    groups = own_groups("cpu", cgroup_root, membership)
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(int(quota) for group in groups if (quota := _quota(group)) is not None)]))


def _quota(group: Path) -> float | None:
    """Processors' worth of time. The quota is ``max`` (version 2) or −1 (version 1) where there is no limit."""
    fields = setting(group / "cpu.max").split() or [
        setting(group / "cpu.cfs_quota_us"),
        setting(group / "cpu.cfs_period_us"),
    ]
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or not int(fields[1]):
        return None
    return int(fields[0]) / int(fields[1])
