"""Where Arkway's time goes under a closed loop: py-spy's samples, native frames included, by what was running."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.gateways.gateway import Started
from benchmarks.gateways.install import Absent, python_packages
from benchmarks.peers_load import Bench, Phase, measured
from benchmarks.peers_results import Share

PY_SPY = "py-spy==0.4.3"
SECONDS = 6
RATE_PER_S = 400
LARGEST = 12
PLACE = re.compile(r"(?:.*/)?(?:site-packages|src|lib/python3\.\d+)/")
LIBC = " (libc.so.6)"
LINE = re.compile(r":\d+\)$")


def profile(bench: Bench, started: Started, cache: Path) -> list[Share]:
    """The largest costs of the event loop's thread. Raises RuntimeError when py-spy may not look on."""
    try:
        program = python_packages(cache / "py-spy", [PY_SPY]) / "py-spy"
    except Absent as error:
        raise RuntimeError(f"py-spy is not to be had: {error}") from error
    assert started.tree.child is not None
    with tempfile.NamedTemporaryFile(prefix="arkway-profile-") as file:
        words = ["--pid", str(started.tree.child.pid), "--duration", str(SECONDS), "--rate", str(RATE_PER_S)]
        command = [str(program), "record", *words, "--native", "--threads", "--format", "raw", "--output", file.name]
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        measured(bench, started, started.wires[0], Phase("json_max", "closed", SECONDS + 2.0), 0)
        _, said = spy.communicate(timeout=60)
        if spy.returncode:
            raise RuntimeError(f"py-spy cannot look on (it needs root, or ptrace): {said.strip()[-400:]}")
        return largest(Path(file.name).read_text())


def largest(stacks: str) -> list[Share]:
    """Of collapsed stacks (``thread;a;b;c N``) of the event loop's thread, by what `blamed` says."""
    samples: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, _, frames = stack.partition(";")
        if "MainThread" in thread and frames and count.isdigit():
            samples[blamed(frames.split(";"))] += int(count)
    total = samples.total() or 1
    return [Share(where, round(100 * count / total, 1)) for where, count in samples.most_common(LARGEST)]


def blamed(frames: list[str]) -> str:
    """The Python function that was at work, and the system call that it was in, if any."""
    last = shown(frames[-1])
    function = next((shown(frame) for frame in reversed(frames) if ".py" in frame), last)
    called = last.removesuffix(LIBC)
    return f"{called} in {function}" if last.endswith(LIBC) and not last.startswith("0x") else function


def shown(frame: str) -> str:
    """``function (file)`` without the line and without what only this machine knows."""
    name, _, place = LINE.sub(")", frame).partition(" (")
    return f"{name} ({PLACE.sub('', place)}" if place else name
