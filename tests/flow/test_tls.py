"""HTTPS beside HTTP: one application, one drain, and clients of several stacks that follow the recipes for trust."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from arkway.core.chat import ChatRequest
from arkway.core.events import Delta
from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context
from arkway.takeover.trust import recipes
from arkway.testing import ENDPOINT_ID, Gate, RunningServer, Script, Step, running_server, says
from tests.tools.client import Connection, frames, text
from tests.tools.tls import SecureConnection, trusting
from tests.tools.waiting import PATIENCE_S, until

CHAT = "/api/v3/chat/completions"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """An authority in a folder whose name a shell has to be told about."""
    home = tmp_path_factory.mktemp("data") / "my home"
    initialise(home, [], int(time.time()))
    return files(home)


@pytest.fixture(scope="module")
def server(place: Files) -> Generator[RunningServer]:
    with serving(place, says("天", "空")) as running:
        yield running


def serving(place: Files, script: Script, **options: Any) -> Any:
    return running_server(script, tls=server_context(place.server, place.server_key), **options)


def question(stream: bool) -> dict[str, Any]:
    return {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "问"}], "stream": stream}


def test_one_application_answers_at_both(server: RunningServer, place: Files) -> None:
    with Connection(server.url) as plain, SecureConnection(server.https_url, trusting(place.ca)) as secure:
        answers = [client.post(CHAT, question(False)).json() for client in (plain, secure)]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["天空", "天空"]


def test_a_stream_comes_whole_over_tls_and_the_connection_is_kept(server: RunningServer, place: Files) -> None:
    with SecureConnection(server.https_url, trusting(place.ca)) as client:
        for _ in range(2):
            reply = client.post(CHAT, question(True))
            assert (reply.status, text(reply.body), frames(reply.body)[-1]) == (200, "天空", "[DONE]")


def test_a_client_that_does_not_trust_the_authority_gets_no_connection(server: RunningServer) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{server.https_url}/livez", timeout=PATIENCE_S)


def test_a_name_that_the_certificate_is_not_for_is_refused_by_the_client(server: RunningServer, place: Files) -> None:
    port = int(server.https_url.rpartition(":")[2])
    refused = pytest.raises(ssl.SSLCertVerificationError, match="mismatch")
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection, refused:
        trusting(place.ca).wrap_socket(connection, server_hostname="ark.cn-beijing.volces.com")


@pytest.mark.filterwarnings("ignore:.*TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_refused_and_1_2_is_taken(server: RunningServer, place: Files) -> None:
    old, modern = trusting(place.ca), trusting(place.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    modern.maximum_version = ssl.TLSVersion.TLSv1_2
    with SecureConnection(server.https_url, modern) as client:
        assert client.get("/livez").status == 200
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        SecureConnection(server.https_url, old)


def test_plain_http_at_the_tls_port_is_no_answer_and_harms_nobody(server: RunningServer, place: Files) -> None:
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"{server.https_url.replace('https', 'http')}/livez", timeout=PATIENCE_S)
    with SecureConnection(server.https_url, trusting(place.ca)) as client:
        assert client.get("/livez").status == 200


def test_a_client_that_leaves_ends_its_call(place: Files) -> None:
    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("天", completion_tokens=1, prompt_tokens=7)
        yield Gate()

    with serving(place, script) as server:
        client = SecureConnection(server.https_url, trusting(place.ca))
        client.send("POST", CHAT, question(True))
        assert client.head()[0] == 200
        assert server.backend.open_streams == 1
        client.close()
        until(lambda: server.backend.open_streams == 0)


def test_a_stop_waits_for_the_streams_of_both(place: Files) -> None:
    gate = Gate()

    def script(request: ChatRequest) -> Iterable[Step]:
        yield Delta("天", completion_tokens=1, prompt_tokens=7)
        yield gate
        yield from says("空")(request)

    with serving(place, script, settings={"server": {"port": 0, "drain_s": PATIENCE_S}}) as server:
        clients = [Connection(server.url), SecureConnection(server.https_url, trusting(place.ca))]
        for client in clients:
            client.send("POST", CHAT, question(True))
            assert client.head()[0] == 200
        ports = [int(url.rpartition(":")[2]) for url in (server.url, server.https_url)]
        opening = threading.Thread(target=open_when_closed, args=(ports, gate))
        opening.start()
    opening.join()
    bodies = [b"".join(client.chunks()) for client in clients]
    assert [text(body) for body in bodies] == ["天空", "天空"]
    assert all(frames(body)[-1] == "[DONE]" for body in bodies)


def open_when_closed(ports: list[int], gate: Gate) -> None:
    """Lets the streams go on once neither port takes a connection any more: the server is stopping."""
    until(lambda: not any(map(takes_connections, ports)))
    gate.open()


def takes_connections(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def test_a_client_that_never_shakes_hands_does_not_hold_up_a_stop(place: Files) -> None:
    others = threading.enumerate()
    with serving(place, says("天"), settings={"server": {"port": 0, "drain_s": 1}}) as server:
        port = int(server.https_url.rpartition(":")[2])
        mute = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        time.sleep(0.1)
        (serves,) = (each for each in threading.enumerate() if each not in others and each.name == "arkway-testing")
    serves.join(PATIENCE_S)
    assert not serves.is_alive()
    mute.close()


def test_who_shakes_hands_has_a_place_among_the_connections_of_both_ports(place: Files) -> None:
    with serving(place, says("天"), settings={"edge": {"connections": 3, "linger_s": 0.1}}) as server:
        port = int(server.https_url.rpartition(":")[2])
        mute = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(3)]
        until(lambda: status_at(server.url) == 503)
        for client in mute:
            client.close()
        until(lambda: status_at(server.url) == 200)
        with SecureConnection(server.https_url, trusting(place.ca)) as secure:
            assert secure.get("/livez").status == 200


def status_at(url: str) -> int:
    with Connection(url) as client:
        return client.get("/livez").status


NODE = "require('https').get(process.argv[1], answer => answer.pipe(process.stdout))"
JAVA = """import java.net.URI; import java.net.http.*;
class Ask { public static void main(String[] words) throws Exception {
  var request = HttpRequest.newBuilder(URI.create(words[0])).build();
  System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body()); } }
"""
GO = """package main
import ("io"; "net/http"; "os")
func main() {
  answer, err := http.Get(os.Args[1])
  if err != nil { panic(err) }
  io.Copy(os.Stdout, answer.Body)
}
"""
PYTHON = "import sys, requests; sys.stdout.write(requests.get(sys.argv[1]).text)"

# What asks for a URL, and the recipe that has to make it trust the answer.
ASKING = {
    "curl": "curl --silent --show-error",
    "node": f'node -e "{NODE}"',
    "java": "java Ask.java",
    "go": "go run ask.go",
    "python-requests": f'"$PYTHON" -c "{PYTHON}"',
    "certifi": f'"$PYTHON" -c "{PYTHON}"',
}


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    (tmp_path / "Ask.java").write_text(JAVA)
    (tmp_path / "ask.go").write_text(GO)
    return tmp_path


def shell(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Runs the lines in one shell, without what this machine is already told to trust."""
    told = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "JAVA_TOOL_OPTIONS")
    environ = {name: value for name, value in os.environ.items() if name not in told and "proxy" not in name.lower()}
    bin_folder = str(Path(sys.executable).parent)
    environ |= {"PYTHON": sys.executable, "PATH": f"{bin_folder}:{environ['PATH']}", "GOFLAGS": "-mod=mod"}
    script = "\n".join(("set -e", *lines))
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("stack", ASKING)
def test_a_client_that_follows_its_recipe_trusts_the_server_and_without_it_does_not(
    server: RunningServer, place: Files, asking: Path, stack: str
) -> None:
    tool = ASKING[stack].split()[0]
    if not tool.startswith('"') and shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    (recipe,) = recipes(place.ca, server.https_url, stack)
    ask = f"{ASKING[stack]} {server.https_url}/livez"
    without = shell(asking, ask)
    assert without.returncode != 0
    assert "certif" in without.stderr.lower() or "PKIX" in without.stderr
    done = shell(asking, *recipe.commands, ask)
    assert done.returncode == 0, done.stderr
    assert '{"status":"ok"' in done.stdout


def test_the_openssl_recipe_verifies_the_server(server: RunningServer, place: Files, tmp_path: Path) -> None:
    (recipe,) = recipes(place.ca, server.https_url, "openssl")
    done = shell(tmp_path, *recipe.commands)
    assert done.returncode == 0, done.stderr
    assert "Verification: OK" in done.stdout + done.stderr
