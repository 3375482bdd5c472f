"""The vendor's guides, whose samples are run as printed: copies of them lie beside the checkout, not in it.

``000``: "API 调用指南" of Ark v3 (2024-07-03); ``002``: Skylark-chat, MaaS v1 (2023-12-11); ``004``: Moonshot-v1-8k,
MaaS v2 (2024-05-15).
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from arkway.testing import RunningServer
from tests.sdk import environments
from tests.sdk.conftest import DIRECT

FOLDER = environments.ROOT.parent / "shared" / "seeds"
RUN_TIMEOUT_S = 60
MAAS_PYTHON = re.compile(r"^('''\nUsage:\n.*?)^Java$", re.S | re.M)
MAAS_HOST = "'maas-api.ml-platform-cn-beijing.volces.com'"
CONSTRUCTED = re.compile(r"^( *)maas = MaasService\(.*\)\n", re.M)


def guide(number: str) -> str:
    """The text of one guide; without it the test is skipped, or fails where that is not allowed."""
    found = sorted(FOLDER.glob(f"{number}_*.txt"))
    if not found:
        reason = f"no copy of the vendor's guide {number} beside the checkout"
        if os.environ.get("ARKWAY_REQUIRE_SDKS") == "1":
            pytest.fail(f"{reason}, and ARKWAY_REQUIRE_SDKS=1 forbids to skip")
        pytest.skip(reason)
    return found[0].read_text(encoding="utf-8")


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """The text with each placeholder put in; every one of them has to be there."""
    for placeholder, value in changes:
        assert placeholder in text
        text = text.replace(placeholder, value)
    return text


def run(command: list[str], environ: Mapping[str, str]) -> str:
    """Standard output of a program that has to succeed."""
    done = subprocess.run(
        command,
        env={**os.environ, **DIRECT, **environ},
        capture_output=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def maas_sample(number: str, server: RunningServer, *, host: str = "", scheme: str = "http") -> str:
    """The Python sample of a guide to v1 or v2, changed in host and scheme, and in the endpoint where it has one.

    Without a scheme it stays what the SDK has by itself: https.
    """
    found = MAAS_PYTHON.search(guide(number))
    assert found is not None
    source = replaced(found[1], (MAAS_HOST, repr(host or server.url.removeprefix("http://"))))
    if scheme:
        source, constructed = CONSTRUCTED.subn(rf'\g<0>\1maas.set_scheme("{scheme}")' + "\n", source)
        assert constructed == 1
    return source.replace("{YOUR_ENDPOINT_ID}", server.endpoint_id)


def printable(environment: str, source: str, server: RunningServer, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command that runs the sample in one environment, and the keys it takes from the environment."""
    program = folder / "main.py"
    program.write_text(source, encoding="utf-8")
    keys = {"VOLC_ACCESSKEY": server.access_key_id, "VOLC_SECRETKEY": server.secret_access_key}
    return [str(environments.interpreter(environment)), str(program)], keys


def objects(lines: list[str]) -> list[dict[str, Any]]:
    """The answers among the printed lines, each as Python prints an object of the SDK."""
    return [ast.literal_eval(line) for line in lines if line.startswith("{")]
