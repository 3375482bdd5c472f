"""The command line against real homes and a real server, without weights."""

from __future__ import annotations

import os
import socket
import stat
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest

from tests.e2e.conftest import ARKWAY, ROOT, Home
from tests.tools.waiting import PATIENCE_S, until


def status_of(url: str, key: str) -> int:
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_first_start_keeps_its_key_in_a_private_file_and_later_starts_say_nothing(home: Home) -> None:
    with home.serving() as first:
        key_file = Path(first.said["key_file"])
        secret = key_file.read_text().strip()
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
        assert status_of(first.url, secret) == 200
        assert status_of(first.url, secret + "x") == 401
    assert first.process.returncode == 0
    assert secret not in first.errors
    with home.serving() as second:
        assert second.said["key_file"] is None
        assert status_of(second.url, secret) == 200
    assert len(home.json("keys", "list")) == 1


def test_no_secret_is_kept_in_the_clear(home: Home) -> None:
    with home.serving() as served:
        key_file = Path(served.said["key_file"])
        secret = key_file.read_text().strip()
        assert status_of(served.url, secret) == 200
    key_file.unlink()
    holders = [path for path in home.path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holders == []


def test_a_revoked_key_stops_working_in_a_running_server(home: Home) -> None:
    with home.serving() as served:
        made = home.json("keys", "create", "--name", "short-lived")
        until(lambda: status_of(served.url, made["secret"]) == 200)
        home.json("keys", "revoke", made["id"])
        until(lambda: status_of(served.url, made["secret"]) == 401)


def test_a_busy_port_is_said_in_a_sentence(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = home.run("serve", "--no-pull", "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert not home.path.exists()


def test_a_second_server_on_the_same_home_is_refused_in_a_sentence(home: Home) -> None:
    with home.serving():
        done = home.run("serve", "--no-pull", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_names_the_nearest_one(home: Home) -> None:
    home.environ["ARKWAY__SERVER__PROT"] = "9000"
    done = home.run("serve", "--no-pull")
    assert done.returncode == 1
    assert "did you mean `server.port`?" in done.stderr


def test_settings_that_do_not_fit_together_are_said_in_a_sentence(home: Home) -> None:
    home.environ |= {"ARKWAY__SERVER": "1", "ARKWAY__SERVER__PORT": "2"}
    done = home.run("serve", "--no-pull")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: `server` is a section of the configuration")


def test_a_start_without_the_engine_says_so_and_serves(home: Home, tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("xllamacpp"):
            (libraries / entry.name).symlink_to(entry)
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    home.command = (str(python), "-S", "-m", "arkway")
    home.environ["PYTHONPATH"] = f"{ROOT / 'src'}:{libraries}"
    with home.serving() as served:
        assert status_of(served.url, Path(served.said["key_file"]).read_text().strip()) == 200
    assert served.process.returncode == 0
    first, *_ = served.errors.splitlines()
    assert first.startswith("Warning: chat models cannot run here: xllamacpp: the embedded engine is not installed;")
    assert "pip install 'arkway[embedded]'" in first


def test_chat_without_a_server_says_how_to_start_one(home: Home) -> None:
    done = home.run("chat", "--api-key", "ark-x", "--url", "http://127.0.0.1:9", "hello")
    assert done.returncode == 1
    assert "arkway serve" in done.stderr


def test_doctor_reports_and_every_check_that_is_not_ok_says_how_to_mend_it(home: Home) -> None:
    done = home.run("doctor", "--json")
    checks = msgspec.json.decode(done.stdout)
    entries = checks if isinstance(checks, list) else checks["checks"]
    assert {entry["status"] for entry in entries} <= {"ok", "warn", "fail"}
    assert all(entry["mend"] for entry in entries if entry["status"] != "ok")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["serve", "--help"], ["keys", "create", "--help"]])
def test_help_and_version_need_no_home(home: Home, words: list[str]) -> None:
    done = home.run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not home.path.exists()


def test_version_is_quick() -> None:
    """Under 150 ms of processor time; the best of five, because other tests may be running."""
    best_s = min(_processor_s([*ARKWAY, "--version"]) for _ in range(5))
    assert best_s < 0.150


def _processor_s(command: list[str]) -> float:
    pid = os.spawnv(os.P_NOWAIT, command[0], command)
    _, _, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime
