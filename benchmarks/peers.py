"""Arkway beside other gateways, in front of one upstream, in one run: ``python -m benchmarks peers``.

Every gateway has one processor to itself; the upstream and the load, two C programs, have the other one. They are
measured in turns, and those whose turn it is not are stopped. ``--only a,b`` chooses some of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import msgspec

from benchmarks.gateways import chosen
from benchmarks.gateways.gateway import Gateway, Place, Started, Tree
from benchmarks.gateways.install import Absent
from benchmarks.gateways.routers import free_port
from benchmarks.machine import pinned, split_cpus
from benchmarks.native import compiled
from benchmarks.peers_docs import write
from benchmarks.peers_growth import growth
from benchmarks.peers_load import NOT_OFFERED_BELOW, Bench, Phase, measured, session_first
from benchmarks.peers_profile import profile
from benchmarks.peers_results import RESULTS, Outcome, Ran, kept, read, report
from benchmarks.processes import ROOT
from benchmarks.report import Options, Report

CACHE = ROOT / ".cache" / "bench"
PHASES = (
    Phase("json_max", "closed", seconds=2.5),
    Phase("json_200", "open", seconds=4.0, rate_per_s=200.0),
    Phase("sse_50", "streams", seconds=2.5, connections=50, spread_s=0.5),
    Phase("sse_500", "streams", seconds=3.0, connections=500, warm_s=1.0, spread_s=1.0),
    Phase("sse_2000", "streams", seconds=3.5, connections=2000, warm_s=1.0, spread_s=1.5),
)
OTHER_WIRES = ("json_max", "sse_500")
ROUNDS = 3


def measure(options: Options) -> Report:
    """All gateways in turns, medians over the rounds; then how Arkway's cost grows. Needs Linux and a C compiler.

    A gateway that cannot be installed, started or checked is among the report's failures.
    """
    phases = [_short(phase) for phase in PHASES] if options.quick else list(PHASES)
    outcome = Outcome(quick=options.quick, everything=not options.only)
    with _scratch() as folder, _bench(folder, precedence=_may_precede(options)) as (bench, port):
        with _started(chosen(options.only, CACHE), folder, port, outcome) as running:
            _rounds(bench, running, phases, 1 if options.quick else ROUNDS, outcome)
            _profiled(options, bench, running, outcome)
        if "arkway" in outcome.ran:
            with _told(outcome, "how Arkway's cost grows"):
                outcome.growth = growth(bench, folder, port, CACHE, quick=options.quick)
    print(f"peers: results are in {_kept(outcome)}", file=sys.stderr)
    return report(outcome)


def _kept(outcome: Outcome) -> Path:
    """Where the results are now; those of a whole run are in the documentation, too."""
    folder = kept(outcome, CACHE)
    if folder == RESULTS:
        write(read())
    return folder


def _short(phase: Phase) -> Phase:
    return msgspec.structs.replace(phase, seconds=1.0, warm_s=0.3, spread_s=phase.spread_s / 2)


def _may_precede(options: Options) -> bool:
    return not options.quick and os.geteuid() == 0


@contextlib.contextmanager
def _scratch() -> Generator[Path]:
    """A folder for configurations, logs and data directories, deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="arkway-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _bench(folder: Path, *, precedence: bool) -> Generator[tuple[Bench, int]]:
    """The load generator, and an upstream that listens on the port given with it."""
    cpus = split_cpus()
    cpu = cpus and cpus[1]
    load, program = (compiled(name, CACHE) for name in ("load", "upstream"))
    with pinned(cpu), session_first(precedence):
        child = subprocess.Popen([program, "0"], stdout=subprocess.PIPE)
        upstream = Tree(child)
        try:
            assert child.stdout is not None
            port = int(msgspec.json.decode(child.stdout.readline())["port"])
            with pinned(cpu):
                yield Bench(load, folder, cpu, upstream, precedence), port
        finally:
            upstream.stop()


@contextlib.contextmanager
def _started(
    gateways: Sequence[Gateway], folder: Path, upstream_port: int, outcome: Outcome
) -> Generator[list[Started]]:
    """Those that could be installed and started and were right, stopped in their tracks; the others are failures."""
    running: dict[str, Started] = {}
    cpus = split_cpus()

    def start(gateway: Gateway) -> None:
        port = upstream_port if gateway.name == "direct" else free_port()
        place = Place(port, upstream_port, folder / gateway.name, cpus and cpus[0])
        place.folder.mkdir()
        with _told(outcome, gateway.name):
            running[gateway.name] = _one_started(gateway, versions[gateway.name], place, outcome)

    versions = _installed(gateways, outcome)
    print(f"peers: starting {', '.join(versions)}", file=sys.stderr)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(start, [gateway for gateway in gateways if gateway.name in versions]))
        yield [running[gateway.name] for gateway in gateways if gateway.name in running]
    finally:
        for started in running.values():
            started.tree.stop()


def _installed(gateways: Sequence[Gateway], outcome: Outcome) -> dict[str, str]:
    """The versions of those that could be."""
    versions: dict[str, str] = {}
    for gateway in gateways:
        with _told(outcome, gateway.name):
            versions[gateway.name] = gateway.install()
    return versions


@contextlib.contextmanager
def _told(outcome: Outcome, what: str) -> Generator[None]:
    """What goes wrong in the block is a failure of the run and does not end it."""
    try:
        yield
    except (Absent, RuntimeError, OSError, HTTPException, subprocess.SubprocessError) as error:
        outcome.failures.append(f"{what}: {error}")
        print(f"peers: {what} is left out: {error}", file=sys.stderr)


def _one_started(gateway: Gateway, version: str, place: Place, outcome: Outcome) -> Started:
    started = Started(gateway, place, version)
    try:
        started.wires = started.check()
        idle_mib = started.tree.memory_mib()[0]
    except BaseException:
        started.tree.stop()
        raise
    outcome.ran[gateway.name] = Ran(version, gateway.language, gateway.note, idle_mib)
    started.tree.send(signal.SIGSTOP)
    return started


@contextlib.contextmanager
def _awake(started: Started) -> Generator[None]:
    started.tree.send(signal.SIGCONT)
    try:
        yield
    finally:
        started.tree.send(signal.SIGSTOP)


def _rounds(bench: Bench, running: list[Started], phases: list[Phase], rounds: int, outcome: Outcome) -> None:
    """The order turns with every round. What dies is not asked again."""
    for turn in range(rounds):
        for started in running if turn % 2 == 0 else reversed(running):
            if not started.tree.alive():
                continue
            print(f"peers: round {turn + 1} of {rounds}, {started.gateway.name}", file=sys.stderr)
            with _told(outcome, f"{started.gateway.name} in round {turn + 1}"), _awake(started):
                _one_round(bench, started, phases, turn, outcome)


def _one_round(bench: Bench, started: Started, phases: list[Phase], turn: int, outcome: Outcome) -> None:
    """Every phase of the first way to ask, some of the others. Twice the streams only for who can do half of them."""
    for number, wire in enumerate(started.wires):
        share = 1.0
        for phase in phases:
            if number and (phase.name not in OTHER_WIRES or (phase.streamed and not wire.frames_differ)):
                continue
            if phase.connections > 500 and share < NOT_OFFERED_BELOW:
                continue
            found = measured(bench, started, wire, phase, turn)
            outcome.measured.append(found)
            if phase.streamed:
                share = found.figures()["per_s"] / phase.offered_per_s
            if not started.tree.alive():
                raise RuntimeError(f"{started.gateway.name} has died in {phase.name}\n{started.log_tail()}")


def _profiled(options: Options, bench: Bench, running: list[Started], outcome: Outcome) -> None:
    if not options.profile:
        return
    for started in running:
        if started.gateway.name == "arkway" and started.tree.alive():
            with _told(outcome, "the profile"), _awake(started):
                outcome.profile = profile(bench, started, CACHE)
