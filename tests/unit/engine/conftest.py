"""Generated models, pools over them, and one way to run a chat to its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.chat import ChatReply, ChatRequest, Message, Usage
from arkway.core.embedding import TokenizeRequest
from arkway.core.events import Completeness, Event, Fold, UsageReport
from arkway.core.model import Deployment, Endpoint, ModelCard, ParameterRange
from tests.tools.random_gguf import write_random_gguf

CONTEXT = 2048


class Outcome(msgspec.Struct):
    """Everything one chat gave."""

    reply: ChatReply
    usage: Usage
    events: list[Event]

    @property
    def text(self) -> str:
        return self.reply.choices[0].text


class Bench:
    """A pool over one generated model."""

    def __init__(self, path: Path, settings: EngineSettings, context: int = CONTEXT) -> None:
        card = card_of(path.stem, context)
        self.name = card.served_name
        self.pool = EnginePool({self.name: EngineModel(path, card)}, settings)
        self.deployment = deployment_of(card)

    def stream(self, request: ChatRequest, account: str = "a", key: str = "k") -> AsyncGenerator[Event, None]:
        call = Call("req", account, "p", key)
        return self.pool.chat(self.deployment, request, call)

    async def run(self, request: ChatRequest, account: str = "a", key: str = "k") -> Outcome:
        fold, completeness = Fold(), Completeness()
        events: list[Event] = []
        usage = Usage()
        async with aclosing(self.stream(request, account, key)) as stream:
            async for event in stream:
                events.append(event)
                fold.add(event)
                completeness.add(event)
                usage = event.usage if isinstance(event, UsageReport) else usage
        assert completeness.reached()
        return Outcome(fold.reply(usage, logprobs=request.logprobs), usage, events)

    async def ids(self, text: str) -> tuple[int, ...]:
        return (await self.pool.tokenize(self.deployment, TokenizeRequest("m", (text,)), Call("req")))[0].ids


def card_of(name: str, context: int = CONTEXT) -> ModelCard:
    return ModelCard(
        name=name,
        version="1",
        title="Generated",
        licence="none",
        capabilities=("chat",),
        context_tokens=context,
        max_output_tokens=context,
        default_output_tokens=64,
        parameters=(ParameterRange("temperature", 0, 2, 0.0),),
    )


def deployment_of(card: ModelCard) -> Deployment:
    return Deployment(Endpoint("ep-1", "ep", card.name, "1", "running", "a", "p", 0), card, "engine")


def request(text: str = "hello", **fields: Any) -> ChatRequest:
    return ChatRequest("m", fields.pop("messages", (Message("user", text),)), **fields)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes noise and never stops by itself."""
    return write_random_gguf(tmp_path_factory.mktemp("models") / "noise.gguf", context=CONTEXT)


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise again, slow enough to be interrupted: some 100 tokens a second."""
    return write_random_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", context=8192, width=512, layers=10)


@pytest.fixture
def scripted_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model that answers with the given pieces."""
    return lambda *script: write_random_gguf(tmp_path / "scripted.gguf", script=script, context=CONTEXT)


@pytest.fixture
async def bench() -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    """Makes started benches and ends their engines."""
    made: list[Bench] = []

    async def make(path: Path, context: int = CONTEXT, **settings: Any) -> Bench:
        fields = {"threads": 1, "idle_stop_s": 0.0, **settings}
        made.append(Bench(path, EngineSettings(**fields), context))
        await made[-1].pool.load(made[-1].name)
        return made[-1]

    yield make
    for one in made:
        await one.pool.aclose()
