"""A real server with a real engine, told to stop while it answers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection, finish_reasons, frames
from tests.tools.random_gguf import write_random_gguf

pytestmark = pytest.mark.engine


@pytest.fixture
def noisy(home: Home, tmp_path: Path) -> Home:
    """A home whose model writes noise for many seconds; a stop waits for one second only."""
    file = write_random_gguf(tmp_path / "noise.gguf", context=8192, width=512, layers=8)
    done = home.run("pull", f"file:{file}", "--name", "noise", "--version", "1")
    assert done.returncode == 0, done.stderr
    home.environ |= {"ARKWAY__ENGINE__THREADS": "1", "ARKWAY__SERVER__DRAIN_S": "1"}
    return home


def ask(served: Served) -> Connection:
    """A stream that is under way, with the running usage in each of its frames."""
    key = Path(served.said["key_file"]).read_text().strip()
    client = Connection(served.url, key)
    body: dict[str, Any] = {
        "model": served.endpoint("noise"),
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8000,
        "stream": True,
        "stream_options": {"include_usage": True, "chunk_include_usage": True},
    }
    client.send("POST", "/api/v3/chat/completions", body)
    assert client.head()[0] == 200
    return client


def begun(pieces: Iterator[bytes]) -> bytes:
    """The answer's first ten frames."""
    return b"".join(next(pieces) for _ in range(10))


def check_the_end(home: Home, body: bytes) -> None:
    """The stream says that it is not whole, and the ledger has what was delivered."""
    assert finish_reasons(body) == []
    *said, failure, end = frames(body)
    assert "shutting down" in failure["error"]["message"]
    assert end == "[DONE]"
    (row,) = home.json("usage", "--since", "1h")
    assert row["outcome"] == "interrupted"
    assert row["prompt_tokens"] == said[-1]["usage"]["prompt_tokens"] > 0
    assert row["completion_tokens"] == said[-1]["usage"]["completion_tokens"] > 9


def test_a_stop_cuts_what_lasts_longer_than_its_patience(noisy: Home) -> None:
    with noisy.serving() as served:
        client = ask(served)
        pieces = client.chunks()
        body = begun(pieces)
        children = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGTERM)
        asked_s = time.monotonic()
        body += b"".join(pieces)
        assert time.monotonic() - asked_s > 0.9
        assert served.process.wait(60) == 0
    client.close()
    assert children
    assert not any(child.is_running() for child in children)
    check_the_end(noisy, body)


def test_a_second_interrupt_waits_for_nothing(noisy: Home) -> None:
    noisy.environ["ARKWAY__SERVER__DRAIN_S"] = "600"
    with noisy.serving() as served:
        client = ask(served)
        pieces = client.chunks()
        body = begun(pieces)
        children = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        body += begun(pieces)  # the first one waits for calls under way
        served.process.send_signal(signal.SIGINT)
        body += b"".join(pieces)
        assert served.process.wait(120) == 0  # a fifth of what the first one waits for
    client.close()
    assert children
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in served.errors
    check_the_end(noisy, body)
