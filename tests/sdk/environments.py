"""One virtual environment per client SDK or server under test, made from its hash-locked file: ``.venvs/<name>``.

An environment is made anew only when its lock, or the Python that makes it, has changed; two processes that want the
same one wait for each other. ``python tests/sdk/environments.py [client…]`` makes them beforehand.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
ENVIRONMENTS = ROOT / ".venvs"

CLIENTS = ("ark", "ark-2024", "arkruntime", "openai")
MAAS_CLIENTS = ("maas", "maas-2024")
ALL = (*CLIENTS, *MAAS_CLIENTS, "langchain")
SERVERS = ("smg", "vllm")
BUILT_FROM_SOURCE = frozenset({"ark-2024", "maas-2024"})

PIP_TIMEOUT_S = 900


def interpreter(client: str) -> Path:
    """The client's own Python; makes its environment where it is missing or out of date."""
    place = ENVIRONMENTS / client
    python = place / "bin" / "python"
    wanted = _stamp(client)
    with _locked(client):
        stamp = place / "stamp"
        if not (stamp.exists() and stamp.read_text() == wanted):
            _make(client, place, python)
            stamp.write_text(wanted)
    return python


def _make(client: str, place: Path, python: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(place))
    if client in BUILT_FROM_SOURCE:
        # The build then finds its tools installed and fetches nothing that no hash vouches for.
        _install(python, "sdk-build")
    _install(python, _lock(client), "--no-build-isolation")


def _install(python: Path, lock: str, *options: str) -> None:
    # The lock is complete, so nothing is resolved; modules are compiled when they are first imported.
    checked = ("--require-hashes", "--no-deps", "--no-compile", *options)
    _run(str(python), "-m", "pip", "install", "--quiet", *checked, "--requirement", str(REQUIREMENTS / f"{lock}.txt"))


def _run(*command: str) -> None:
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _lock(client: str) -> str:
    return f"{'upstream' if client in SERVERS else 'sdk'}-{client}"


def _stamp(client: str) -> str:
    locks = [f"{_lock(client)}.txt"] + (["sdk-build.txt"] if client in BUILT_FROM_SOURCE else [])
    digest = hashlib.sha256(sys.version.encode())
    for lock in locks:
        digest.update((REQUIREMENTS / lock).read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(client: str) -> Generator[None]:
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{client}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(clients: list[str]) -> None:
    """Makes the environments of these clients and servers, or of all clients."""
    unknown = set(clients) - {*ALL, *SERVERS}
    if unknown:
        raise SystemExit(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join((*ALL, *SERVERS))}")
    for client in clients or ALL:
        started_s = time.monotonic()
        python = interpreter(client)
        print(f"{client}: {python} ({time.monotonic() - started_s:.1f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
