"""Knowledge tied together: the store, who takes documents in, what makes vectors, and what bots search."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from arkway.admin.endpoints import Endpoints
from arkway.config import Settings
from arkway.core.audit import Actor
from arkway.core.caller import Call
from arkway.core.chat import Usage
from arkway.core.embedding import EmbedRequest
from arkway.core.errors import (
    ArkwayError,
    BackendUnavailable,
    EndpointNotFound,
    EndpointStopped,
    InvalidField,
    StoreUnavailable,
    UnsupportedModel,
)
from arkway.core.ids import REQUEST_ID_ENTROPY_BYTES, request_id
from arkway.core.knowledge import Collection, Hit
from arkway.core.model import Deployment, Endpoint
from arkway.flow.route import FindModel
from arkway.knowledge.embedding import Embedding
from arkway.knowledge.holdings import Asking, Backing, CheckEndpoint, Holdings
from arkway.knowledge.ingestion import Ingestion, Work
from arkway.knowledge.opening import knowledge_path, open_knowledge
from arkway.knowledge.plugin import KnowledgePlugin
from arkway.knowledge.searching import Searching
from arkway.ports import Attempt, Embedder, Ledger, Outcome, Settlement
from arkway.ports.lookup import KnowledgeStore
from arkway.stores.audit import AuditTable
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable

if TYPE_CHECKING:
    import aiohttp

ASKED_MAX_S = 30.0
RERANK_ANSWER_MAX_BYTES = 4 * 1024 * 1024
DIALECT = "knowledge"
"""In the ledger, where calls have the API they came by."""

BUSY_S = 5.0

FindEndpoint = Callable[[str], Endpoint | None]


def knowledge_of(settings: Settings) -> KnowledgeStore:
    """The collections of an installation, opened. Raises Misconfigured, StoreUnavailable."""
    if not settings.database.url:
        return open_knowledge(settings.home)
    from arkway.stores.postgres_link import Link  # psycopg is an extra

    return open_knowledge(settings.home, Link(settings.database.url, busy_s=BUSY_S).connect)


class Opened:
    """The store, opened when it is first needed and then kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._turn = settings, threading.Lock()
        self._store: KnowledgeStore | None = None
        self._closed = False

    def __call__(self) -> KnowledgeStore:
        """Waits for the database. Raises Misconfigured, StoreUnavailable."""
        with self._turn:
            if self._closed:
                raise StoreUnavailable("the knowledge is closed: the server is shutting down")
            if self._store is None:
                self._store = knowledge_of(self._settings)
            return self._store

    @property
    def is_used(self) -> bool:
        """Whether there can be anything in it: nobody's data directory gets a database for nothing."""
        settings = self._settings
        return self._store is not None or bool(settings.database.url) or knowledge_path(settings.home).exists()

    def close(self) -> None:
        with self._turn:
            self._closed = True
            if self._store is not None:
                self._store.close()


class Knowledge:
    """The knowledge of a running server; ``begin`` and ``aclose`` are for its event loop.

    ``ledger`` has every call of an embedding model on record. ``works``: whether this process takes documents in.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        find_endpoint: FindEndpoint,
        find_model: FindModel,
        embedders: Mapping[str, Embedder],
        ledger: Ledger,
        *,
        works: bool = True,
    ) -> None:
        self.store = Opened(settings)
        self._settings, self._works = settings, works and settings.knowledge.ingest
        self._vectors = EndpointVectors(find_endpoint, find_model, embedders, ledger)
        self._reranking = reranking(settings)
        self._searching = Searching(self.store, self._vectors, self._reranking.rerank if self._reranking else None)
        self._ingestion = Ingestion(self.store, self._vectors, work_of(settings))
        self._backing = Backing(
            self.store,
            self._ask,
            endpoints_checked(store, find_model),
            AuditTable(store).append,
            self._submitted,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def holdings(self, account: str, project: str, actor: Actor) -> Holdings:
        """The commands on the collections of one project; not for the event loop."""
        return Holdings(self._backing, account, project, actor)

    def has_collection(self, account: str, project: str, name: str) -> bool:
        """Not for the event loop."""
        return self.store.is_used and self.store().collection(account, project, name) is not None

    def plugin(self) -> KnowledgePlugin:
        """What bots search with."""
        return KnowledgePlugin(self.store, self._searching, self._settings.knowledge.coverage)

    def begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._works:
            self._task = asyncio.create_task(self._work())

    async def aclose(self) -> None:
        """A job that is under way goes back to those that wait."""
        self._loop = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reranking is not None:
            await self._reranking.aclose()
        await asyncio.to_thread(self.store.close)

    async def _work(self) -> None:
        while not self.store.is_used:  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(self._ingestion.work.poll_s)
        await self._ingestion.run()

    def _submitted(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._ingestion.wake)

    def _ask(self, collections: Sequence[Collection], query: str, limit: int) -> list[Hit]:
        if self._loop is None:
            raise StoreUnavailable("the server is starting or shutting down; try again in a moment")
        asked = asyncio.run_coroutine_threadsafe(self._searching.search(collections, query, limit), self._loop)
        try:
            return asked.result(ASKED_MAX_S)
        except TimeoutError:
            asked.cancel()
            raise BackendUnavailable(f"the search took longer than {ASKED_MAX_S:g} seconds") from None


def work_of(settings: Settings) -> Work:
    """How workers work under these settings."""
    section = settings.knowledge
    return Work(chunk_chars=section.chunk_chars, vector_weight=section.vector_weight)


def alone(store: Callable[[], KnowledgeStore], admin: Store) -> Backing:
    """For the command line: without a server, and by words alone."""

    def ask(collections: Sequence[Collection], query: str, limit: int) -> list[Hit]:
        return asyncio.run(Searching(store).search(collections, query, limit))

    asking: Asking = ask
    return Backing(store, asking, endpoints_checked(admin, None), AuditTable(admin).append)


def endpoints_checked(store: Store, find_model: FindModel | None) -> CheckEndpoint:
    """``find_model`` None = which models there are is not known here."""

    def check(account: str, project: str, endpoint_id: str) -> None:
        try:
            endpoint = Endpoints(EndpointTable(store), account, project).show(endpoint_id)
        except EndpointNotFound:
            raise InvalidField(
                f"the project `{project}` has no endpoint `{endpoint_id[:128]}`; `arkway endpoints list` shows all of "
                "them",
                "endpoint_id",
            ) from None
        found = find_model(endpoint.model_name, endpoint.model_version) if find_model else None
        if found is not None and "embeddings" not in found[0].capabilities:
            raise InvalidField(
                f"the model `{endpoint.model_name}` behind `{endpoint_id[:128]}` makes no vectors; name an endpoint of "
                "an embedding model, such as use-multilingual",
                "endpoint_id",
            )

    return check


class EndpointVectors:
    """Implements `arkway.knowledge.embedding.Embeddings`: a collection's endpoint as it is at the moment."""

    def __init__(
        self, find_endpoint: FindEndpoint, find_model: FindModel, embedders: Mapping[str, Embedder], ledger: Ledger
    ) -> None:
        self._find_endpoint, self._find_model = find_endpoint, find_model
        self._embedders, self._ledger = embedders, ledger

    def __call__(self, collection: Collection) -> Embedding:
        """Raises EndpointNotFound, EndpointStopped, BackendUnavailable, UnsupportedModel."""
        endpoint = self._find_endpoint(collection.endpoint_id)
        place = collection.account, collection.project
        if endpoint is None or (endpoint.account, endpoint.project) != place:
            raise EndpointNotFound(collection.endpoint_id)
        if endpoint.status == "stopped":
            raise EndpointStopped(endpoint.id)
        found = self._find_model(endpoint.model_name, endpoint.model_version)
        if found is None:
            raise BackendUnavailable(f"the model behind `{endpoint.id}` is not installed")
        deployment = Deployment(endpoint, *found)
        embedder = self._embedders.get(deployment.backend)
        if embedder is None or "embeddings" not in deployment.card.capabilities:
            raise UnsupportedModel(deployment.card.name, "embeddings")
        return Embedding(deployment.card.served_name, partial(self._embed, deployment, embedder))

    async def _embed(self, deployment: Deployment, embedder: Embedder, texts: Sequence[str]) -> list[list[float]]:
        endpoint, opened_ms = deployment.endpoint, _now_ms()
        name = request_id(opened_ms, secrets.token_bytes(REQUEST_ID_ENTROPY_BYTES))
        self._ledger.reserve(_attempt(deployment, name, opened_ms))
        outcome: Outcome = "interrupted"
        usage, error = Usage(), ""
        try:
            call = Call(name, endpoint.account, endpoint.project)
            reply = await embedder.embed(deployment, EmbedRequest(endpoint.id, tuple(texts)), call)
            outcome, usage = "done", reply.usage
            return [array("f", vector).tolist() for vector in reply.vectors]
        except ArkwayError as failure:
            outcome, error = "upstream_error", type(failure).__name__
            raise
        finally:
            closed_ms = _now_ms()
            self._ledger.settle(
                name, Settlement(outcome, usage, closed_ms, duration_ms=closed_ms - opened_ms, error=error)
            )


def _attempt(deployment: Deployment, name: str, opened_ms: int) -> Attempt:
    endpoint = deployment.endpoint
    return Attempt(
        id=name,
        request_id=name,
        account=endpoint.account,
        project=endpoint.project,
        key_id="",
        endpoint_id=endpoint.id,
        model=deployment.card.served_name,
        dialect=DIALECT,
        operation="embeddings",
        opened_ms=opened_ms,
    )


class Reranking:
    """The server of ``[knowledge] rerank_url``. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._section = settings.knowledge
        self._session: aiohttp.ClientSession | None = None

    async def rerank(self, query: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Implements `arkway.knowledge.searching.Rerank`."""
        from arkway.knowledge.reranking import reranked

        section = self._section
        return await reranked(
            self._post,
            query,
            hits,
            model=section.rerank_model,
            shape=section.rerank_shape,
            deadline_s=section.rerank_deadline_s,
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> bytes:
        """Raises BackendUnavailable."""
        import aiohttp

        session = self._session = self._session or aiohttp.ClientSession(trust_env=False)
        headers = {"content-type": "application/json"}
        if self._section.rerank_key:
            headers["authorization"] = f"Bearer {self._section.rerank_key}"
        try:
            asked = session.post(self._section.rerank_url, data=body, headers=headers, allow_redirects=False)
            async with asked as answer:
                if answer.status != 200:
                    raise BackendUnavailable(f"it answered with the status {answer.status}")
                return await _whole(answer)
        except aiohttp.ClientError as error:
            raise BackendUnavailable(f"it cannot be reached ({type(error).__name__})") from error


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > RERANK_ANSWER_MAX_BYTES:
            raise BackendUnavailable("its answer is too long")
    return bytes(body)


def reranking(settings: Settings) -> Reranking | None:
    return Reranking(settings) if settings.knowledge.rerank_url else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
