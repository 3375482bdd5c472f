"""Upstream servers: real ones, scripted ones, and one way to run a call to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from arkway.backends.upstream.upstream import UpstreamModel, UpstreamServer
from arkway.core.chat import ChatReply, ChatRequest, Usage
from arkway.core.events import Completeness, Event, Fold, UsageReport
from arkway.core.upstream import Credential, Upstream
from tests.tools.llama_server import llama_server
from tests.tools.pulled import pulled
from tests.tools.pushing import CALL, DEPLOYMENT
from tests.tools.random_gguf import write_random_gguf

KEY = "an-upstream-key"
SCRIPT = ("Hello", " wide", " 世界", "!")

MakeServer = Callable[..., UpstreamServer]


@pytest.fixture
async def upstream() -> AsyncIterator[MakeServer]:
    """Makes servers of the class under test, and closes them."""
    made: list[UpstreamServer] = []

    def make(base_url: str, key: str = "", pair: tuple[str, str] = ("", ""), **more: Any) -> UpstreamServer:
        clock = more.pop("clock", None)
        auth = "aksk" if pair[0] else "key" if key else "none"
        settings = Upstream(name="u", base_url=base_url, **{"auth": auth, "first_byte_s": 60.0, **more})
        credential = Credential(key, *pair)
        made.append(UpstreamServer(settings, credential, **({"clock": clock} if clock else {})))
        return made[-1]

    yield make
    for server in made:
        await server.aclose()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's server with a model that says `SCRIPT`."""
    model = write_random_gguf(tmp_path_factory.mktemp("llama") / "says.gguf", script=SCRIPT)
    with llama_server(model, KEY) as url:
        yield url


@pytest.fixture(scope="session")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's server with a model that calls the function ``f``."""
    script = ("<tool_call>\n", '{"name": "f", "arguments": {"a": true}}', "\n</tool_call>")
    model = write_random_gguf(tmp_path_factory.mktemp("llama") / "calls.gguf", script=script)
    with llama_server(model, KEY) as url:
        yield url


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's server with a model that writes noise and never stops."""
    with llama_server(write_random_gguf(tmp_path_factory.mktemp("llama") / "noise.gguf"), KEY) as url:
        yield url


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's server, embedding."""
    model = write_random_gguf(tmp_path_factory.mktemp("llama") / "vectors.gguf")
    with llama_server(model, KEY, embeddings=True) as url:
        yield url


async def run(model: UpstreamModel, request: ChatRequest) -> tuple[ChatReply, list[Event]]:
    """The whole answer, and its events; raises what the call fails with."""
    fold, whole, events, usage = Fold(), Completeness(), list[Event](), Usage(provenance="estimated")
    async with aclosing(pulled(model, DEPLOYMENT, request, CALL)) as stream:
        async for event in stream:
            events.append(event)
            fold.add(event)
            whole.add(event)
            usage = event.usage if isinstance(event, UsageReport) else usage
    assert whole.reached()
    return fold.reply(usage, logprobs=request.logprobs), events
