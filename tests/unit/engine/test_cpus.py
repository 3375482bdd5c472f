"""Processors and memory: what the machine has, and what its control groups leave of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arkway.backends.engine.cpus import usable_cpus
from arkway.backends.engine.footprint import memory_cap_bytes, usable_memory_bytes
from arkway.backends.engine.pool import thread_counts

MIB = 1024 * 1024
PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
V1 = "12:cpuset:/\n4:memory:/docker/ab\n3:cpuacct,cpu:/docker/ab\n1:name=systemd:/docker/ab\n"


def tree(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A mount of control groups, and what a process is told of its own."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "membership").write_text(membership)
    return root, root / "membership"


ALL = len(os.sched_getaffinity(0))
CPUS = [
    ("no limit", "0::/", {"cpu.max": "max 100000\n"}, ALL),
    ("one", "0::/", {"cpu.max": "100000 100000"}, 1),
    ("a half is rounded up to one", "0::/", {"cpu.max": "50000 100000"}, 1),
    ("one and a half is rounded down", "0::/", {"cpu.max": "150000 100000"}, 1),
    ("nonsense", "0::/", {"cpu.max": "1 0"}, ALL),
    ("nothing mounted", "", {}, ALL),
    ("above us", "0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
    ("not ours", "0::/a\n", {"b/cpu.max": "100000 100000"}, ALL),
    ("outside the mount", "0::/../x\n", {"cpu.max": "100000 100000"}, 1),
    ("v1", V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ("v1, no limit", V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ALL),
    (
        "v1, own group, joint controllers",
        V1,
        {"cpuacct,cpu/docker/ab/cpu.cfs_quota_us": "9", "cpuacct,cpu/docker/ab/cpu.cfs_period_us": "9"},
        1,
    ),
]
MEMORY = [
    ("no limit", "0::/", {"memory.max": "max\n"}, PHYSICAL),
    ("own", "0::/a/b\n", {"a/b/memory.max": f"{300 * MIB}\n"}, 300 * MIB),
    ("above us", "0::/a/b\n", {"a/b/memory.max": f"{300 * MIB}", "a/memory.max": f"{200 * MIB}"}, 200 * MIB),
    ("a container's root", "0::/\n", {"memory.max": f"{100 * MIB}"}, 100 * MIB),
    ("more than there is", "0::/\n", {"memory.max": str(PHYSICAL * 2)}, PHYSICAL),
    ("v1", V1, {"memory/docker/ab/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64 * MIB),
    ("v1, a container's root", V1, {"memory/memory.limit_in_bytes": f"{32 * MIB}"}, 32 * MIB),
    ("v1, no limit", V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, PHYSICAL),
]


@pytest.mark.parametrize(("membership", "files", "cpus"), [case[1:] for case in CPUS], ids=[case[0] for case in CPUS])
def test_quotas(tmp_path: Path, membership: str, files: dict[str, str], cpus: int) -> None:
    assert usable_cpus(*tree(tmp_path, membership, files)) == cpus


@pytest.mark.parametrize(
    ("membership", "files", "limit"), [case[1:] for case in MEMORY], ids=[case[0] for case in MEMORY]
)
def test_memory_limits(tmp_path: Path, membership: str, files: dict[str, str], limit: int) -> None:
    groups = tree(tmp_path, membership, files)
    assert usable_memory_bytes(*groups) == limit
    assert memory_cap_bytes(0, *groups) == limit * 3 // 4
    assert memory_cap_bytes(7, *groups) == 7


@pytest.mark.parametrize(
    ("cpus", "engines", "configured", "threads"),
    [(2, 1, 0, (1, 2)), (1, 1, 0, (1, 1)), (8, 1, 0, (8, 8)), (8, 2, 0, (4, 4)), (2, 4, 0, (1, 1)), (8, 1, 3, (3, 3))],
)
def test_engines_share_the_processors(cpus: int, engines: int, configured: int, threads: tuple[int, int]) -> None:
    assert thread_counts(cpus, engines, configured) == threads
