"""The machine under the figures: processors, what else ran on them, and what one process has used."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil

NOISY_PERCENT = 5.0


def description() -> dict[str, Any]:
    """What has to stand beside every figure."""
    return {
        "processor": _processor(),
        "usable_cpus": len(_usable()),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def split_cpus() -> tuple[int, int] | None:
    """A processor for the server and another for the load; None where there are not two to choose from."""
    usable = _usable()
    return (usable[0], usable[1]) if len(usable) > 1 and hasattr(os, "sched_setaffinity") else None


def pin(cpu: int) -> None:
    """Keep this process, and the threads it will make, on one processor."""
    os.sched_setaffinity(0, {cpu})


@contextlib.contextmanager
def pinned(cpu: int | None) -> Generator[None]:
    """Keep this thread on one processor for the length of the block; None = leave it where it is."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    pin(cpu)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(process: psutil.Process) -> float:
    """Processor seconds the process has used with all its threads, children not counted."""
    used = process.cpu_times()
    return float(used.user + used.system)


def many_files() -> int:
    """Raise this process's limit of open files, and that of processes it starts, as far as allowed; the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Noise:
    """How much of the machine others took while the block ran. Read ``figures`` once our processes have ended."""

    def __enter__(self) -> Noise:
        self._started_s = time.monotonic()
        self._before = psutil.cpu_times()
        self._own_before_s = _own_s()
        return self

    def __exit__(self, *_: object) -> None:
        after = psutil.cpu_times()
        capacity_s = (time.monotonic() - self._started_s) * (psutil.cpu_count() or 1)
        self.seconds = time.monotonic() - self._started_s
        others_s = _busy_s(after) - _busy_s(self._before) - (_own_s() - self._own_before_s)
        steal_s = getattr(after, "steal", 0.0) - getattr(self._before, "steal", 0.0)
        self.figures = {
            "others_percent": round(max(0.0, 100 * others_s / capacity_s), 1),
            "steal_percent": round(100 * steal_s / capacity_s, 1),
        }

    @property
    def warning(self) -> str:
        """A sentence when the figures are not worth keeping; empty when the machine was quiet."""
        others, steal = self.figures["others_percent"], self.figures["steal_percent"]
        if max(others, steal) < NOISY_PERCENT:
            return ""
        return (
            f"not a quiet machine: other processes took {others:g} % of it and the hypervisor {steal:g} %; "
            "trust the ratios a little and the rest not at all"
        )


def _usable() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(psutil.cpu_count() or 1))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _busy_s(times: Any) -> float:
    return float(times.user + times.system)


def _own_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
