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
ANSWER_TIMEOUT_S = 60.0
DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONIOENCODING": "utf-8"}
QUESTION = [{"role": "user", "content": "你好"}]


class Client:
    """One SDK in a process of its own (``programs/driver.py``): takes calls, tells what the SDK surfaced."""

    def __init__(self, name: str, errors: IO[bytes]) -> None:
        self.name = name
        self.is_ark = name != "openai"
        command = [str(environments.interpreter(name)), str(PROGRAMS / "driver.py"), name]
        pipe = subprocess.PIPE
        environ = {**os.environ, **DIRECT}
        self._errors = errors
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, bufsize=0, env=environ)

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
        if operation.removeprefix("async_") in ("chat", "stream", "abort", "raw"):
            arguments.setdefault("messages", QUESTION)
        question = {
            "operation": operation,
            "base_url": base_url or self.base_url(server),
            "api_key": api_key or server.api_key,
            "model": model or (server.embedding_endpoint_id if operation == "embeddings" else server.endpoint_id),
            "arguments": arguments,
            **(extra or {}),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + b"\n")
        answer: dict[str, Any] = json.load_object(self._line())
        return answer

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


@pytest.fixture(scope="session", params=environments.CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Every client in turn."""
    errors = tmp_path_factory.mktemp("sdk") / f"{request.param}.stderr"
    with errors.open("w+b") as file:
        running = Client(request.param, file)
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
