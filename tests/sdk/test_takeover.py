"""Programs that nobody changed, with their default hosts and https, told by their environment alone.

The vendor's samples are run to the byte as their guides print them. What a reader of a guide has to fill in is no
exception: the placeholder of the endpoint is sent as it is, and is an alias of a model on this server. The exceptions
are said where they are made.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arkway.ports import Alias
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, RunningServer, running_server, says
from arkway.wire import json
from tests.sdk import environments, toolchains
from tests.sdk.guides import MAAS_PYTHON, guide, objects, printable, run
from tests.sdk.java import samples as java
from tests.sdk.test_go_samples import answers, keys, output, programs
from tests.sdk.test_guide import CURL, python_samples

pytestmark = pytest.mark.sdk

VENDOR_HOSTS = ("maas-api.ml-platform-cn-beijing.volces.com", "ark.cn-beijing.volces.com", "open.volcengineapi.com")
PIECES = ("你好", "，", "世界")
PLACEHOLDERS = ("${YOUR_ENDPOINT_ID}", "{YOUR_ENDPOINT_ID}")
COMMAND_TIMEOUT_S = 60
# What this machine may be told to trust: without it, the SDKs read their certifi's bundle.
UNTOLD = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", "REQUESTS_CA_BUNDLE": ""}
NOWHERE = "192.0.2.1"
"""Of RFC 5737: where no host is."""


class Takeover:
    """The takeover's commands on one data directory, and the proxy that runs."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "arkway", "--home", str(self.home), "takeover", *words, "--json"]

    def json(self, *words: str) -> Any:
        command = self.command(*words)
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def variables(self, *words: str) -> dict[str, str]:
        """The environment that `trust` tells to set."""
        (told,) = self.json("trust", *words)
        variables: dict[str, str] = told["variables"]
        return variables

    @contextmanager
    def listening(self, server: RunningServer) -> Iterator[None]:
        command = self.command("start", "--port", "0", "--server", server.url)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            if not process.stdout.readline():
                pytest.fail(process.stderr.read().decode())
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(COMMAND_TIMEOUT_S) == 0


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningServer]:
    """Where the placeholders of the guides are names of models."""
    aliases = [Alias(name, CHAT_CARD.name, "") for name in PLACEHOLDERS]
    aliases.append(Alias("$YOUR_ENDPOINT_ID", EMBEDDING_CARD.name, ""))
    with running_server(says(*PIECES), settings={"surface": {"v3_model_names": True}}, aliases=aliases) as running:
        yield running


@pytest.fixture(scope="module")
def takeover(shared_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Takeover]:
    """A proxy before that server; stopped, and all it changed restored, at the end."""
    made = Takeover(tmp_path_factory.mktemp("takeover") / "home")
    with made.listening(shared_server):
        yield made
    made.json("stop")
    assert made.json("status") == {"listening": None, "files": []}


@pytest.fixture
def server(shared_server: RunningServer, takeover: Takeover) -> RunningServer:
    shared_server.backend.requests.clear()
    return shared_server


@contextmanager
def copied(client: str, folder: Path) -> Generator[tuple[Path, Path]]:
    """A copy of a client's environment, and its certifi's bundle, which has to be in the end what it was."""
    original = environments.interpreter(client).parents[1]
    copy = folder / client
    shutil.copytree(original, copy, symlinks=True, copy_function=linked)
    (bundle,) = copy.glob("lib/*/site-packages/certifi/cacert.pem")
    before, kept = identity(bundle), identity(original / bundle.relative_to(copy))
    yield copy, bundle
    assert identity(bundle) == before
    assert identity(original / bundle.relative_to(copy)) == kept


def linked(source: str, target: str) -> None:
    """One file for both, except for what is about to change."""
    try:
        if source.endswith("cacert.pem"):
            raise OSError
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def identity(file: Path) -> tuple[str, int, int]:
    found = file.stat()
    return hashlib.sha256(file.read_bytes()).hexdigest(), found.st_mode, found.st_mtime_ns


def maas_python(number: str) -> str:
    found = MAAS_PYTHON.search(guide(number))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("environment", environments.MAAS_CLIENTS)
@pytest.mark.parametrize("number", ["002", "004"])
def test_maas_samples_by_variables_alone(
    environment: str, number: str, server: RunningServer, takeover: Takeover, tmp_path: Path
) -> None:
    source = maas_python(number)
    command, access = printable(environment, source, server, tmp_path)

    lines = run(command, {**access, **takeover.variables("--requests")}).splitlines()

    assert VENDOR_HOSTS[0] in source
    assert (tmp_path / "main.py").read_text() in guide(number)
    answer, *frames = objects(lines)
    assert answer["usage"]["total_tokens"] == frames[-1]["usage"]["total_tokens"] == 10
    assert [request.stream for request in server.backend.requests] == [False, True]


def test_without_trust_no_call_is_made(server: RunningServer, takeover: Takeover, tmp_path: Path) -> None:
    command, access = printable("maas", maas_python("002"), server, tmp_path)
    variables = {**takeover.variables("--requests"), "REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": ""}

    printed = run(command, {**access, **variables})

    assert "CERTIFICATE_VERIFY_FAILED" in printed
    assert server.backend.requests == []


@pytest.mark.parametrize("client", ["ark", "ark-2024"])
def test_python_sample_of_v3_by_its_certifi(
    client: str, server: RunningServer, takeover: Takeover, tmp_path: Path
) -> None:
    source = python_samples()[0]
    with copied(client, tmp_path) as (environment, bundle):
        variables = {**takeover.variables("--python", str(environment)), **UNTOLD}
        assert bundle.read_bytes().endswith(b"# <<< arkway takeover <<<\n")

        printed = run([str(environment / "bin/python"), "-c", source], {**variables, "ARK_API_KEY": server.api_key})

        assert printed.splitlines()[1::2] == ["你好，世界", "你好，世界"]
        assert [request.stream for request in server.backend.requests] == [False, True]
        restored(takeover, bundle)


def restored(takeover: Takeover, bundle: Path) -> None:
    """Puts the files back while the proxy goes on (``stop`` would end it)."""
    from arkway.takeover.manifest import Manifest

    manifest = Manifest(takeover.home / "takeover")
    with manifest.alone():
        manifest.undo(bundle)


ARK_BY_PAIR = """
import sys
from volcenginesdkarkruntime import Ark

client = Ark(ak=sys.argv[1], sk=sys.argv[2])
asked = {"model": sys.argv[3], "messages": [{"role": "user", "content": "?"}]}
print(client.chat.completions.create(**asked).choices[0].message.content)
for chunk in client.chat.completions.create(stream=True, **asked):
    print(chunk.choices[0].delta.content if chunk.choices else "", end="")
"""


def test_the_ak_sk_mode_of_the_ark_sdk(server: RunningServer, takeover: Takeover, tmp_path: Path) -> None:
    """Two hosts by themselves: a key from the control plane, which trusts certifi's bundle alone, then the call.

    Of the SDK of today; the client of the control plane of 2024 heeds no proxy.
    """
    source = tmp_path / "program.py"
    source.write_text(ARK_BY_PAIR)
    words = [str(source), server.access_key_id, server.secret_access_key, server.endpoint_id]
    with copied("ark", tmp_path) as (environment, bundle):
        variables = {**takeover.variables("--python", str(environment)), **UNTOLD}

        printed = run([str(environment / "bin/python"), *words], variables)

        assert printed == "你好，世界\n你好，世界"
        assert [request.stream for request in server.backend.requests] == [False, True]
        restored(takeover, bundle)


def test_variables_alone_are_not_enough_for_it(server: RunningServer, takeover: Takeover) -> None:
    command = [str(environments.interpreter("ark")), "-c", ARK_BY_PAIR]
    words = [server.access_key_id, server.secret_access_key, server.endpoint_id]

    done = subprocess.run(
        [*command, *words],
        env={**os.environ, **takeover.variables("--requests")},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )

    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert server.backend.requests == []


@pytest.mark.parametrize("line", ["go-ark", "go-ark-2024"])
def test_go_sample_of_v3(line: str, server: RunningServer, takeover: Takeover, tmp_path: Path) -> None:
    source = programs("000")[0]

    environ = {"ARK_API_KEY": server.api_key, **takeover.variables("--go")}
    lines = output(line, source, tmp_path, environ)

    assert (tmp_path / "main.go").read_text() in guide("000")
    assert lines == ["----- standard request -----", "你好，世界", "----- streaming request -----", "你好，世界"]


@pytest.mark.parametrize("number", ["002", "004"])
def test_go_maas_samples_of_2024(number: str, server: RunningServer, takeover: Takeover, tmp_path: Path) -> None:
    (source,) = programs(number)

    lines = output("go-maas-2024", source, tmp_path, {**keys(server), **takeover.variables("--go")})

    assert VENDOR_HOSTS[0] in source
    assert (tmp_path / "main.go").read_text() in guide(number)
    answer, chunks, usage = answers(lines)
    assert int(answer["usage"]["total_tokens"]) == int(usage["total_tokens"]) == 10
    assert len(chunks) >= 3


@pytest.fixture(scope="module")
def java_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of a JDK is read: its trust store."""
    toolchains.need("java")
    told = subprocess.run(
        ["java", "-XshowSettings:properties", "-version"], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(r"java\.home = (.+)", told.stderr)
    assert found is not None
    return Path(found[1].strip())


@pytest.mark.parametrize("line", ["java-ark", "java-ark-2024"])
def test_java_sample_of_v3(
    line: str, server: RunningServer, takeover: Takeover, java_home: Path, tmp_path: Path
) -> None:
    store = identity(java_home / "lib/security/cacerts")
    source = java.PROGRAM.findall(guide("000"))[0]

    printed = java.output(line, source, tmp_path, server, takeover.variables("--java", str(java_home)))

    assert printed.count("你好，世界") == 2
    assert [request.stream for request in server.backend.requests] == [False, True]
    assert identity(java_home / "lib/security/cacerts") == store


def by_socks(takeover: Takeover, java_home: Path, folder: Path) -> dict[str, str]:
    """For SDKs that heed no HTTP proxy and look names up first, which this machine may not be able to: a hosts file of
    the JDK's own names an address where nobody is."""
    names = folder / "hosts"
    names.write_text("".join(f"{NOWHERE} {host}\n" for host in VENDOR_HOSTS) + "127.0.0.1 localhost\n")
    variables = takeover.variables("--java", str(java_home), "--socks")
    variables["JAVA_TOOL_OPTIONS"] += f" -Djdk.net.hosts.file={names}"
    return variables


JAVA_BY_PAIR = """
package com.volcengine.ark.pair;

import com.volcengine.ark.runtime.model.completion.chat.*;
import com.volcengine.ark.runtime.service.ArkService;
import java.util.List;

public class ByPair {
    public static void main(String[] arguments) {
        ArkService service = ArkService.builder()
                .ak(System.getenv("VOLC_ACCESSKEY")).sk(System.getenv("VOLC_SECRETKEY")).build();
        ChatCompletionRequest request = ChatCompletionRequest.builder()
                .model(System.getenv("ENDPOINT_ID"))
                .messages(List.of(ChatMessage.builder().role(ChatMessageRole.USER).content("?").build()))
                .build();
        System.out.println(service.createChatCompletion(request).getChoices().get(0).getMessage().getContent());
        service.streamChatCompletion(request).blockingForEach(chunk -> chunk.getChoices()
                .forEach(choice -> System.out.print(choice.getMessage().getContent())));
        service.shutdownExecutor();
        System.exit(0);
    }
}
"""


def test_the_ak_sk_mode_of_the_java_sdk(
    server: RunningServer, takeover: Takeover, java_home: Path, tmp_path: Path
) -> None:
    """Here alone: it has no setting for where the control plane is. Its client of that heeds no HTTP proxy."""
    server.audit.clear()
    environ = {**by_socks(takeover, java_home, tmp_path), "ENDPOINT_ID": server.endpoint_id}

    printed = java.output("java-ark", JAVA_BY_PAIR, tmp_path, server, environ)

    assert printed.replace("null", "").split() == ["你好，世界", "你好，世界"]
    (entry,) = server.audit
    assert (entry.action, entry.target) == ("endpoints.get_api_key", server.endpoint_id)
    assert [request.stream for request in server.backend.requests] == [False, True]


@pytest.mark.parametrize("number", ["002", "004"])
def test_java_maas_samples_of_2024(
    number: str, server: RunningServer, takeover: Takeover, java_home: Path, tmp_path: Path
) -> None:
    """By SOCKS. The sample of v1 has its doubles made floats, without which it does not compile."""
    (source,) = java.PROGRAM.findall(guide(number))
    if number == "002":
        source = source.replace("Temperature(0.7)", "Temperature(0.7f)").replace("TopP(0.9)", "TopP(0.9f)")

    lines = java.output(
        "java-maas-2024", source, tmp_path, server, by_socks(takeover, java_home, tmp_path)
    ).splitlines()

    assert VENDOR_HOSTS[0] in source
    assert lines[0] == "你好，世界"
    assert [text for text in lines[1:] if text in PIECES] == list(PIECES)


def test_curl_samples_of_v3(server: RunningServer, takeover: Takeover) -> None:
    chat, embeddings = CURL.findall(guide("000"))
    environ = {"API_KEY": server.api_key, **takeover.variables("--curl")}

    stream = run(["sh", "-c", chat], environ)
    vectors = json.load_object(run(["sh", "-c", embeddings], environ).encode())

    assert stream.count("data: ") == 5
    assert stream.endswith("data: [DONE]\n\n")
    assert len(vectors["data"][0]["embedding"]) == EMBEDDING_CARD.dimensions


NODE = """
const {MaasService} = require("@volcengine/openapi").maas;
const service = new MaasService({host: "maas-api.ml-platform-cn-beijing.volces.com", region: "cn-beijing"});
service.setAccessKeyId(process.env.VOLC_ACCESSKEY);
service.setSecretKey(process.env.VOLC_SECRETKEY);
service.Chat({model: {name: "skylark-chat"}, messages: [{role: "user", content: "?"}]})
  .then(answer => console.log(answer.choice.message.content));
"""


def test_node_by_variables_alone(server: RunningServer, takeover: Takeover) -> None:
    toolchains.need("node")
    driver = Path(toolchains.command("node")[-1])
    environ = {"NODE_PATH": str(driver.parent / "node_modules"), **keys(server), **takeover.variables("--node")}

    assert run(["node", "-e", NODE], environ).strip() == "你好，世界"


def test_nothing_else_is_passed_on(server: RunningServer, takeover: Takeover) -> None:
    environ = takeover.variables("--curl")

    done = subprocess.run(
        ["curl", "--silent", "--show-error", "https://www.example.com/"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )

    assert done.returncode != 0
    assert "response 403" in done.stderr
    assert server.backend.requests == []
