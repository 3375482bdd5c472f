"""The load generator and the mock upstream: two small C programs, compiled when they are first needed.

`load.c` and `upstream.c` say what they do. Programs in Python would be the bottleneck of what they measure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.report import Unmeasured

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def compiled(name: str, cache: Path) -> Path:
    """The program made of ``name``.c, which is compiled where it has changed. Raises Unmeasured without a compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unmeasured("no C compiler: install gcc or clang (Debian: apt-get install gcc libc6-dev), or set CC")
    program = cache / "native" / f"{name}-{_digest()}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, *FLAGS, "-o", str(program), str(SOURCES / f"{name}.c"), "-lm"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise RuntimeError(f"{name}.c does not compile with {compiler}:\n{built.stderr}")
    return program


def _digest() -> str:
    files = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]
