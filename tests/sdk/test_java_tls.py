"""Java over the TLS listener: the guides' programs changed in nothing but the host, told to trust our authority by the
commands that ``arkway tls trust-help --stack java`` prints."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context
from arkway.takeover.trust import recipes
from arkway.testing import RunningServer, running_server, says
from tests.sdk import toolchains
from tests.sdk.java.samples import ark_chat, output, v1_chat, v2_chat

pytestmark = pytest.mark.sdk

COMMANDS_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate authority of our own, and a certificate for localhost."""
    home = tmp_path_factory.mktemp("data")
    initialise(home, [], int(time.time()))
    return files(home)


@pytest.fixture(scope="module")
def secure_server(place: Files) -> Iterator[RunningServer]:
    tls = server_context(place.server, place.server_key)
    with running_server(says("你好", "，", "世界"), tls=tls) as running:
        yield running


@pytest.fixture(scope="module")
def trusting(place: Files, secure_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment after the recipe's commands."""
    toolchains.need("java")
    (recipe,) = recipes(place.ca, secure_server.https_url, "java")
    script = "\n".join(["set -e", *recipe.commands, 'printf "%s" "$JAVA_TOOL_OPTIONS"'])
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path_factory.mktemp("trust"),
        capture_output=True,
        text=True,
        timeout=COMMANDS_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"JAVA_TOOL_OPTIONS": done.stdout}


@pytest.mark.parametrize("line", ["java-maas", "java-maas-2024"])
def test_maas_samples_keep_https(
    line: str, secure_server: RunningServer, trusting: dict[str, str], tmp_path: Path
) -> None:
    for sample in (v1_chat, v2_chat):
        source = sample(secure_server, secure_server.https_url)
        lines = output(line, source, tmp_path, secure_server, trusting).splitlines()

        assert "setScheme" not in source
        assert lines[0] == "你好，世界"
        assert [text for text in lines[1:] if text in ("你好", "，", "世界")] == ["你好", "，", "世界"]


@pytest.mark.parametrize("line", ["java-ark", "java-ark-2024"])
def test_ark_sample(line: str, secure_server: RunningServer, trusting: dict[str, str], tmp_path: Path) -> None:
    source = ark_chat(secure_server, secure_server.https_url)

    assert output(line, source, tmp_path, secure_server, trusting).count("你好，世界") == 2


@pytest.mark.parametrize("line", ["java-maas", "java-maas-2024"])
def test_strangers_certificate_is_refused(line: str, secure_server: RunningServer, tmp_path: Path) -> None:
    """Of the plain call; the guide's program dies of a stream that never began."""
    source = v1_chat(secure_server, secure_server.https_url).replace("testStreamChat(maasService, req);", "")

    printed = output(line, source, tmp_path, secure_server)

    assert "code: ClientSDKRequestError" in printed
    assert "你好" not in printed
