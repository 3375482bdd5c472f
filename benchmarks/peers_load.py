"""One measurement: the load generator against one gateway in one phase, with what the gateway used meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from benchmarks.gateways.gateway import FRAMES, Started, Tree, Wire
from benchmarks.machine import pinned

QUIET_SHARE = 0.05
QUIET_LIMIT_S = 4.0
FRAMES_PER_S = 50
NOT_OFFERED_BELOW = 0.6
RESULT_LIMIT_S = 30.0


class Phase(msgspec.Struct, frozen=True):
    """What is asked of a gateway for ``seconds``, after ``warm_s``; connections come over ``spread_s``."""

    name: str
    mode: Literal["closed", "open", "streams"]
    seconds: float
    connections: int = 64
    rate_per_s: float = 0.0
    warm_s: float = 0.5
    spread_s: float = 0.0

    @property
    def streamed(self) -> bool:
        return self.mode == "streams"

    @property
    def offered_per_s(self) -> float:
        """Frames or requests; 0 = as many as the gateway takes."""
        return float(self.connections * FRAMES_PER_S) if self.streamed else self.rate_per_s


class Measured(msgspec.Struct, frozen=True):
    """One measurement. ``load`` is what the generator counted, buckets of every histogram included."""

    gateway: str
    wire: str
    phase: str
    turn: int
    load: dict[str, Any]
    cpu_s: float
    pss_mib: float
    rss_mib: float
    steal_percent: float

    @property
    def units(self) -> int:
        """Frames of streams, else answers."""
        return int(self.load["frames"] or self.load["answers"])

    def figures(self) -> dict[str, float]:
        """For people and for medians; only those that there are."""
        load = self.load
        found = {"pss_mib": self.pss_mib, "rss_mib": self.rss_mib, "steal_percent": self.steal_percent}
        found["per_s"] = self.units / load["seconds"]
        times = load["transit_ns"] if load["transit_ns"]["count"] else load["latency_ns"]
        if times["count"]:
            found |= {f"{name}_ms": times[name] / 1e6 for name in ("p50", "p99")}
        if self.units and self.cpu_s:
            found["cpu_us"] = 1e6 * self.cpu_s / self.units
        return found

    @property
    def failures(self) -> int:
        return sum(self.load["failures"].values())


class Bench(msgspec.Struct, frozen=True):
    """Where the load runs: the program, a folder for its files, its processor, and whether it may take precedence."""

    program: Path
    folder: Path
    cpu: int | None
    upstream: Tree
    precedence: bool


def measured(bench: Bench, started: Started, wire: Wire, phase: Phase, turn: int) -> Measured:
    """Runs the phase. Raises RuntimeError when the load generator fails."""
    command = _command(bench, started, (wire.stream if phase.streamed else wire.question,), wire, phase)
    found = _run(bench, started.tree, command, phase)
    _settle(started.tree)
    return Measured(started.gateway.name, wire.name, phase.name, turn, *found)


def measured_with(bench: Bench, started: Started, requests: Sequence[bytes], phase: Phase) -> Measured:
    """The same with many different requests, in turns."""
    wire = Wire(phase.name, b"", b"")
    found = _run(bench, started.tree, _command(bench, started, requests, wire, phase), phase)
    _settle(started.tree)
    return Measured(started.gateway.name, wire.name, phase.name, 0, *found)


def _command(bench: Bench, started: Started, requests: Sequence[bytes], wire: Wire, phase: Phase) -> list[str]:
    file = bench.folder / "requests"
    file.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
    words = {
        "connections": phase.connections,
        "seconds": phase.seconds,
        "warm": phase.warm_s,
        "spread": phase.spread_s,
        "length": 0 if phase.streamed else wire.answer_bytes,
        "frames": FRAMES,
        "tail": "[DONE]",
    }
    if phase.rate_per_s:
        words["rate"] = phase.rate_per_s
    where = [str(bench.program), str(started.port), str(file), phase.mode]
    return where + [f"{name}={value}" for name, value in words.items()]


def _run(
    bench: Bench, tree: Tree, command: list[str], phase: Phase
) -> tuple[dict[str, Any], float, float, float, float]:
    with pinned(bench.cpu):
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert load.stdin is not None
    assert load.stdout is not None
    try:
        with precedence(bench, [tree, bench.upstream, Tree(load)], phase):
            _said(load, b"begin")
            before_s, steal_before = tree.cpu_s(), _steal()
            _said(load, b"end")
            cpu_s, steal = tree.cpu_s() - before_s, _steal_percent(steal_before)
            memory = tree.memory_mib()
            load.stdin.write(b"\n")
            load.stdin.close()
            line = load.stdout.readline()
        if load.wait(RESULT_LIMIT_S):
            raise RuntimeError(f"the load generator ended with {load.returncode}")
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
        load.stdout.close()
    return msgspec.json.decode(line), cpu_s, *memory, steal


def _said(load: subprocess.Popen[bytes], word: bytes) -> None:
    assert load.stdout is not None
    line = load.stdout.readline()
    if line.strip() != word:
        raise RuntimeError(f"the load generator said {line!r} where {word!r} was due")


@contextlib.contextmanager
def precedence(bench: Bench, trees: list[Tree], phase: Phase) -> Generator[None]:
    """Before other programmes of the machine, where that is allowed.

    Latencies are measured under round robin scheduling; ceilings with a high priority only, because a process that
    never sleeps must not keep the machine from working.
    """
    threads = [thread for tree in trees for thread in tree.threads()] if bench.precedence else []
    real_time = phase.offered_per_s and phase.offered_per_s <= 2500
    policy = (os.SCHED_RR, os.sched_param(1)) if real_time else (os.SCHED_OTHER, os.sched_param(0))
    for thread in threads:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, *policy)
            os.setpriority(os.PRIO_PROCESS, thread, -20)
    try:
        yield
    finally:
        for thread in threads:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, thread, 0)


@contextlib.contextmanager
def session_first(allowed: bool) -> Generator[None]:
    """The whole run before other sessions: priorities count within one only (the kernel's autogroup, proc(5))."""
    file = Path("/proc/self/autogroup")
    if not allowed or not file.exists():
        yield
        return
    with contextlib.suppress(OSError):
        file.write_text("-20")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.write_text("0")


def _steal() -> tuple[float, float]:
    times = psutil.cpu_times()
    return getattr(times, "steal", 0.0), sum(times)


def _steal_percent(before: tuple[float, float]) -> float:
    steal, total = _steal()
    return 100 * (steal - before[0]) / max(1e-9, total - before[1])


def _settle(tree: Tree) -> None:
    """Waits until the gateway is done with what the load has left behind."""
    end_s = time.monotonic() + QUIET_LIMIT_S
    while tree.child is not None and time.monotonic() < end_s:
        before_s, start_s = tree.cpu_s(), time.monotonic()
        time.sleep(0.15)
        if tree.cpu_s() - before_s < QUIET_SHARE * (time.monotonic() - start_s):
            return
