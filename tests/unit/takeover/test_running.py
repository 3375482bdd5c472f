"""One takeover at most listens for a data directory, and others know which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.takeover.running import Running, announce, claimed, end, running

PATIENCE_S = 60.0
OTHER = """
import os, pathlib, signal, sys, time
from arkway.takeover.running import Running, announce, claimed
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "deaf" else lambda *_: sys.exit(0))
with claimed(pathlib.Path(sys.argv[1])):
    announce(pathlib.Path(sys.argv[1]), Running(os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:2", (), "", 0))
    print(flush=True)
    time.sleep(60)
"""


def other(folder: Path, manner: str = "") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", OTHER, str(folder), manner], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


def listener() -> Running:
    return Running(os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:2", ("a",), "ca.pem", 1)


def test_nothing_runs_where_nothing_was_started(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    assert end(tmp_path, 0) is None


def test_others_know_it_while_it_runs(tmp_path: Path) -> None:
    with claimed(tmp_path):
        assert running(tmp_path) is None
        announce(tmp_path, listener())
        assert running(tmp_path) == listener()
    assert running(tmp_path) is None


@pytest.mark.parametrize("manner", ["", "deaf"])
def test_a_second_one_is_refused_and_the_first_can_be_ended(tmp_path: Path, manner: str) -> None:
    with other(tmp_path, manner) as process:
        with pytest.raises(Misconfigured, match="listens already"), claimed(tmp_path):
            pass
        ended = end(tmp_path, 0.3)
        assert ended is not None
        assert ended.pid == process.pid
        assert process.wait(PATIENCE_S) == (-signal.SIGKILL if manner else 0)
    assert running(tmp_path) is None
    assert end(tmp_path, 0) is None


def test_one_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with other(tmp_path) as process:
        process.kill()
        process.wait(PATIENCE_S)
    assert running(tmp_path) is None
    with claimed(tmp_path):
        announce(tmp_path, listener())
        assert running(tmp_path) == listener()


def test_those_that_look_do_not_keep_it_from_starting(tmp_path: Path) -> None:
    looking = "import pathlib, sys\nfrom arkway.takeover.running import running\n"
    looking += "print(flush=True)\nwhile True: running(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", looking, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began_s = time.monotonic()
        for _ in range(20):
            with claimed(tmp_path):
                pass
        process.kill()
    assert time.monotonic() - began_s < PATIENCE_S
