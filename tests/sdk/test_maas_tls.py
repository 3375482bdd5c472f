"""Clients that insist on https, against the TLS listener: the samples of the guides changed in nothing but the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context
from arkway.testing import RunningServer, running_server, says
from arkway.wire import json
from tests.sdk import environments
from tests.sdk.conftest import PROGRAMS
from tests.sdk.guides import maas_sample, objects, printable, run

pytestmark = pytest.mark.sdk


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


@pytest.mark.parametrize("environment", environments.MAAS_CLIENTS)
@pytest.mark.parametrize("number", ["002", "004"])
def test_maas_samples_keep_https(
    environment: str, number: str, secure_server: RunningServer, place: Files, tmp_path: Path
) -> None:
    source = maas_sample(number, secure_server, host=secure_server.https_url.removeprefix("https://"), scheme="")
    command, keys = printable(environment, source, secure_server, tmp_path)

    lines = run(command, {**keys, "REQUESTS_CA_BUNDLE": str(place.ca)}).splitlines()

    answer, *frames = objects(lines)
    assert answer["usage"]["total_tokens"] == frames[-1]["usage"]["total_tokens"] == 10
    assert "set_scheme" not in source


@pytest.mark.parametrize("environment", environments.MAAS_CLIENTS)
def test_strangers_certificate_is_refused(environment: str, secure_server: RunningServer, tmp_path: Path) -> None:
    source = maas_sample("002", secure_server, host=secure_server.https_url.removeprefix("https://"), scheme="")
    command, keys = printable(environment, source, secure_server, tmp_path)

    output = run(command, {**keys, "REQUESTS_CA_BUNDLE": ""})

    assert "CERTIFICATE_VERIFY_FAILED" in output
    assert objects(output.splitlines()) == []


@pytest.mark.parametrize("environment", environments.CLIENTS)
def test_sample_program_of_v3(environment: str, secure_server: RunningServer, place: Files) -> None:
    base_url = secure_server.https_url + ("/v1" if environment == "openai" else "/api/v3")
    output = run(
        [str(environments.interpreter(environment)), str(PROGRAMS / "sample.py"), environment],
        {
            "ARK_BASE_URL": base_url,
            "ARK_API_KEY": secure_server.api_key,
            "ARK_CHAT_MODEL": secure_server.endpoint_id,
            "ARK_EMBEDDING_MODEL": secure_server.embedding_endpoint_id,
            "SSL_CERT_FILE": str(place.ca),
        },
    )

    document = json.load_object(output.encode())
    assert document["standard"]["content"] == document["streaming"]["content"] == "你好，世界"
