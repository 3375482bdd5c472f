"""Clients of other languages: a program of `tests.sdk.toolchains` that holds one SDK, on one surface."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arkway.testing import RunningServer
from tests.sdk import toolchains
from tests.sdk.conftest import QUESTION, Driver

QUOTED = '引号" 反斜杠\\ 换行\n制表\t尖括号<b>&</b>'
EMOJI = "家庭👨‍👩‍👧‍👦 旗帜🇨🇳 𠮷野家 e\u0301 \u2028"


class ForeignClient:
    """One SDK on one surface, named ``<program> <surface>``, such as ``go-maas v1``."""

    def __init__(self, name: str, driver: Driver) -> None:
        self.name = name
        self.program, self.surface = name.split(" ")
        self.driver = driver

    def ask(self, server: RunningServer, operation: str, *, url: str = "", **options: Any) -> dict[str, Any]:
        """The program's answer to one call.

        The options are those of `question`.
        """
        return self.driver.exchange(self.question(server, operation, url=url, **options))

    def question(self, server: RunningServer, operation: str, *, url: str = "", **options: Any) -> dict[str, Any]:
        """One call, as the program is told of it.

        ``url`` goes instead of the server's; options that name a field of the question (``access_key_id``,
        ``secret_access_key``, ``session_token``, ``api_key``, ``endpoint_id``) fill it, the others are the call's
        arguments. v1 and v2 sign with the server's permanent key pair, v3 sends its API key.
        """
        scheme, _, host = (url or server.url).partition("://")
        embeds = operation == "embeddings"
        fields = {
            "operation": f"{self.surface} {operation}",
            "scheme": scheme,
            "host": host,
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "session_token": "",
            "api_key": server.api_key if self.surface == "v3" else "",
            "endpoint_id": server.embedding_endpoint_id if embeds else server.endpoint_id,
        }
        fields.update({field: options.pop(field) for field in list(options) if field in fields})
        return {**fields, "arguments": self._arguments(fields["endpoint_id"], operation, options)}

    def result(self, server: RunningServer, operation: str, **options: Any) -> Any:
        """As `ask`, for calls that are to succeed."""
        answer = self.ask(server, operation, **options)
        assert answer.get("error") is None, answer["error"]
        return answer["result"]

    def error(self, server: RunningServer, operation: str, **options: Any) -> dict[str, Any]:
        """As `ask`, for calls that are to fail."""
        answer = self.ask(server, operation, **options)
        assert answer.get("error") is not None, answer["result"]
        error: dict[str, Any] = answer["error"]
        return error

    def choice(self, reply: dict[str, Any]) -> dict[str, Any]:
        """The one choice of an answer or of a chunk: v1 has an object, v2 and v3 have a list."""
        choice: dict[str, Any] = reply["choice"] if self.surface == "v1" else reply["choices"][0]
        return choice

    def text(self, reply: dict[str, Any]) -> str:
        """What an answer or a chunk says; Go's types leave empty content out."""
        choice = self.choice(reply)
        message = choice["delta"] if "delta" in choice else choice["message"]
        return message.get("content") or ""

    def texts(self, chunks: list[dict[str, Any]]) -> list[str]:
        """What the chunks say that say something; each chunk of v1 and v2 has a message, empty or not."""
        return [text for text in map(self.text, chunks) if text]

    def _arguments(self, endpoint_id: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        model: dict[str, Any] = {}
        if self.surface == "v1":
            model = {"model": {"endpoint_id": endpoint_id}}
        elif self.surface == "v3":
            model = {"model": endpoint_id}
        messages = {"messages": QUESTION} if operation.split("_")[-1] in ("chat", "stream", "abort") else {}
        return {**model, **messages, **arguments}


@contextmanager
def running(name: str, folder: Path) -> Generator[ForeignClient]:
    """A client in a process of its own; skips where its language is missing."""
    program = name.split(" ")[0]
    toolchains.need(toolchains.PROGRAMS[program].language)
    with (folder / f"{program}.stderr").open("w+b") as errors:
        driver = Driver(name, toolchains.command(program), errors)
        yield ForeignClient(name, driver)
        driver.close()


def clients(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """What a ``client`` fixture yields from, for its parameter."""
    with running(request.param, factory.mktemp("sdk")) as client:
        yield client


def counts(usage: dict[str, Any]) -> tuple[int, int, int]:
    """Prompt, completion and total tokens."""
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]
