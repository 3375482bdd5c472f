"""Servers of others that run in environments of their own: SGLang's model gateway and vLLM, each on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from tests.sdk.environments import interpreter

SMG_PATIENCE_S = 90.0
STOP_S = 60.0
VLLM_PATIENCE_S = 600.0  # it imports half a gigabyte, twice, and a cold disk takes minutes for that
# No reports and no looks at a hub; little memory for the cache.
_ALONE = {
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


@contextmanager
def smg(workers: Sequence[str], key: str, *options: str) -> Generator[str]:
    """The gateway in front of these servers, all of which take ``key``, as it does itself; its URL.

    It tries every second whether a worker is well, and takes the next one when one does not answer.
    """
    port, metrics = _free_port(), _free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics))
    flags = ("--policy", "round_robin", "--api-key", key, "--worker-startup-check-interval", "1")
    command = [str(interpreter("smg")), "-m", "smg", "launch", *where, *flags, "--worker-urls", *workers, *options]
    with _running(command, {}, f"http://127.0.0.1:{port}", "/readiness", SMG_PATIENCE_S) as url:
        yield url


@contextmanager
def vllm(model: Path, key: str, *options: str) -> Generator[str]:
    """vLLM with the model of a folder, which it calls ``generated``; its URL."""
    port = _free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--api-key", key)
    flags = ("--model", str(model), "--served-model-name", "generated", "--dtype", "float32", "--enforce-eager")
    size = ("--max-model-len", "1024", "--max-num-seqs", "4")
    command = [str(interpreter("vllm")), "-m", "vllm.entrypoints.openai.api_server", *where, *flags, *size, *options]
    with _running(command, _ALONE, f"http://127.0.0.1:{port}", "/health", VLLM_PATIENCE_S) as url:
        yield url


@contextmanager
def _running(
    command: Sequence[str], extra: Mapping[str, str], url: str, health: str, patience_s: float
) -> Generator[str]:
    """The URL, once a GET of ``health`` is answered with 200; at the end nothing of the server is left."""
    with tempfile.TemporaryDirectory(prefix="served-") as folder, (Path(folder) / "log").open("w+b") as log:
        # Nothing of our own Python's, such as where it looks for modules, or that it keeps no compiled ones.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environ = {**kept, **extra, "HOME": folder}
        process = subprocess.Popen(
            [*_bound(), *command],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _await(process, url, health, patience_s, log.name)
            yield url
        finally:
            _end(process)


def _bound() -> list[str]:
    """How a command is run so that it ends with the tests, where the system can do that: they may be killed."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL"] if program else []


def _await(process: subprocess.Popen[bytes], url: str, health: str, patience_s: float, log: str) -> None:
    deadline_s = time.monotonic() + patience_s
    while not _is_well(url, health):
        assert process.poll() is None, Path(log).read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline_s, Path(log).read_text(errors="replace")[-4000:]
        time.sleep(0.1)


def _is_well(url: str, path: str) -> bool:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """It, and its children with it."""
    try:
        members = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        members = []
    process.kill()
    process.wait()
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(members, STOP_S)  # so that none of them writes into the folder while it is deleted


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
