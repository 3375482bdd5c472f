"""How long it takes to be there: from nothing to ready without a model, and the processor time of ``--version``."""

from __future__ import annotations

import contextlib
import resource
import statistics
import subprocess
import time

from benchmarks.processes import ARKWAY, environment, scratch, serving
from benchmarks.report import Options, Report, Table

STARTS = 5
VERSIONS = 10


def measure(options: Options) -> Report:
    """Medians. One start and one ``--version`` come first and do not count: they fill the disk cache."""
    starts, versions = (1, 3) if options.quick else (STARTS, VERSIONS)
    version_cpu_s()
    first = cold_start_s()
    start_s = sorted(cold_start_s() for _ in range(starts))
    again_s = sorted(warm_start_s(starts))
    cpu_ms = sorted(1000 * version_cpu_s() for _ in range(versions))
    figures = {
        "empty_home_s": statistics.median(start_s),
        "empty_home_slowest_s": start_s[-1],
        "first_of_all_s": first,
        "used_home_s": statistics.median(again_s),
        "version_cpu_ms": statistics.median(cpu_ms),
        "version_cpu_slowest_ms": cpu_ms[-1],
    }
    rows: list[tuple[str | float | None, ...]] = [
        ("ready, empty data directory (s)", figures["empty_home_s"], start_s[-1]),
        ("ready, used data directory (s)", figures["used_home_s"], again_s[-1]),
        ("arkway --version (CPU ms)", figures["version_cpu_ms"], cpu_ms[-1]),
    ]
    return Report(figures, [Table("Start, no chat model", ("", "median", "slowest"), rows)])


def cold_start_s() -> float:
    """Seconds from the command to the first 200 of ``/readyz``: database, keys and journal are made on the way."""
    with scratch() as home, contextlib.ExitStack() as stack:
        started_s = time.monotonic()
        stack.enter_context(serving(home, {}))
        return time.monotonic() - started_s


def warm_start_s(times: int) -> list[float]:
    """The same over a data directory that was served before."""
    taken: list[float] = []
    with scratch() as home:
        with serving(home, {}):
            pass
        for _ in range(times):
            started_s = time.monotonic()
            with serving(home, {}):
                taken.append(time.monotonic() - started_s)
    return taken


def version_cpu_s() -> float:
    """Processor seconds of one ``arkway --version``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*ARKWAY, "--version"], env=environment(), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
