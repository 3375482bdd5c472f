"""The road itself: a decoded request of a known caller in, a metered answer out.

The database, the disk (but for the journal's one ``write()``) and the clock's wall are never waited for here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import aclosing, contextmanager
from time import monotonic_ns
from typing import Any, Generic, TypeVar

import msgspec

from arkway.core import roles
from arkway.core.caller import Call, Caller
from arkway.core.chat import ChatReply, ChatRequest, ReplyTag, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, BackendFailed, BackendTimeout, CallerError, Refused, UnsupportedModel
from arkway.core.events import Completeness, Event, Fold
from arkway.core.model import Capability, Deployment
from arkway.core.raw import RawRequest
from arkway.flow import admit, leaving, reserve
from arkway.flow.meter import Meter
from arkway.flow.patience import Patience
from arkway.flow.reserve import Reserve
from arkway.flow.route import Router
from arkway.ports import Attempt, Backend, CertRequest, Classifier, Embedder, Ledger, Outcome, Tokenizer

S = TypeVar("S")
T = TypeVar("T")


class Deadlines(msgspec.Struct, frozen=True):
    """How long a backend may be silent before its first event, between events, and altogether; seconds."""

    first_event_s: float = 120.0
    next_event_s: float = 60.0
    total_s: float = 1800.0


class Origin(msgspec.Struct, frozen=True):
    """Where a call came in: who, through which dialect and operation, and whether model names are taken there."""

    raw: RawRequest
    caller: Caller
    dialect: str
    operation: str
    names: bool

    def call(self) -> Call:
        return Call(self.raw.request_id, self.caller.account, self.caller.project, self.caller.key_id)

    def attempt(self, deployment: Deployment, estimate_tokens: int = 0, user: str = "") -> Attempt:
        """One attempt's opening entry; the request id is unique, and one attempt is made per request."""
        return Attempt(
            id=self.raw.request_id,
            request_id=self.raw.request_id,
            account=self.caller.account,
            project=self.caller.project,
            key_id=self.caller.key_id,
            endpoint_id=deployment.endpoint.id,
            model=deployment.card.served_name,
            dialect=self.dialect,
            operation=self.operation,
            opened_ms=self.raw.now_ms,
            estimate_tokens=estimate_tokens,
            caller=user,
        )

    def tag(self, deployment: Deployment) -> ReplyTag:
        return ReplyTag(self.raw.request_id, self.raw.now_ms // 1000, deployment.card.served_name)


class ChatCall:
    """One admitted chat call: `events` runs it, `meter` has counted it."""

    def __init__(self, origin: Origin, deployment: Deployment, request: ChatRequest, meter: Meter) -> None:
        self.deployment = deployment
        self.request = request
        self.meter = meter
        self.tag = origin.tag(deployment)
        self._call = origin.call()

    async def events(self, backend: Backend, deadlines: Deadlines) -> AsyncGenerator[Event, None]:
        """The backend's events, counted; the ledger is settled before the iteration ends, however it ends."""
        whole = Completeness()
        limit_s = deadlines.first_event_s
        # Settled first, closed after: however long the backend takes to let go, the record is written by then.
        async with aclosing(backend.chat(self.deployment, self.request, self._call)) as source:
            with _settled(self.meter), _patience(deadlines.total_s) as patience:
                while (event := await patience.wait(anext(source, None), limit_s)) is not None:
                    limit_s = deadlines.next_event_s
                    self.meter.observe(event)
                    whole.add(event)
                    yield event
                if not whole.reached():
                    raise BackendFailed("the model's answer broke off before its end")

    async def reply(self, backend: Backend, deadlines: Deadlines) -> ChatReply:
        """The whole answer."""
        fold = Fold()
        async with aclosing(self.events(backend, deadlines)) as events:
            async for event in events:
                fold.add(event)
        return fold.reply(self.meter.usage(), logprobs=self.request.logprobs)


class Task(Generic[T]):
    """One admitted call that has no events: `result` runs it, and has settled it when it returns."""

    def __init__(
        self,
        origin: Origin,
        deployment: Deployment,
        meter: Meter,
        work: Coroutine[Any, Any, T],
        cost: Callable[[T], Usage],
    ) -> None:
        self.deployment = deployment
        self.meter = meter
        self.tag = origin.tag(deployment)
        self._work = work
        self._cost = cost

    async def result(self, limit_s: float) -> T:
        with _settled(self.meter), _patience(limit_s) as patience:
            result = await patience.wait(self._work, limit_s)
            self.meter.report(self._cost(result))
        return result


class Road:
    """Takes calls from decoded request to metered answer."""

    def __init__(
        self,
        router: Router,
        ledger: Ledger,
        backends: Mapping[str, Backend],
        embedders: Mapping[str, Embedder],
        tokenizers: Mapping[str, Tokenizer],
        classifiers: Mapping[str, Classifier],
        reserve: Reserve,
        deadlines: Deadlines = Deadlines(),  # noqa: B008
        clock_ms: Callable[[], int] = lambda: monotonic_ns() // 1_000_000,
    ) -> None:
        self._router = router
        self._ledger = ledger
        self._backends = backends
        self._embedders = embedders
        self._tokenizers = tokenizers
        self._classifiers = classifiers
        self._reserve = reserve
        self._clock_ms = clock_ms
        self.deadlines = deadlines

    async def open_chat(self, origin: Origin, request: ChatRequest) -> ChatCall:
        """Routes, admits and reserves. Raises CallerError, Refused, StoreUnavailable."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        request = admit.chat(deployment, request)
        estimate = request.max_tokens or deployment.card.default_output_tokens
        guess = reserve.chat(deployment, request)
        return ChatCall(
            origin, deployment, request, await self._meter(origin, deployment, guess, estimate, request.user)
        )

    def events(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        return call.events(self._backends[call.deployment.backend], self.deadlines)

    async def reply(self, call: ChatCall) -> ChatReply:
        return await call.reply(self._backends[call.deployment.backend], self.deadlines)

    def deployments(self, caller: Caller) -> tuple[Deployment, ...]:
        roles.require(caller, "models.list")
        return self._router.deployments(caller)

    async def open_embed(self, origin: Origin, request: EmbedRequest) -> Task[EmbedReply]:
        """Routes, admits and reserves. Raises CallerError, StoreUnavailable."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        service = _offered(self._embedders, deployment, "embeddings", request.asked)
        return Task(
            origin,
            deployment,
            await self._meter(origin, deployment, reserve.texts(request.texts), user=request.user),
            service.embed(deployment, request, origin.call()),
            lambda reply: reply.usage,
        )

    async def open_tokenize(self, origin: Origin, request: TokenizeRequest) -> Task[tuple[Tokenized, ...]]:
        """As `open_embed`. Tokenization costs nothing, but is on record."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        service = _offered(self._tokenizers, deployment, "tokenization", request.asked)
        return Task(
            origin,
            deployment,
            await self._meter(origin, deployment, Usage()),
            service.tokenize(deployment, request, origin.call()),
            lambda _: Usage(provenance="counted"),
        )

    async def open_classify(self, origin: Origin, request: ClassifyRequest) -> Task[ClassifyReply]:
        """As `open_embed`."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        service = _offered(self._classifiers, deployment, "chat", request.asked, "classification")
        return Task(
            origin,
            deployment,
            await self._meter(origin, deployment, reserve.texts((request.query, *request.labels))),
            service.classify(deployment, request, origin.call()),
            lambda reply: reply.usage,
        )

    def certified(self, origin: Origin, request: CertRequest) -> Deployment:
        """Whose certificate is asked for. Raises CallerError."""
        return self._deployment(origin, request.asked, request.asked_version)

    def _deployment(self, origin: Origin, asked: str, version: str) -> Deployment:
        # Before anything is looked up: whose role it is not learns nothing of what is there.
        roles.require(origin.caller, "models.call")
        return self._router.deployment(origin.caller, asked, names=origin.names, version=version)

    async def result(self, task: Task[T]) -> T:
        return await task.result(self.deadlines.first_event_s)

    async def _meter(
        self, origin: Origin, deployment: Deployment, guess: Usage, estimate_tokens: int = 0, user: str = ""
    ) -> Meter:
        """What is refused by a limit leaves no entry in the ledger; from here on nothing is waited for."""
        held = await self._reserve.take(origin.caller, deployment, origin.raw.now_ms, guess)
        return Meter(self._ledger, origin.attempt(deployment, estimate_tokens, user), self._clock_ms, held)


def _offered(
    services: Mapping[str, S], deployment: Deployment, capability: Capability, asked: str, operation: str = ""
) -> S:
    """What performs the operation for this deployment. Raises UnsupportedModel when nothing does."""
    admit.capable(deployment, capability, asked, operation)
    service = services.get(deployment.backend)
    if service is None:
        raise UnsupportedModel(asked, operation or capability)
    return service


@contextmanager
def _settled(meter: Meter) -> Generator[None]:
    """Settles the meter when the block ends: done, failed, cut by the server's stop, or left by the client.

    A stop becomes an error here, so that the client is told: its stream must not look complete.
    """
    outcome: Outcome = "client_abort"
    failure: ArkwayError | None = None
    try:
        yield
        outcome = "done"
    except ArkwayError as error:
        failure = error
        outcome = "refused" if isinstance(error, CallerError | Refused) else "upstream_error"
        raise
    except asyncio.CancelledError:
        if not leaving.cut():
            raise
        failure = leaving.stopping()
        raise failure from None
    except Exception:
        outcome = "upstream_error"
        raise
    finally:
        meter.settle("interrupted" if outcome != "done" and leaving.cut() else outcome, failure)


@contextmanager
def _patience(total_s: float) -> Generator[Patience]:
    """Deadlines for a backend's steps. Raises BackendTimeout in place of TimeoutError."""
    patience = Patience(total_s)
    try:
        yield patience
    except TimeoutError:
        raise BackendTimeout("the model did not answer in time") from None
    finally:
        patience.close()
