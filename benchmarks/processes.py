"""Processes under measurement: started with an environment of their own, ready when they say so, ended in any case."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil

ROOT = Path(__file__).resolve().parent.parent
ARKWAY = (sys.executable, "-m", "arkway")
STOP_LIMIT_S = 20.0
READY_LIMIT_S = 60.0


class Server(msgspec.Struct, frozen=True):
    """A process that serves; ``said`` is the JSON line it printed."""

    process: psutil.Process
    said: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.said["url"])

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80


def environment(**extra: str) -> dict[str, str]:
    """This environment without anybody's settings of Arkway, and ``extra``."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("ARKWAY_")}, **extra}


@contextlib.contextmanager
def running(command: Sequence[str], environ: dict[str, str] | None = None) -> Generator[Server]:
    """A process that prints one JSON line and then serves; told to stop at the end of the block, and waited for."""
    child = subprocess.Popen(command, cwd=ROOT, env=environ or environment(), stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"this did not start: {' '.join(command)}")
        yield Server(psutil.Process(child.pid), msgspec.json.decode(line))
    finally:
        _ended(child)


@contextlib.contextmanager
def serving(home: Path, environ: dict[str, str]) -> Generator[Server]:
    """``arkway serve`` on a free port over a data directory, ready."""
    command = (*ARKWAY, "--home", str(home), "serve", "--json", "--no-pull", "--port", "0")
    with running(command, environment(ARKWAY__SERVER__DRAIN_S="1", **environ)) as server:
        wait_ready(server)
        yield server


@contextlib.contextmanager
def scripted(cpu: int | None = None) -> Generator[Server]:
    """A whole installation with scripted models (`benchmarks.server`), ready, on that processor."""
    with scratch() as home:
        command = (sys.executable, "-m", "benchmarks.server", str(home), "" if cpu is None else str(cpu))
        with running(command) as server:
            wait_ready(server)
            yield server


@contextlib.contextmanager
def scratch(models_of: Path | None = None) -> Generator[Path]:
    """An empty data directory, deleted at the end; with the models of another one, if wanted."""
    with tempfile.TemporaryDirectory(prefix="arkway-bench-") as folder:
        home = Path(folder)
        if models_of is not None and (models_of / "models").is_dir():
            (home / "models").symlink_to((models_of / "models").resolve())
        yield home


def wait_ready(server: Server) -> None:
    """Poll ``/readyz`` until it says 200. Raises TimeoutError."""
    end_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            if ask(server, "GET", "/readyz")[0] == 200:
                return
        time.sleep(0.005)
    raise TimeoutError(f"{server.url} was not ready within {READY_LIMIT_S:g} seconds")


def ask(
    server: Server,
    method: str,
    path: str,
    key: str = "",
    body: dict[str, Any] | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """One request, outside any measurement: status and body."""
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    proof = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} if key else {}
    data = msgspec.json.encode(body) if isinstance(body, dict) else body
    try:
        connection.request(method, path, data, {**proof, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
