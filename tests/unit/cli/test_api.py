"""``arkway api``: signed calls from the terminal, made or printed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from arkway.cli.api import command, parsed
from arkway.takeover.authority import files, initialise
from arkway.takeover.listening import server_context
from arkway.testing import ENDPOINT_ID, RunningServer, running_server, says
from arkway.wire import json
from tests.tools.signed import PAIR, SESSION_PAIR

CHAT = '{"messages": [{"role": "user", "content": "天为什么这么蓝?"}]}'
PATH = f"/api/v2/endpoint/{ENDPOINT_ID}/chat"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted=says("因为", "瑞利散射")) as running:
        yield running


def run(server: RunningServer, *words: str, **environ: str) -> Result:
    keys = {"VOLC_ACCESSKEY": PAIR.access_key_id, "VOLC_SECRETKEY": PAIR.secret}
    return CliRunner().invoke(command, [*words, "--url", server.url], env={**keys, **environ})


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ((), {}),
        (("--ResourceType", "bot"), {"ResourceType": "bot"}),
        (("--ResourceIds", "bot-1"), {"ResourceIds": ["bot-1"]}),
        (("--ResourceIds", "ep-1", "--ResourceIds", "ep-2"), {"ResourceIds": ["ep-1", "ep-2"]}),
        (("--ResourceIds", '["ep-1"]'), {"ResourceIds": ["ep-1"]}),
        (("--DurationSeconds=21600", "--DryRun", "true"), {"DurationSeconds": 21600, "DryRun": True}),
        (("--Name", "7up"), {"Name": "7up"}),
        (("--Name", "-"), {"Name": "-"}),
        (("--Filter", '{"Name": "x"}'), {"Filter": {"Name": "x"}}),
        (("--Tag", "a", "--Tag", "b", "--Tag", "c"), {"Tag": ["a", "b", "c"]}),
    ],
)
def test_parameters_become_a_body(words: tuple[str, ...], body: dict[str, Any]) -> None:
    assert parsed(words) == body


@pytest.mark.parametrize("words", [("ResourceType", "bot"), ("--",), ("--ResourceType",)])
def test_what_is_no_parameter_is_told(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        parsed(words)


def test_a_path_is_called(server: RunningServer) -> None:
    result = run(server, PATH, "--body", CHAT)
    assert result.exit_code == 0
    answer = json.loads(result.stdout.encode())
    assert answer["choices"][0]["message"]["content"] == "因为瑞利散射"


def test_a_temporary_pair_signs_with_its_token(server: RunningServer) -> None:
    environ = {"VOLC_ACCESSKEY": SESSION_PAIR.access_key_id, "VOLC_SECRETKEY": SESSION_PAIR.secret}
    assert run(server, PATH, "--body", CHAT, "--session-token", SESSION_PAIR.session_token, **environ).exit_code == 0
    assert run(server, PATH, "--body", CHAT, **environ).exit_code == 1


def test_an_error_is_shown_and_is_a_failure(server: RunningServer) -> None:
    result = run(server, "/api/v2/endpoint/ep-nobody/chat", "--body", CHAT)
    assert result.exit_code == 1
    assert '"code_n":1709810' in result.stdout


def test_one_document_has_status_headers_and_body(server: RunningServer) -> None:
    answer = json.loads(run(server, PATH, "--body", CHAT, "--json").stdout.encode())
    assert answer["status"] == 200
    assert answer["headers"]["content-type"].startswith("application/json")
    assert answer["body"]["choices"][0]["message"]["content"] == "因为瑞利散射"
    refused = json.loads(run(server, "/nowhere", "--body", "{}", "--json").stdout.encode())
    assert refused["status"] == 404


def test_an_action_is_posted_to_the_control_plane(server: RunningServer) -> None:
    result = run(server, "GetApiKey", "--ResourceType", "bot", "--ResourceIds", "bot-1", "--curl")
    assert f"{server.url}/?Action=GetApiKey&Version=2024-01-01" in result.stdout
    assert "/cn-beijing/ark/request" in result.stdout
    assert '{"ResourceType":"bot","ResourceIds":["bot-1"]}' in result.stdout


def test_the_printed_curl_command_works(server: RunningServer) -> None:
    result = run(server, PATH, "--body", CHAT, "--curl")
    assert result.stdout.startswith("curl ")
    assert PAIR.secret not in result.stdout
    done = subprocess.run(result.stdout, shell=True, capture_output=True, timeout=20, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "因为瑞利散射"


def test_without_keys_it_says_how_to_make_some(server: RunningServer) -> None:
    result = run(server, PATH, VOLC_ACCESSKEY="", VOLC_SECRETKEY="")
    assert result.exit_code == 1
    assert "arkway aksk create" in result.output


def test_both_a_body_and_parameters_are_refused(server: RunningServer) -> None:
    result = run(server, PATH, "--body", CHAT, "--Name", "x")
    assert result.exit_code == 2


def test_a_server_that_is_not_there_is_told(server: RunningServer) -> None:
    result = CliRunner().invoke(command, ["GetApiKey", "--url", "http://127.0.0.1:9", "--ak", "AK", "--sk", "SK"])
    assert result.exit_code == 1
    assert "no server answers at http://127.0.0.1:9" in result.output


def test_a_body_that_cannot_be_read_is_told(server: RunningServer, tmp_path: Path) -> None:
    result = run(server, PATH, "--body", f"@{tmp_path}/missing.json")
    assert result.exit_code == 1
    assert "missing.json cannot be read: No such file or directory" in result.output


def test_bytes_that_are_no_text_are_sent_but_not_printed_as_curl(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\xff")
    assert "not valid JSON" in run(server, PATH, "--body", f"@{tmp_path}/body").output
    result = run(server, PATH, "--body", f"@{tmp_path}/body", "--curl")
    assert result.exit_code == 1
    assert "not UTF-8" in result.output


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:99999", "the call of http://127.0.0.1:99999"), ("nowhere", "not the URL of a server")],
)
def test_a_url_that_is_none_is_told(url: str, words: str) -> None:
    result = CliRunner().invoke(command, ["GetApiKey", "--url", url, "--ak", "AK", "--sk", "SK"])
    assert result.exit_code == 1
    assert words in result.output


def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    own = files(tmp_path)
    initialise(tmp_path, (), int(time.time()))
    with running_server(tls=server_context(own.server, own.server_key)) as running:
        result = CliRunner().invoke(command, ["GetApiKey", "--url", running.https_url, "--ak", "AK", "--sk", "SK"])
    assert result.exit_code == 1
    assert "no secure connection" in result.output
    assert "no server answers" not in result.output
