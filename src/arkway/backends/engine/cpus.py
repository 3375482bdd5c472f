"""How many processors this process may really use: what the scheduler allows and what its control group pays for."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """The smaller of the scheduling affinity and the control group's quota (v2 or v1, rounded down), at least 1."""
    quota = _smallest_quota_v2(cgroup_root, membership) or _quota_v1(cgroup_root)
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, int(quota)) if quota else allowed)


def _smallest_quota_v2(root: Path, membership: Path) -> float | None:
    """Every group from our own up to the root may have a limit."""
    own = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::/")), "/")
    groups = [root, *(root / part for part in _ancestors(own))]
    quotas = [quota for group in groups if (quota := _quota_v2(group)) is not None]
    return min(quotas, default=None)


def _ancestors(path: str) -> list[Path]:
    """``/a/b`` gives ``a`` and ``a/b``; a path that leaves the mount gives nothing."""
    parts = Path(path.strip("/")).parts
    return [] if ".." in parts else [Path(*parts[: count + 1]) for count in range(len(parts))]


def _quota_v2(root: Path) -> float | None:
    """``cpu.max`` holds ``<quota|max> <period>`` in microseconds."""
    fields = _read(root / "cpu.max").split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]) / int(fields[1])


def _quota_v1(root: Path) -> float | None:
    """``cpu.cfs_quota_us`` is −1 where there is no limit."""
    for folder in ("cpu", "cpu,cpuacct"):
        quota = _read(root / folder / "cpu.cfs_quota_us")
        period = _read(root / folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
