"""The takeover on the command line: started, trusted, stopped, and everything put back."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.testing import RunningServer, running_server, says
from arkway.wire import json
from tests.e2e.conftest import ARKWAY, Home

ARK = "ark.cn-beijing.volces.com"
PATIENCE_S = 90


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(says("天", "空")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.run("takeover", "stop", "--force")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with a certifi in it, which has a bundle."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (site,) = place.glob("lib/*/site-packages")
    (site / "certifi").mkdir()
    bundle = site / "certifi" / "cacert.pem"
    (site / "certifi" / "__init__.py").write_text(f"where = lambda: {str(bundle)!r}\n")
    bundle.write_text("# authorities\n")
    os.utime(bundle, ns=(1, 1_600_000_000_000_000_001))
    return place


def started(home: Home, server: RunningServer, *options: str) -> dict[str, Any]:
    document: dict[str, Any] = home.json(
        "takeover", "start", "--detach", "--port", "0", "--server", server.url, *options
    )
    return document


def asked(variables: dict[str, str], url: str) -> int:
    """What a client that knows nothing but these variables is answered."""
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).status)"
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def ended(pid: int) -> bool:
    """Whether the process is gone, or is only waiting for its parent to look."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def identity(file: Path) -> tuple[str, int, int]:
    found = file.stat()
    return hashlib.sha256(file.read_bytes()).hexdigest(), found.st_mode, found.st_mtime_ns


def test_from_start_to_stop(home: Home, server: RunningServer, environment: Path) -> None:
    (bundle,) = environment.glob("lib/*/site-packages/certifi/cacert.pem")
    before = identity(bundle)
    assert home.json("takeover", "status") == {"listening": None, "files": []}

    said = started(home, server)
    by_files, by_variables = home.json("takeover", "trust", "--python", str(environment), "--requests")
    assert by_files["file"] == str(bundle)
    assert identity(bundle) != before
    assert asked(by_files["variables"], f"https://{ARK}/livez") == 200
    assert asked(by_variables["variables"], f"https://{ARK}/livez") == 200

    status = home.json("takeover", "status")
    assert status["listening"] == said
    assert [(each["target"], each["changed"]) for each in status["files"]] == [("python", True), ("bundle", True)]

    stopped = home.json("takeover", "stop")
    assert stopped["stopped"] == said
    assert [each["outcome"] for each in stopped["files"]] == ["restored", "restored"]
    assert identity(bundle) == before
    assert list((home.path / "takeover" / "trust").iterdir()) == []
    assert ended(said["pid"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(said["url"].rpartition(":")[2])))
    assert home.json("takeover", "stop") == {"stopped": None, "files": []}
    assert home.json("takeover", "status") == {"listening": None, "files": []}


def test_a_shell_reads_the_variables(home: Home, server: RunningServer) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    started(home, server)
    script = (
        f'eval "$({" ".join(ARKWAY)} takeover trust --curl)"; curl --silent https://{ARK}/livez; curl https://x.org'
    )
    done = subprocess.run(
        ["sh", "-c", script], env=home.environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout.startswith('{"status":"ok"')
    assert "response 403" in done.stderr


def test_a_listener_that_was_killed_leaves_nothing_that_stop_does_not_restore(
    home: Home, server: RunningServer, environment: Path
) -> None:
    (bundle,) = environment.glob("lib/*/site-packages/certifi/cacert.pem")
    before = identity(bundle)
    said = started(home, server)
    home.json("takeover", "trust", "--python", str(environment))
    os.kill(said["pid"], signal.SIGKILL)
    stopped = home.json("takeover", "stop")
    assert [each["path"] for each in stopped["files"]] == [str(bundle)]
    assert identity(bundle) == before
    again = started(home, server)
    assert again["pid"] != said["pid"]
    assert again["ca"] == said["ca"]


def test_a_file_that_somebody_else_changed_is_left_alone(home: Home, server: RunningServer, environment: Path) -> None:
    (bundle,) = environment.glob("lib/*/site-packages/certifi/cacert.pem")
    before = identity(bundle)
    started(home, server)
    home.json("takeover", "trust", "--python", str(environment))
    bundle.write_text("theirs")
    refused = home.run("takeover", "stop")
    assert (refused.returncode, "changed by somebody else" in refused.stderr) == (1, True)
    assert "Traceback" not in refused.stderr
    assert home.json("takeover", "status")["listening"] is None
    assert bundle.read_text() == "theirs"
    assert home.json("takeover", "stop", "--force")["files"][0]["outcome"] == "restored"
    assert identity(bundle) == before


def test_in_the_foreground_it_ends_by_an_interrupt_and_reminds(home: Home, server: RunningServer) -> None:
    words = [*ARKWAY, "takeover", "start", "--port", "0", "--server", server.url, "--json"]
    with subprocess.Popen(words, env=home.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = json.load_object(process.stdout.readline())
        assert said["pid"] == process.pid
        authority = Path(said["ca"]).read_bytes()
        second = home.run("takeover", "start", "--port", "0", "--server", server.url)
        assert (second.returncode, f"listens already at {said['url']}" in second.stderr) == (1, True)
        detached = home.run("takeover", "start", "--detach", "--new-ca", "--port", "0", "--server", server.url)
        assert (detached.returncode, "listens already" in detached.stderr) == (1, True)
        assert (home.path / "takeover" / "ca.pem").read_bytes() == authority
        (told,) = home.json("takeover", "trust", "--go")
        assert told["variables"]["VOLC_HTTPS_PROXY"] == said["url"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b"arkway takeover stop" in errors
    assert b"Traceback" not in errors


def test_it_listens_on_loopback_alone(home: Home, server: RunningServer) -> None:
    for options in (("--listen", "0.0.0.0"), ("--listen", "192.0.2.1", "--detach")):
        done = home.run("takeover", "start", "--port", "0", "--server", server.url, *options)
        assert (done.returncode, "loopback address alone" in done.stderr) == (1, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = home.run("takeover", "start", "--detach", "--port", port, "--server", server.url)
    assert (done.returncode, "cannot listen on 127.0.0.1" in done.stderr) == (1, True)
    assert home.json("takeover", "status")["listening"] is None


def test_a_further_host_needs_an_authority_that_was_made_for_it(home: Home, server: RunningServer) -> None:
    started(home, server)
    home.json("takeover", "stop")
    refused = home.run("takeover", "start", "--detach", "--port", "0", "--server", server.url, "--host", "ark.test")
    assert (refused.returncode, "--new-ca --host ark.test" in refused.stderr) == (1, True)
    said = started(home, server, "--host", "ark.test", "--new-ca")
    assert said["hosts"][-1] == "ark.test"
    (told,) = home.json("takeover", "trust", "--requests")
    assert asked(told["variables"], "https://ark.test/livez") == 200


def test_what_cannot_be_done_is_said(home: Home) -> None:
    early = home.run("takeover", "trust", "--go")
    assert (early.returncode, "arkway takeover start" in early.stderr) == (1, True)
    vendor = home.run("takeover", "start", "--server", f"https://{ARK}")
    assert (vendor.returncode, "is the vendor's" in vendor.stderr) == (1, True)
    both = home.run("takeover", "stop", "--force", "--forget")
    assert (both.returncode, "choose one" in both.stderr) == (1, True)
    assert not home.path.exists()


def test_a_server_starts_nothing_of_it(home: Home) -> None:
    with home.serving() as served, urllib.request.urlopen(f"{served.url}/livez", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
        assert not (home.path / "takeover").exists()
        assert home.json("takeover", "status") == {"listening": None, "files": []}
