from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from arkway.backends.embedding import UseEmbedder
from arkway.core.caller import Call
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.ports import Embedder, Tokenizer


class Client:
    """Asks an embedder as flow does, and reads the octets as numbers."""

    def __init__(self, embedder: UseEmbedder) -> None:
        self.embedder = embedder
        self._embed: Embedder = embedder
        self._tokenize: Tokenizer = embedder
        card = ModelCard("use-multilingual", "v3", "", "Apache-2.0", ("embeddings", "tokenization"), 0, dimensions=512)
        endpoint = Endpoint("ep-1", "", card.name, "", "running", "acme", "default", 0)
        self._deployment = Deployment(endpoint, card, "use")

    async def reply(self, *texts: str, caller: str = "a", dimensions: int | None = None) -> EmbedReply:
        request = EmbedRequest("ep-1", texts, dimensions=dimensions)
        return await self._embed.embed(self._deployment, request, Call("r", key_id=caller))

    async def vectors(self, *texts: str, caller: str = "a") -> list[tuple[float, ...]]:
        return [struct.unpack("<512f", octets) for octets in (await self.reply(*texts, caller=caller)).vectors]

    async def tokenized(self, *texts: str) -> tuple[Tokenized, ...]:
        return await self._tokenize.tokenize(self._deployment, TokenizeRequest("ep-1", texts), Call("r"))

    @property
    def pid(self) -> int:
        pid = self.embedder.status().pid
        assert pid is not None
        return pid


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """One running child for all tests of a module."""
    embedder = UseEmbedder()
    yield Client(embedder)
    await embedder.aclose()


@pytest.fixture
async def launch() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Starts embedders with settings of one's own; all are closed in the end."""
    started: list[UseEmbedder] = []

    async def start(
        *, idle_stop_s: float = 600.0, queue_limit: int = 64, wait_limit_s: float = 30.0, ready: bool = True
    ) -> Client:
        embedder = UseEmbedder(idle_stop_s=idle_stop_s, queue_limit=queue_limit, wait_limit_s=wait_limit_s)
        started.append(embedder)
        if ready:
            await embedder.start()
        return Client(embedder)

    yield start
    for embedder in started:
        await embedder.aclose()
