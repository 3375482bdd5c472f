"""Clients in environments of their own, and servers for them."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from arkway.testing import MemoryLedger, RunningServer, running_server, says
from arkway.wire import json
from tests.sdk import environments
from tests.sdk.scenes import play

PROGRAMS = Path(__file__).parent / "programs"
MAAS_DRIVER = Path(__file__).parent / "python" / "maas_driver.py"
ANSWER_TIMEOUT_S = 60.0
DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONIOENCODING": "utf-8"}
QUESTION = [{"role": "user", "content": "你好"}]


class Driver:
    """A process in a client's own environment that takes questions and gives answers, one JSON line each."""

    def __init__(self, name: str, command: list[str], errors: IO[bytes]) -> None:
        self.name = name
        pipe = subprocess.PIPE
        environ = {**os.environ, **DIRECT}
        self._errors = errors
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, bufsize=0, env=environ)

    def exchange(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + b"\n")
        answer: dict[str, Any] = json.load_object(self._line())
        return answer

    def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        self._process.kill()
        self._process.wait(10)

    def send(self, question: Mapping[str, Any]) -> None:
        """As `exchange`, without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + b"\n")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = b""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._process.stdout.fileno(), 1 << 20) if readable else b""
            if not piece:
                self._errors.seek(0)
                raise AssertionError(f"{self.name} did not answer: {self._errors.read().decode()}")
            line += piece
        return line


class Client(Driver):
    """One SDK of v3 or OpenAI's API (``programs/driver.py``): takes calls, tells what the SDK surfaced."""

    def __init__(self, name: str, errors: IO[bytes]) -> None:
        self.is_ark = name != "openai"
        super().__init__(name, [str(environments.interpreter(name)), str(PROGRAMS / "driver.py"), name], errors)

    def base_url(self, server: RunningServer) -> str:
        return server.url + ("/api/v3" if self.is_ark else "/v1")

    def ask(
        self,
        server: RunningServer,
        operation: str,
        *,
        base_url: str = "",
        model: str = "",
        api_key: str = "",
        extra: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """The driver's answer to one call; chat calls get a question where ``arguments`` have none."""
        if operation.removeprefix("async_").removeprefix("bot_") in ("chat", "stream", "abort", "raw"):
            arguments.setdefault("messages", QUESTION)
        question = {
            "operation": operation,
            "base_url": base_url or self.base_url(server),
            "api_key": api_key or server.api_key,
            "model": model or (server.embedding_endpoint_id if operation == "embeddings" else server.endpoint_id),
            "arguments": arguments,
            **(extra or {}),
        }
        return self.exchange(question)

    def result(self, server: RunningServer, operation: str, **options: Any) -> Any:
        """As `ask`, for calls that are to succeed."""
        answer = self.ask(server, operation, **options)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def error(self, server: RunningServer, operation: str, **options: Any) -> dict[str, Any]:
        """As `ask`, for calls that are to fail."""
        answer = self.ask(server, operation, **options)
        assert "error" in answer, answer["result"]
        error: dict[str, Any] = answer["error"]
        return error

    def error_class(self, name: str) -> str:
        """What this SDK calls the error: ``BadRequestError`` is ``ArkBadRequestError`` in the Ark SDKs."""
        return f"Ark{name}" if self.is_ark else name


class MaasClient(Driver):
    """One SDK of MaaS on one surface (``python/maas_driver.py``), such as ``maas-2024 v1`` or ``langchain chat``."""

    def __init__(self, name: str, errors: IO[bytes]) -> None:
        environment, self.surface = name.split(" ")
        super().__init__(name, [str(environments.interpreter(environment)), str(MAAS_DRIVER)], errors)

    @property
    def path(self) -> str:
        """Where this surface's calls go, but for the operation."""
        return "/api/v2/endpoint/{}/" if self.surface == "v2" else "/api/v1/"

    def question(
        self, server: RunningServer, operation: str, request: Any = None, *, url: str = "", **fields: Any
    ) -> dict[str, Any]:
        """One question to the driver, signed with the server's permanent key pair where ``fields`` say nothing else.

        Requests that name no model are for the server's chat or embedding endpoint.
        """
        asked: Any = {"messages": QUESTION} if request is None else request
        ours = server.embedding_endpoint_id if operation == "embeddings" else server.endpoint_id
        if self.surface == "v1":
            asked = {"model": {"endpoint_id": ours}, **asked}
        return {
            "operation": operation,
            "surface": self.surface,
            "host": (url or server.url).removeprefix("http://"),
            "region": "cn-beijing",
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "endpoint_id": ours,
            "request": asked,
            **fields,
        }

    def ask(self, server: RunningServer, operation: str, request: Any = None, **fields: Any) -> dict[str, Any]:
        """The driver's answer to one call (fields of the driver's ``Ask``)."""
        return self.exchange(self.question(server, operation, request, **fields))

    def result(self, server: RunningServer, operation: str, request: Any = None, **fields: Any) -> Any:
        """As `ask`, for calls that are to succeed."""
        answer = self.ask(server, operation, request, **fields)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def error(self, server: RunningServer, operation: str, request: Any = None, **fields: Any) -> dict[str, Any]:
        """As `ask`, for calls that are to fail; with the HTTP status as ``status``."""
        answer = self.ask(server, operation, request, **fields)
        assert "error" in answer, answer["result"]
        exchanges = answer["exchanges"]
        return {**answer["error"], "status": exchanges[-1]["status"] if exchanges else None}

    def choices(self, reply: Any) -> list[dict[str, Any]]:
        """v1 answers one choice, v2 a list of them."""
        if self.surface == "v1":
            assert "choices" not in reply
            return [reply["choice"]]
        assert "choice" not in reply
        choices: list[dict[str, Any]] = reply["choices"]
        return choices

    def text(self, reply: Any) -> str:
        content: str = self.choices(reply)[0]["message"]["content"]
        return content

    def texts(self, frames: list[Any]) -> list[str]:
        """What each frame adds; fails where one has no message, which the samples of the guides read on every frame."""
        return [self.text(frame) for frame in frames]


@pytest.fixture(scope="session", params=environments.CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client | MaasClient]:
    """Every client in turn; by default those of v3 and OpenAI's API, with `on_maas` those of v1 and v2."""
    errors = tmp_path_factory.mktemp("sdk") / f"{request.param}.stderr"
    with errors.open("w+b") as file:
        running = (MaasClient if " " in request.param else Client)(request.param, file)
        yield running
        running.close()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RunningServer]:
    with running_server(settings={"stream": {"heartbeat_s": 0.3}}, ledger=MemoryLedger()) as running:
        yield running


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """The server, with nothing on its record and a short answer to say."""
    shared_server.backend.requests.clear()
    shared_server.backend.calls.clear()
    play(shared_server, says("你好", "，", "世界"))
    return shared_server


def only(*names: str) -> pytest.MarkDecorator:
    """A test for some of the clients."""
    return pytest.mark.parametrize("client", names, indirect=True, scope="session")


MAAS = tuple(f"{environment} {surface}" for environment in environments.MAAS_CLIENTS for surface in ("v1", "v2"))
on_maas = only(*MAAS)
on_v1 = only(*(name for name in MAAS if name.endswith("v1")))
on_v2 = only(*(name for name in MAAS if name.endswith("v2")))
on_langchain = only("langchain chat", "langchain llm")
