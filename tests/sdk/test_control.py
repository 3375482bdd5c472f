"""The control plane's own clients, and the Ark SDKs in AK/SK mode, against ours: nothing in them changed."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context
from arkway.testing import CHAT_CARD, ENDPOINT_ID, RunningServer, running_server, says
from arkway.wire import json
from tests.sdk import environments, toolchains
from tests.sdk.cells import cell
from tests.sdk.conftest import PROGRAMS, QUESTION, Driver

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

# client -> environment or program, module that has `Ark`
PYTHON = {
    "ark": "volcenginesdkarkruntime",
    "ark-2024": "volcenginesdkarkruntime",
    "arkruntime": "arkruntime",
}
FOREIGN = ("go-ark", "java-control")
# Of 2024, one action; and only over TLS.
WHOLE = ("ark", "arkruntime", *FOREIGN)
KEYED = ("ark", "ark-2024", "arkruntime", "go-ark")
SECOND = msgspec.structs.replace(CHAT_CARD, version="2")
SHORTEST_S = 660


class Caller(Driver):
    """One client: it is told where the server is, and makes one call."""

    def __init__(self, name: str, errors: Any, ca: Path) -> None:
        self.tls = name == "ark-2024"
        self._ca = str(ca)
        self._foreign = name in FOREIGN
        if self._foreign:
            toolchains.need(toolchains.PROGRAMS[name].language)
            command = toolchains.command(name)
        else:
            command = [str(environments.interpreter(name)), str(PROGRAMS / "control.py"), PYTHON[name]]
        super().__init__(name, command, errors)

    def ask(self, server: RunningServer, operation: str, **arguments: Any) -> dict[str, Any]:
        """The client's answer to one call with the server's permanent pair."""
        return self.exchange(
            {
                "operation": operation,
                "scheme": "http",
                "host": self._host(server),
                "ca": self._ca if self.tls else "",
                "base_url": server.url + "/api/v3",
                "access_key_id": server.access_key_id,
                "secret_access_key": server.secret_access_key,
                "session_token": "",
                "arguments": arguments,
            }
        )

    def result(self, server: RunningServer, operation: str, **arguments: Any) -> Any:
        answer = self.ask(server, operation, **arguments)
        assert answer.get("error") is None, answer["error"]
        return answer["result"]

    def error(self, server: RunningServer, operation: str, **arguments: Any) -> dict[str, Any]:
        answer = self.ask(server, operation, **arguments)
        assert answer.get("error") is not None, answer["result"]
        error: dict[str, Any] = answer["error"]
        if body := error.get("body"):
            error["code"] = json.loads(body.encode())["ResponseMetadata"]["Error"]["Code"]
        return error

    def _host(self, server: RunningServer) -> str:
        if self.tls:
            return server.https_url.removeprefix("https://")
        return server.url.removeprefix("http://") if self._foreign else server.url


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home = tmp_path_factory.mktemp("data")
    initialise(home, [], int(time.time()))
    return files(home)


@contextmanager
def serving(place: Files, **settings: Any) -> Generator[RunningServer]:
    tls = server_context(place.server, place.server_key)
    with running_server(says("你好", "，", "世界"), tls=tls, cards=[SECOND], settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def server(place: Files) -> Iterator[RunningServer]:
    with serving(place) as running:
        yield running


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest, place: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with (tmp_path_factory.mktemp("sdk") / "stderr").open("w+b") as errors:
        running = Caller(request.param, errors, place.ca)
        yield running
        running.close()


def clients(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", names, indirect=True, scope="module")


def snake(fields: dict[str, Any], name: str) -> Any:
    """A field of a result by its name on the wire; Java's objects spell it with a small letter, Python's as it is."""
    return fields[name] if name in fields else fields[name[0].lower() + name[1:]]


@clients(*WHOLE)
@cell("control plane")
def test_the_life_of_an_endpoint(client: Caller, server: RunningServer) -> None:
    made = client.result(
        server,
        "control CreateEndpoint",
        Name="订单",
        Description="for orders",
        ModelReference={"FoundationModel": {"Name": "scripted-chat", "ModelVersion": "2"}},
        RateLimit={"Rpm": 60, "Tpm": 10000},
        Tags=[{"Key": "team", "Value": client.name}],
        ProjectName="default",
    )
    endpoint_id = snake(made, "Id")

    shown = client.result(server, "control GetEndpoint", Id=endpoint_id)
    assert snake(shown, "Name") == "订单"
    assert snake(shown, "Status") == "Running"
    assert snake(snake(shown, "RateLimit"), "Tpm") == 10000
    model = snake(snake(shown, "ModelReference"), "FoundationModel")
    assert (snake(model, "Name"), snake(model, "ModelVersion")) == ("scripted-chat", "2")

    found = client.result(
        server,
        "control ListEndpoints",
        Filter={"Statuses": ["Running"], "ModelVersions": ["2"]},
        TagFilters=[{"Key": "team", "Values": [client.name]}],
        PageNumber=1,
        PageSize=10,
        SortBy="CreateTime",
        SortOrder="Desc",
    )
    assert snake(found, "TotalCount") == 1
    (item,) = snake(found, "Items")
    assert snake(item, "Id") == endpoint_id
    assert snake(snake(item, "Tags")[0], "Value") == client.name

    client.result(server, "control StopEndpoint", Id=endpoint_id)
    assert snake(client.result(server, "control GetEndpoint", Id=endpoint_id), "Status") == "Stopped"
    client.result(server, "control DeleteEndpoint", Id=endpoint_id)
    error = client.error(server, "control GetEndpoint", Id=endpoint_id)
    assert (error["status"], error["code"]) == (404, "ResourceNotFound")


@clients(*WHOLE, "ark-2024")
@cell("control plane")
def test_a_temporary_key(client: Caller, server: RunningServer) -> None:
    before_s = int(time.time())

    given = client.result(
        server, "control GetApiKey", DurationSeconds=21600, ResourceType="endpoint", ResourceIds=[ENDPOINT_ID]
    )

    assert snake(given, "ApiKey").startswith("ark-t")
    assert before_s + 21600 <= snake(given, "ExpiredTime") <= time.time() + 21600


@clients(*WHOLE)
@cell("control plane")
def test_errors_surface_as_errors(client: Caller, server: RunningServer) -> None:
    unsupported = client.error(server, "control CreateEvaluationJob", Name="x", EndpointId=ENDPOINT_ID)
    assert (unsupported["status"], unsupported["code"]) == (400, "UnsupportedOperation")
    missing = client.error(server, "control CreateEndpoint", Name="no model")
    assert (missing["status"], missing["code"]) == (400, "MissingParameter")


@clients(*WHOLE)
def test_a_wrong_secret(client: Caller, server: RunningServer) -> None:
    wrong = server.secret_access_key[:-4] + "AA=="
    server.secret_access_key, right = wrong, server.secret_access_key
    try:
        error = client.error(server, "control GetEndpoint", Id=ENDPOINT_ID)
    finally:
        server.secret_access_key = right
    assert (error["status"], error["code"]) == (401, "SignatureDoesNotMatch")


@clients(*KEYED)
@cell("AK/SK mode")
def test_the_access_key_pair_is_all_a_caller_has(client: Caller, server: RunningServer) -> None:
    server.audit.clear()

    for _ in range(3):
        reply = client.result(server, "aksk chat", model=ENDPOINT_ID, messages=QUESTION)
        assert reply["choices"][0]["message"]["content"] == "你好，世界"

    # A key of a week is asked for once.
    (entry,) = server.audit
    assert (entry.action, entry.target) == ("endpoints.get_api_key", ENDPOINT_ID)
    assert entry.actor.name == server.access_key_id


@clients("ark", "ark-2024", "arkruntime")
@cell("AK/SK mode")
def test_streams_too(client: Caller, server: RunningServer) -> None:
    chunks = client.result(server, "aksk stream", model=ENDPOINT_ID, messages=QUESTION)
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks if chunk["choices"]]
    assert "".join(text or "" for text in texts) == "你好，世界"


@clients("ark", "arkruntime", "go-ark")
@cell("AK/SK mode")
def test_a_model_by_its_name(client: Caller, place: Files) -> None:
    with serving(place, surface={"v3_model_names": True}) as server:
        # For a model by its name the SDKs want to know the project.
        project = {} if client.name in FOREIGN else {"extra_headers": {"X-Project-Name": "default"}}
        reply = client.result(server, "aksk chat", model=CHAT_CARD.name, messages=QUESTION, **project)

        assert reply["choices"][0]["message"]["content"] == "你好，世界"
        assert server.audit[-1].detail["type"] == "presetendpoint"


@clients(*KEYED)
@cell("key refresh")
def test_a_key_is_renewed_in_time_and_no_call_fails(client: Caller, place: Files) -> None:
    """660 seconds are less than any SDK likes to have left, so that each looks for a new key at once."""
    with serving(place, control={"api_key_max_s": SHORTEST_S}) as server:
        for _ in range(4):
            reply = client.result(server, "aksk chat", model=ENDPOINT_ID, messages=QUESTION)
            assert reply["choices"][0]["message"]["content"] == "你好，世界"
            time.sleep(1.1)

        given = [entry for entry in server.audit if entry.action == "endpoints.get_api_key"]
        assert len(given) >= 2
        assert len({entry.detail["expires_at"] for entry in given}) >= 2
