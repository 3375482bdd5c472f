"""Models that arrive while the server runs are served without a restart, and a default that moves takes effect."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection
from tests.tools.random_gguf import write_random_gguf

pytestmark = pytest.mark.engine

NOTICED_S = 60.0
FIRST = ("first", " answer")
SECOND = ("second", " reply")


class Watcher:
    """A caller that asks again until what it waits for has happened."""

    def __init__(self, served: Served) -> None:
        self._connection = Connection(served.url, Path(served.said["key_file"]).read_text().strip(), 60)

    def until_listed(self, served_name: str) -> str:
        """The endpoint's id, once the model is listed."""
        start = time.monotonic()
        while time.monotonic() - start < NOTICED_S:
            for entry in self._connection.get("/api/v3/models").json()["data"]:
                if entry["name"] == served_name:
                    return str(entry["id"])
            time.sleep(0.1)
        raise AssertionError(f"{served_name} is not served after {NOTICED_S:g} seconds")

    def says(self, endpoint: str) -> tuple[str, str]:
        """The model's answer and its served name."""
        body: dict[str, Any] = {
            "model": endpoint,
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0,
        }
        reply = self._connection.post("/api/v3/chat/completions", body)
        assert reply.status == 200, reply.body
        return reply.json()["choices"][0]["message"]["content"], reply.json()["model"]


def pull(home: Home, file: Path, version: str) -> None:
    done = home.run("pull", f"file:{file}", "--name", "pair", "--version", version)
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_pulled_meanwhile_is_served_and_a_default_moves(home: Home, tmp_path: Path) -> None:
    first = write_random_gguf(tmp_path / "first.gguf", script=FIRST, context=2048)
    second = write_random_gguf(tmp_path / "second.gguf", script=SECOND, context=2048)
    with home.serving() as served:
        assert "pair" not in {entry["model"] for entry in served.said["endpoints"]}
        caller = Watcher(served)
        pull(home, first, "v1")
        endpoint = caller.until_listed("pair-v1")
        assert endpoint.startswith("ep-")
        assert caller.says(endpoint) == ("first answer", "pair-v1")
        pull(home, second, "v2")
        assert caller.says(endpoint) == ("first answer", "pair-v1")
        assert home.run("models", "default", "pair", "v2").returncode == 0
        assert caller.until_listed("pair-v2") == endpoint
        assert caller.says(endpoint) == ("second reply", "pair-v2")
        listed = [entry["id"] for entry in home.json("endpoints", "list") if entry["model_name"] == "pair"]
        assert listed == [endpoint]
    assert served.process.returncode == 0
