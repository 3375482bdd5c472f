"""A home with real weights (SmolLM2 by `arkway pull`, embeddings from their package), and servers on it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.tools.client import Connection
from tests.tools.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ARKWAY = (sys.executable, "-m", "arkway")
CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "use-multilingual"
START_LIMIT_S = 60.0


class Home:
    """A data directory and the commands on it; ``command`` is how Arkway is run."""

    command: tuple[str, ...] = ARKWAY

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ARKWAY")}
        self.environ = {**kept, "ARKWAY_HOME": str(path)}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout)

    @contextmanager
    def serving(self, *options: str, prefix: tuple[str, ...] = ()) -> Generator[Served]:
        """A server on this home and a free port, ready; stopped by SIGTERM at the end, which has to exit with 0."""
        command = [*prefix, *self.command, "serve", "--port", "0", "--no-pull", "--json", *options]
        with (
            tempfile.NamedTemporaryFile() as log,
            subprocess.Popen(command, env=self.environ, stdout=subprocess.PIPE, stderr=log) as process,
        ):
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"the server did not start: {Path(log.name).read_text()}")
            served = Served(self, process, cast(dict[str, Any], msgspec.json.decode(line)), Path(log.name))
            try:
                yield served
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.communicate(timeout=120)
                served.errors = served.told()


class Served:
    """A running server: where it is, and what it serves."""

    def __init__(self, home: Home, process: subprocess.Popen[bytes], said: dict[str, Any], log: Path) -> None:
        self.home = home
        self._log = log
        self.process = process
        self.said = said
        self.url = str(said["url"])
        self.errors = ""

    def told(self) -> str:
        """What has come on standard error by now; ``errors`` is all of it, once the server has ended."""
        return self._log.read_text()

    def endpoint(self, model: str) -> str:
        return next(str(entry["id"]) for entry in self.said["endpoints"] if entry["model"] == model)

    def secret(self) -> str:
        """A new API key's secret, once the server knows the key."""
        secret = str(self.home.json("keys", "create", "--name", "test")["secret"])
        with Connection(self.url, secret) as client:
            until(lambda: client.get("/v1/models").status == 200)  # another process made it
        return secret


@pytest.fixture(scope="session")
def weights() -> Path:
    """A models folder that holds SmolLM2, kept in the checkout's cache between runs."""
    cache = ROOT / ".cache" / "weights"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = Home(cache).run("pull", CHAT_MODEL)
    assert done.returncode == 0, done.stderr
    return cache / "models"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new, empty home."""
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def stocked(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with real models in it."""
    path = tmp_path_factory.mktemp("stocked") / "home"
    path.mkdir(mode=0o700)
    (path / "models").symlink_to(weights)
    return Home(path)


@pytest.fixture(scope="module")
def served(stocked: Home) -> Generator[Served]:
    """One server for a module's tests, with SmolLM2 and the embedding model."""
    with stocked.serving() as server:
        yield server


@pytest.fixture(scope="module")
def secret(served: Served) -> str:
    return served.secret()
