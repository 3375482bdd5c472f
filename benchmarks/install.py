"""From a clone to the first answer: ``make demo`` as a stranger runs it, with an empty home and empty caches.

Downloads what a stranger downloads (packages and weights), so it runs only when it is named. What is not committed is
not in a clone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, environment
from benchmarks.report import Options, Report, Table, Unmeasured

PASSED_ON = ("PATH", "LANG", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
PASSED_ON_PREFIXES = ("PIP_", "HF_", "MODELSCOPE_", "SSL_CERT_", "REQUESTS_CA_")
FIRST_ANSWER = re.compile(r"-+ standard request -+")
ANSWER_TOKENS = re.compile(r"completion_tokens=(\d+)")
IN_ALL = re.compile(r"(\d+) s in all, (\d+) s of them for the model")
MB = 1e6


def measure(_: Options) -> Report:
    """Seconds and megabytes of each step. Raises Unmeasured without git or make, RuntimeError when a step fails."""
    if missing := [name for name in ("git", "make") if shutil.which(name) is None]:
        raise Unmeasured(f"{' and '.join(missing)} cannot be found; install it")
    with tempfile.TemporaryDirectory(prefix="arkway-bench-") as folder:
        place = Path(folder)
        checkout, home = place / "arkway", place / "home"
        home.mkdir()
        seconds = {
            "clone": _timed(["git", "clone", "--quiet", str(ROOT), str(checkout)], place, home),
            "environment": _timed(["make", "setup", f"PYTHON={sys.executable}"], checkout, home),
            "sdk": _timed([".venv/bin/python", "tests/sdk/environments.py", "ark"], checkout, home),
        }
        shown, answer_tokens = demonstrated(checkout, home)
        seconds |= shown
        megabytes = {
            "clone": _megabytes(checkout / ".git") + _megabytes(checkout / "src"),
            "environment": _megabytes(checkout / ".venv"),
            "sdk": _megabytes(checkout / ".venvs"),
            "model": _megabytes(home / ".local" / "share" / "arkway" / "models"),
        }
    return _report(seconds, megabytes, answer_tokens)


def demonstrated(checkout: Path, home: Path) -> tuple[dict[str, float], int]:
    """``make demo`` in the prepared clone: seconds of the model's download, from there to the first answer, and on.

    The first answer comes whole, so its tokens are counted beside it: how long it is, is the model's mood.
    """
    started_s = time.monotonic()
    command = ["make", "demo", f"PYTHON={sys.executable}"]
    process = subprocess.Popen(
        command, cwd=checkout, env=_stranger(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said: list[str] = []
    first_answer_s = 0.0
    for line in process.stdout:
        if said and FIRST_ANSWER.match(said[-1]) and not first_answer_s:
            first_answer_s = time.monotonic() - started_s
        said.append(line)
    process.wait()
    found = IN_ALL.search("".join(said))
    if process.returncode != 0 or found is None or not first_answer_s:
        raise RuntimeError("`make demo` failed:\n" + "".join(said[-30:]))
    model_s = float(found[2])
    tokens = ANSWER_TOKENS.search("".join(said))
    seconds = {
        "model": model_s,
        "answer": first_answer_s - model_s,
        "rest_of_demo": time.monotonic() - started_s - first_answer_s,
    }
    return seconds, int(tokens[1]) if tokens else -1


def _report(seconds: dict[str, float], megabytes: dict[str, float], answer_tokens: int) -> Report:
    to_answer = {name: taken for name, taken in seconds.items() if name != "rest_of_demo"}
    figures: dict[str, Any] = {
        "seconds": seconds,
        "megabytes": megabytes,
        "answer_tokens": answer_tokens,
        "to_first_answer_s": sum(to_answer.values()),
        "to_first_answer_without_model_s": sum(to_answer.values()) - seconds["model"],
        "megabytes_in_all": sum(megabytes.values()),
    }
    rows: list[tuple[str | float | None, ...]] = [
        (name, taken, megabytes.get(name)) for name, taken in seconds.items() if name in to_answer
    ]
    rows += [
        ("to the first answer", figures["to_first_answer_s"], figures["megabytes_in_all"]),
        ("without the model's download", figures["to_first_answer_without_model_s"], None),
    ]
    title = f"From a clone to the first answer, one of {answer_tokens} tokens"
    return Report(figures, [Table(title, ("", "seconds", "MB"), rows)])


def _timed(command: list[str], place: Path, home: Path) -> float:
    print(f"install: {' '.join(command)}", file=sys.stderr)
    started_s = time.monotonic()
    done = subprocess.run(command, cwd=place, env=_stranger(home), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - started_s


def _stranger(home: Path) -> dict[str, str]:
    """An environment without anything of ours but the way to the network; nothing is held back in a pipe."""
    passed = {
        name: value for name, value in environment().items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    return {**passed, "HOME": str(home), "PYTHONUNBUFFERED": "1"}


def _megabytes(folder: Path) -> float:
    """What the files take, links not followed."""
    sizes = (os.lstat(place / name).st_size for place, _, names in _walked(folder) for name in names)
    return sum(sizes) / MB


def _walked(folder: Path) -> list[tuple[Path, list[str], list[str]]]:
    return [(Path(place), folders, files) for place, folders, files in os.walk(folder)]
