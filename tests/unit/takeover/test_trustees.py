"""Whose trust takes which file and which variables."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.takeover.authority import initialise_takeover, takeover_files
from arkway.takeover.hosts import taken_over
from arkway.takeover.manifest import Manifest
from arkway.takeover.trustees import BEGIN, END, Trustees, certifi_bundle
from tests.unit.takeover.killing import killed_at_every_step

PROXY = "http://127.0.0.1:8090"
NOW_S = int(time.time())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    initialise_takeover(path, taken_over(), NOW_S)
    return path


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """A takeover's folder of its own, with the authority in it."""
    shutil.copytree(home / "takeover", tmp_path / "takeover")
    return tmp_path / "takeover"


def trustees(folder: Path) -> Trustees:
    return Trustees(folder, folder / "ca.pem", PROXY, NOW_S)


def environment(path: Path, bundle: Path | None = None) -> Path:
    """What looks like a virtual environment: an interpreter that says where certifi's bundle is."""
    real = bundle or path / "lib" / "certifi" / "cacert.pem"
    (path / "bin").mkdir(parents=True)
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(b"# Issuer: somebody\n")
    python = path / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho '{real}'\necho '{path}'\n")
    python.chmod(0o755)
    return path


def restore(folder: Path) -> None:
    manifest = Manifest(folder)
    with manifest.alone():
        manifest.restore()


def test_python_gets_our_certificate_at_the_end_of_its_bundle(folder: Path, tmp_path: Path) -> None:
    bundle = environment(tmp_path / "venv") / "lib" / "certifi" / "cacert.pem"
    told = trustees(folder).python(tmp_path / "venv")
    assert told.file == str(bundle)
    assert bundle.read_bytes() == b"# Issuer: somebody\n" + BEGIN + (folder / "ca.pem").read_bytes() + END
    assert told.variables["HTTPS_PROXY"] == told.variables["https_proxy"] == PROXY
    assert told.variables["SSL_CERT_FILE"] == str(bundle)
    assert ssl.create_default_context(cafile=bundle).cert_store_stats()["x509_ca"] == 1
    changed_ns = bundle.stat().st_mtime_ns
    trustees(folder).python(tmp_path / "venv" / "bin" / "python")
    assert bundle.stat().st_mtime_ns == changed_ns
    restore(folder)
    assert bundle.read_bytes() == b"# Issuer: somebody\n"


def test_a_kill_at_any_step_of_trust_can_be_undone(home: Path, tmp_path: Path) -> None:
    place = [tmp_path / "0"]

    def prepare(name: str) -> None:
        place[0] = tmp_path / name
        shutil.copytree(home / "takeover", place[0] / "takeover")
        environment(place[0] / "venv")

    prepare("0")
    steps = 0
    for step in killed_at_every_step(lambda: act(place[0])):
        restore(place[0] / "takeover")
        files = sorted(each.name for each in (place[0] / "venv").rglob("*") if each.is_file())
        assert files == ["cacert.pem", "python"]
        assert (place[0] / "venv/lib/certifi/cacert.pem").read_bytes() == b"# Issuer: somebody\n"
        assert list((place[0] / "takeover").glob("trust/*")) == []
        steps = step
        prepare(str(step))
    assert steps > 20


def act(place: Path) -> None:
    trustees(place / "takeover").python(place / "venv")
    trustees(place / "takeover").go()


def test_a_new_authority_takes_the_place_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    bundle = environment(tmp_path / "venv") / "lib" / "certifi" / "cacert.pem"
    trustees(folder).python(tmp_path / "venv")
    initialise_takeover(tmp_path, taken_over(), NOW_S, force=True)
    trustees(folder).python(tmp_path / "venv")
    assert bundle.read_bytes().count(BEGIN) == 1
    assert (folder / "ca.pem").read_bytes() in bundle.read_bytes()
    restore(folder)
    assert bundle.read_bytes() == b"# Issuer: somebody\n"


def test_a_bundle_that_another_takeover_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    environment(tmp_path / "venv")
    trustees(folder).python(tmp_path / "venv")
    shutil.copytree(folder, tmp_path / "second" / "takeover", ignore=shutil.ignore_patterns("manifest*", "backups"))
    with pytest.raises(Misconfigured, match="another takeover"):
        trustees(tmp_path / "second" / "takeover").python(tmp_path / "venv")


def test_a_bundle_that_somebody_else_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = environment(tmp_path / "venv") / "lib" / "certifi" / "cacert.pem"
    trustees(folder).python(tmp_path / "venv")
    bundle.write_bytes(b"theirs")
    with pytest.raises(Misconfigured, match="changed by somebody else"):
        trustees(folder).python(tmp_path / "venv")
    assert bundle.read_bytes() == b"theirs"


def test_the_bundle_of_the_whole_machine_is_not_changed(tmp_path: Path) -> None:
    machine = tmp_path / "etc" / "ca-certificates.crt"
    environment(tmp_path / "usr", machine)
    with pytest.raises(Misconfigured, match="the whole machine's"):
        certifi_bundle(tmp_path / "usr")


def test_what_is_no_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="neither an interpreter nor a virtual environment"):
        certifi_bundle(tmp_path)
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\necho 'No module named certifi' >&2\nexit 1\n")
    silent.chmod(0o755)
    with pytest.raises(Misconfigured, match="has no certifi; install it there: No module named certifi"):
        certifi_bundle(silent)


@pytest.mark.parametrize(
    "who, variable",
    [
        (Trustees.go, "SSL_CERT_FILE"),
        (Trustees.requests, "REQUESTS_CA_BUNDLE"),
        (Trustees.curl, "CURL_CA_BUNDLE"),
    ],
)
def test_a_bundle_of_the_machines_authorities_and_ours(folder: Path, who: Callable[..., object], variable: str) -> None:
    who(trustees(folder))
    bundle = folder / "trust" / "bundle.pem"
    told = trustees(folder)
    assert {"SSL_CERT_FILE": told.go, "REQUESTS_CA_BUNDLE": told.requests, "CURL_CA_BUNDLE": told.curl}[
        variable
    ]().variables[variable] == str(bundle)
    assert bundle.read_bytes().endswith(BEGIN + (folder / "ca.pem").read_bytes() + END)
    restore(folder)
    assert not bundle.exists()


def test_node_takes_a_variable_alone(folder: Path) -> None:
    told = trustees(folder).node()
    assert (told.file, told.variables["NODE_EXTRA_CA_CERTS"]) == ("", str(folder / "ca.pem"))
    assert Manifest(folder).entries() == ()


needs_java = pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool is not on this machine")


def store(path: Path, ca: Path) -> Path:
    command = ["keytool", "-importcert", "-noprompt", "-alias", "theirs", "-storepass", "changeit"]
    subprocess.run([*command, "-file", str(ca), "-keystore", str(path)], capture_output=True, check=True)
    return path


def aliases(path: Path) -> str:
    command = ["keytool", "-list", "-storepass", "changeit", "-keystore", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_java
def test_java_takes_a_copy_of_its_trust_store_or_the_store_itself(folder: Path, tmp_path: Path) -> None:
    security = tmp_path / "my jdk" / "lib" / "security"
    security.mkdir(parents=True)
    cacerts = store(security / "cacerts", folder / "ca.pem")
    original = cacerts.read_bytes()
    told = trustees(folder).java(tmp_path / "my jdk")
    assert Path(told.file).parent == folder / "trust"
    assert f"-Djavax.net.ssl.trustStore={told.file}" in told.variables["JAVA_TOOL_OPTIONS"]
    assert "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8090" in told.variables["JAVA_TOOL_OPTIONS"]
    assert cacerts.read_bytes() == original
    assert all(name in aliases(Path(told.file)) for name in ("theirs", "arkway-takeover-"))
    in_place = trustees(folder).java(cacerts, socks=True)
    assert in_place.file == str(cacerts)
    assert "arkway-takeover-" in aliases(cacerts)
    assert "-DsocksProxyHost=127.0.0.1" in in_place.variables["JAVA_TOOL_OPTIONS"]
    restore(folder)
    assert cacerts.read_bytes() == original
    assert not Path(told.file).exists()


@needs_java
def test_a_wrong_password_is_said_and_nothing_is_changed(folder: Path, tmp_path: Path) -> None:
    cacerts = store(tmp_path / "cacerts", folder / "ca.pem")
    original = cacerts.read_bytes()
    with pytest.raises(Misconfigured, match="keytool cannot import"):
        trustees(folder).java(cacerts, "wrong password")
    assert cacerts.read_bytes() == original
    assert Manifest(folder).entries() == ()


def test_what_is_no_java_home_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no JAVA_HOME"):
        trustees(folder).java(tmp_path)


def test_the_files_of_the_takeover_are_its_own(home: Path) -> None:
    assert takeover_files(home).ca.parent == home / "takeover"
