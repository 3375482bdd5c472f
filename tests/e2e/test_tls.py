"""HTTPS on the command line: certificates made, served, trusted, and both ports stopped by one signal."""

from __future__ import annotations

import signal
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection, finish_reasons, frames
from tests.tools.random_gguf import write_random_gguf
from tests.tools.tls import SecureConnection, trusting


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def authority(home: Home) -> ssl.SSLContext:
    return trusting(home.path / "tls" / "ca.pem")


def status_of(url: str, context: ssl.SSLContext | None = None) -> int:
    with urllib.request.urlopen(f"{url}/livez", timeout=60, context=context) as answer:
        return int(answer.status)


def test_from_nothing_to_a_trusted_answer(home: Home) -> None:
    made = home.json("tls", "init")
    assert (made["made_ca"], made["made_server"]) == (True, True)
    assert stat.S_IMODE((home.path / "tls" / "ca.key").stat().st_mode) == 0o600
    port = free_port()
    with home.serving("--tls-port", str(port)) as served:
        https_url = served.said["https_url"]
        assert https_url == f"https://127.0.0.1:{port}"
        assert status_of(served.url) == status_of(https_url, authority(home)) == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            status_of(https_url)
    assert served.process.returncode == 0
    assert "Traceback" not in served.errors


def test_without_a_certificate_the_start_says_how_to_make_one(home: Home) -> None:
    done = home.run("serve", "--no-pull", "--port", "0", "--tls-port", str(free_port()))
    assert done.returncode == 1
    assert "arkway tls init" in done.stderr
    assert "Traceback" not in done.stderr


def test_half_a_setting_and_a_busy_port_are_said(home: Home) -> None:
    home.json("tls", "init")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = home.run("serve", "--no-pull", "--port", "0", "--tls-port", str(port))
    assert (busy.returncode, f"cannot listen on 127.0.0.1:{port}" in busy.stderr) == (1, True)
    assert "--tls-port" in busy.stderr
    home.environ["ARKWAY__TLS__KEY"] = "/some/where.key"
    half = home.run("serve", "--no-pull", "--port", "0", "--tls-port", str(free_port()))
    assert (half.returncode, "`tls.certificate` and `tls.key` belong together" in half.stderr) == (1, True)


def test_one_port_for_both_is_refused(home: Home) -> None:
    home.json("tls", "init")
    port = str(free_port())
    done = home.run("serve", "--no-pull", "--port", port, "--tls-port", port)
    assert (done.returncode, f"cannot listen on 127.0.0.1:{port}" in done.stderr) == (1, True)


def test_a_certificate_that_was_brought_along_is_shown(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.json("tls", "init")
    port = free_port()
    folder = other.path / "tls"
    (home.path).mkdir(mode=0o700)
    (home.path / "arkway.toml").write_text(
        f'[tls]\nport = {port}\ncertificate = "{folder}/server.pem"\nkey = "{folder}/server.key"\n'
    )
    with home.serving() as served:
        assert status_of(served.said["https_url"], authority(other)) == 200
    assert home.json("tls", "show")["server"]["path"] == f"{folder}/server.pem"
    asked = home.run("tls", "trust-help")
    assert (asked.returncode, "was not made here" in asked.stderr) == (1, True)


def test_the_commands_show_what_there_is(home: Home) -> None:
    nothing = home.run("tls", "show")
    assert (nothing.returncode, "arkway tls init" in nothing.stderr) == (1, True)
    home.json("tls", "init", "--host", "box.local")
    shown = home.json("tls", "show")
    assert "box.local" in shown["server"]["names"]
    told = home.run("tls", "show")
    assert shown["ca"]["sha256"] in told.stdout
    assert shown["server"]["sha256"] in told.stdout
    everything = home.json("tls", "trust-help")
    assert everything["ca"] == str(home.path / "tls" / "ca.pem")
    assert all(everything["ca"] in " ".join([*each["commands"], each["note"]]) for each in everything["stacks"])
    one = home.run("tls", "trust-help", "--stack", "node")
    assert f"  export NODE_EXTRA_CA_CERTS={everything['ca']}\n" in one.stdout
    unknown = home.run("tls", "trust-help", "--stack", "cobol")
    assert (unknown.returncode, "python-requests" in unknown.stderr) == (1, True)


def test_an_authority_is_replaced_only_when_that_is_asked_for(home: Home) -> None:
    first = home.json("tls", "init")["ca"]["sha256"]
    assert home.json("tls", "init")["ca"]["sha256"] == first
    refused = home.run("tls", "init", "--host", "ark.cn-beijing.volces.com")
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    assert home.json("tls", "show")["ca"]["sha256"] == first
    again = home.json("tls", "init", "--force", "--host", "ark.cn-beijing.volces.com")
    assert again["ca"]["sha256"] != first
    assert "ark.cn-beijing.volces.com" in again["server"]["names"]


def ask(client: Connection, served: Served) -> None:
    """Begins a stream that lasts longer than a stop waits."""
    messages = [{"role": "user", "content": "hello"}]
    body: dict[str, Any] = {"model": served.endpoint("noise"), "messages": messages, "max_tokens": 8000, "stream": True}
    client.send("POST", "/api/v3/chat/completions", body)
    assert client.head()[0] == 200


@pytest.mark.engine
def test_one_signal_stops_both_ports_and_cuts_both_streams_in_the_same_way(home: Home, tmp_path: Path) -> None:
    file = write_random_gguf(tmp_path / "noise.gguf", context=8192, width=512, layers=8)
    assert home.run("pull", f"file:{file}", "--name", "noise", "--version", "1").returncode == 0
    home.json("tls", "init")
    home.environ |= {"ARKWAY__ENGINE__THREADS": "1", "ARKWAY__SERVER__DRAIN_S": "1"}
    with home.serving("--tls-port", str(free_port())) as served:
        key = Path(served.said["key_file"]).read_text().strip()
        clients = [Connection(served.url, key), SecureConnection(served.said["https_url"], authority(home), key)]
        for client in clients:
            ask(client, served)
        streams = [client.chunks() for client in clients]
        begun = [b"".join(next(stream) for _ in range(3)) for stream in streams]
        served.process.send_signal(signal.SIGTERM)
        asked_s = time.monotonic()
        bodies = [first + b"".join(stream) for first, stream in zip(begun, streams, strict=True)]
        assert served.process.wait(60) == 0
        assert time.monotonic() - asked_s > 0.9
    for body in bodies:
        *_, failure, end = frames(body)
        assert "shutting down" in failure["error"]["message"]
        assert (finish_reasons(body), end) == ([], "[DONE]")
