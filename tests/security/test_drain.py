"""A stop and a reload under load: streams end whole, new settings disturb nobody (G1, G2)."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from arkway.testing import API_KEY
from tests.e2e.conftest import Home
from tests.security.served import PATIENCE_S, Served, is_closed, served, statuses, until_closed
from tests.tools.client import Connection
from tests.tools.waiting import until

STREAMS = 200
TOKENS = 40
RELOADS = 20
RELOADS_LONG = 100
GOOD = "[server]\naccess_log = {}\n"
BAD = ("[server]\nacces_log = true\n", "[stream]\nheartbeat_s = -1\n", "not toml", "[server]\nport = 'x'\n")


def refuses(server: Served) -> bool:
    """Whether nobody listens any more."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
            return is_closed(client)
    except OSError:
        return True


def drained() -> None:
    """200 streams, SIGTERM in their midst: every one comes to its end, and the server to its own."""
    with served(drain_s=PATIENCE_S) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(STREAMS)]
        for client in clients:
            client.sendall(server.chat(f"stopped {TOKENS} 0.03"))
        until(lambda: server.figures().streams == STREAMS)
        idle = stack.enter_context(server.connect())
        until(lambda: server.figures().connections == STREAMS + 1)
        server.process.send_signal(signal.SIGTERM)
        assert is_closed(idle)
        assert refuses(server)
        for client in clients:
            answer = until_closed(client)
            assert statuses(answer) == [200]
            assert all(f'"{count} "'.encode() in answer for count in range(1, TOKENS + 1))
            assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("round_", range(5))
def test_a_stop_truncates_no_stream_as_all_pass(round_: int) -> None:
    drained()


@pytest.mark.long
@pytest.mark.parametrize("round_", range(50))
def test_fifty_stops_truncate_no_stream_as_all_pass(round_: int) -> None:
    drained()


class Load:
    """Threads that ask for the models again and again, each on its connection and then on new ones."""

    def __init__(self, url: str, key: str, threads: int = 4) -> None:
        self.failures: list[object] = []
        self.count = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, key)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def goes_on(self) -> None:
        """Waits for some more answers."""
        done = self.count
        until(lambda: self.count > done + 4)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, url: str, key: str) -> None:
        while not self._stop.is_set():
            try:
                with Connection(url, key) as client:
                    for _ in range(20):
                        status = client.get("/api/v3/models").status
                        self.count += 1
                        if status != 200:
                            self.failures.append(status)
            except OSError as error:
                self.failures.append(error)


def reloaded(home: Home, count: int, beyond: Callable[[Load], bool]) -> None:
    home.path.mkdir(mode=0o700, exist_ok=True)
    settings = home.path / "arkway.toml"
    settings.write_text(GOOD.format("false"))
    with home.serving() as running:
        load = Load(running.url, running.secret())
        bad = cycle(BAD)
        for number in range(count):
            settings.write_text(next(bad) if number % 2 else GOOD.format("true" if number % 4 else "false"))
            running.process.send_signal(signal.SIGHUP)
            load.goes_on()
        settings.write_text(GOOD.format("false"))
        running.process.send_signal(signal.SIGHUP)
        until(lambda: beyond(load))
        load.end()
        assert load.failures == []
        with Connection(running.url, API_KEY) as client:
            until(lambda: client.get("/readyz").json()["status"] == "ok")
    assert running.process.returncode == 0


def test_reloads_under_load_fail_no_request(home: Home) -> None:
    reloaded(home, RELOADS, lambda load: load.count > 200)
    assert home.path.exists()


@pytest.mark.long
def test_a_hundred_reloads_under_load_fail_no_request(home: Home) -> None:
    reloaded(home, RELOADS_LONG, lambda load: load.count >= 10_000)
    assert home.path.exists()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")
