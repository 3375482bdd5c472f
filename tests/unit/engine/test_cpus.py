from __future__ import annotations

import os
from pathlib import Path

import pytest

from arkway.backends.engine.cpus import usable_cpus
from arkway.backends.engine.pool import thread_counts


def test_no_limit_means_affinity(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "cpus"), [("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 1)])
def test_v2_quota_rounds_down_to_at_least_one(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cpus(tmp_path) == cpus


def test_the_tightest_group_above_us_counts(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("0::/service/worker\n")
    (tmp_path / "service" / "worker").mkdir(parents=True)
    (tmp_path / "service" / "cpu.max").write_text("100000 100000")
    (tmp_path / "service" / "worker" / "cpu.max").write_text("max 100000")
    assert usable_cpus(tmp_path, membership) == 1


def test_v1_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == 1


def test_v1_without_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpus", "engines", "configured", "threads"),
    [(2, 1, 0, (1, 2)), (1, 1, 0, (1, 1)), (8, 1, 0, (8, 8)), (8, 2, 0, (4, 4)), (2, 4, 0, (1, 1)), (8, 1, 3, (3, 3))],
)
def test_engines_share_the_processors(cpus: int, engines: int, configured: int, threads: tuple[int, int]) -> None:
    assert thread_counts(cpus, engines, configured) == threads
