"""SIGHUP: settings and certificates taken in by a running server, calls under way undisturbed."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection, finish_reasons, frames
from tests.tools.random_gguf import write_random_gguf
from tests.tools.tls import trusting
from tests.tools.waiting import PATIENCE_S, until


def configure(home: Home, text: str) -> None:
    home.path.mkdir(mode=0o700, exist_ok=True)
    (home.path / "arkway.toml").write_text(text, encoding="utf-8")


def readiness(served: Served) -> dict[str, Any]:
    with urllib.request.urlopen(f"{served.url}/readyz", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
        found: dict[str, Any] = msgspec.json.decode(answer.read())
        return found


def lines(served: Served) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in served.errors.splitlines() if line.startswith("{")]


def reloads(served: Served) -> int:
    """How often a running server has taken changed settings in."""
    return served.told().count("settings were read again; changed: ")


def test_a_mistake_is_told_and_the_old_settings_stay(home: Home) -> None:
    configure(home, "[server]\naccess_log = false\n")
    with home.serving() as served:
        configure(home, "[server]\naccess_log = true\n\n[stream]\nheartbeat = 5\n")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: readiness(served)["status"] == "degraded")
        (warning,) = readiness(served)["warnings"]
        assert warning.endswith("see the log")
        configure(home, "[server]\nlog_level = 'info'\nport = 1\n[engine]\nslots = 2\n")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: readiness(served)["status"] == "ok")
    assert served.process.returncode == 0
    told = [(line["level"], line["message"]) for line in lines(served)]
    assert [level for level, _ in told] == ["error", "info", "warning"]
    assert f"{home.path / 'arkway.toml'}, line 5: " in told[0][1]
    assert "`stream.heartbeat`; did you mean `stream.heartbeat_s`?" in told[0][1]
    assert told[1][1].endswith("changed: server.log_level")
    assert told[2][1].endswith("when the server starts again: engine.slots")  # --port goes over the file
    assert not any(message == "call" for _, message in told)


def handshake(port: int, context: ssl.SSLContext, name: str | None) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        try:
            context.wrap_socket(plain, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_new_certificates_are_shown_with_and_without_a_name(home: Home) -> None:
    home.json("tls", "init")
    authority = home.path / "tls" / "ca.pem"
    before = trusting(authority)
    with home.serving("--tls-port", str(free_port())) as served:
        port = int(str(served.said["https_url"]).rpartition(":")[2])
        assert handshake(port, before, "127.0.0.1")
        home.json("tls", "init", "--force")
        after = trusting(authority)
        unnamed = trusting(authority)
        unnamed.check_hostname = False
        assert not handshake(port, after, "127.0.0.1")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: handshake(port, after, "127.0.0.1"))
        assert handshake(port, unnamed, None)
        assert not handshake(port, before, "127.0.0.1")
        (home.path / "tls" / "server.key").write_text("not a key")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: readiness(served)["status"] == "degraded")
        assert handshake(port, after, "127.0.0.1")


def test_one_signal_reaches_every_process(home: Home, postgres_url: str) -> None:
    home.environ |= {"ARKWAY__DATABASE__URL": postgres_url, "ARKWAY__SERVER__LOG_LEVEL": "info"}
    with home.serving("--workers", "2") as served:
        configure(home, "[stream]\nheartbeat_s = 3\n")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: reloads(served) == 2)
    assert served.process.returncode == 0
    taken = [line["message"] for line in lines(served) if "changed: " in line["message"]]
    assert taken == ["settings were read again; changed: stream.heartbeat_s"] * 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def noisy(home: Home, tmp_path: Path) -> Home:
    file = write_random_gguf(tmp_path / "noise.gguf")
    done = home.run("pull", f"file:{file}", "--name", "noise", "--version", "1")
    assert done.returncode == 0, done.stderr
    home.environ |= {"ARKWAY__ENGINE__THREADS": "1"}
    return home


def ask(served: Served, key: str, model: str, *, stream: bool) -> int:
    """One call from beginning to end; its status, and nothing but a whole answer for 200."""
    client = Connection(served.url, key)
    messages = [{"role": "user", "content": "hello"}]
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 12, "stream": stream}
    try:
        client.send("POST", "/api/v3/chat/completions", body)
        status = client.head()[0]
        if stream and status == 200:
            whole = b"".join(client.chunks())
            assert frames(whole)[-1] == "[DONE]"
            assert finish_reasons(whole) in (["length"], ["stop"])
        return status
    finally:
        client.close()


@pytest.mark.engine
def test_a_switch_is_thrown_for_the_calls_that_come_after_it(noisy: Home) -> None:
    with noisy.serving() as served:
        key = Path(served.said["key_file"]).read_text().strip()
        assert ask(served, key, "noise", stream=False) == 404
        configure(noisy, "[surface]\nv3_model_names = true\n")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: ask(served, key, "noise", stream=False) == 200)
        configure(noisy, "")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: ask(served, key, "noise", stream=True) == 404)


@contextmanager
def load(served: Served, key: str, callers: int) -> Iterator[list[int | Exception]]:
    """Callers that never stop, every second one with streams; what came of each call."""
    endpoint, over, results = served.endpoint("noise"), threading.Event(), list[int | Exception]()

    def call(number: int) -> None:
        while not over.is_set():
            try:
                results.append(ask(served, key, endpoint, stream=number % 2 == 0))
            except Exception as error:
                results.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def changed_again_and_again(noisy: Home, times: int) -> None:
    noisy.environ |= {"ARKWAY__SERVER__LOG_LEVEL": "info"}
    with noisy.serving() as served:
        key = Path(served.said["key_file"]).read_text().strip()
        with load(served, key, callers=4) as results:
            until(lambda: len(results) > 4)
            for number in range(times):
                heartbeat_s, mode, limit = 1 + number, ("strict", "compat")[number % 2], 64 + number
                configure(
                    noisy,
                    f"[stream]\nheartbeat_s = {heartbeat_s}\n[surface]\nlegacy_mode = '{mode}'\n"
                    f"[engine]\nqueue_limit = {limit}\n",
                )
                served.process.send_signal(signal.SIGHUP)
                until(partial(lambda count: reloads(served) == count, number + 1))
            before = len(results)
            until(lambda: len(results) > before + 4)
        assert readiness(served)["status"] == "ok"
    assert set(results) == {200}
    taken = [line for line in lines(served) if line["message"].startswith("settings were read again; changed: ")]
    assert len(taken) == times
    assert not [line for line in lines(served) if line["level"] != "info"]


@pytest.mark.engine
def test_no_call_fails_while_settings_change_fifty_times(noisy: Home) -> None:
    changed_again_and_again(noisy, 50)


@pytest.mark.engine
@pytest.mark.long
def test_no_call_fails_while_settings_change_a_thousand_times(noisy: Home) -> None:
    changed_again_and_again(noisy, 1000)
