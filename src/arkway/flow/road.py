"""The road itself: a decoded request of a known caller in, a metered answer out.

The database, the disk (but for the journal's one ``write()``) and the clock's wall are never waited for here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from time import monotonic_ns
from typing import Any, Generic, TypeVar, cast

import msgspec

from arkway.core import roles
from arkway.core.caller import Call, Caller
from arkway.core.chat import ChatRequest, ReplyTag, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, BackendTimeout, CallerError, Refused, UnsupportedModel
from arkway.core.model import Capability, Deployment
from arkway.core.raw import RawRequest
from arkway.flow import admit, leaving, reserve
from arkway.flow.meter import Meter
from arkway.flow.passage import Deadlines, Passage, Receiver
from arkway.flow.patience import Patience
from arkway.flow.pumped import pushing
from arkway.flow.reserve import Reservation, Reserve, Wanted
from arkway.flow.route import Router
from arkway.flow.vigil import TICK_S, Vigil
from arkway.ports import Attempt, Backend, CertRequest, Classifier, Embedder, Ledger, Outcome, Pushing, Tokenizer

log = logging.getLogger("arkway")

S = TypeVar("S")
T = TypeVar("T")


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


class Asked(msgspec.Struct, frozen=True):
    """A chat call that may go ahead as far as its model is concerned: what serves it, and what it wants of limits."""

    origin: Origin
    deployment: Deployment
    request: ChatRequest
    guess: Usage
    wanted: Wanted | None


class ChatCall:
    """One admitted chat call: `run` runs it, `meter` has counted it."""

    __slots__ = ("_backend", "_call", "_deadlines", "_vigil", "deployment", "meter", "request", "tag")

    def __init__(self, asked: Asked, meter: Meter, backend: Pushing, deadlines: Deadlines, vigil: Vigil) -> None:
        self.deployment, self.request, self.meter = asked.deployment, asked.request, meter
        self.tag = asked.origin.tag(asked.deployment)
        self._call = asked.origin.call()
        self._backend, self._deadlines, self._vigil = backend, deadlines, vigil

    def run(self, receiver: Receiver) -> Passage:
        """The backend's answer goes to the receiver, counted; the call is settled before its end gets there.

        What the backend refuses at once raises, and is settled too.
        """
        passage = Passage(self.meter, receiver, self._deadlines, self._vigil)
        with _settled_if_refused(self.meter):
            passage.runs(self._backend.start(self.deployment, self.request, self._call, passage))
        return passage


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
        backends: Mapping[str, Backend | Pushing],
        embedders: Mapping[str, Embedder],
        tokenizers: Mapping[str, Tokenizer],
        classifiers: Mapping[str, Classifier],
        reserve: Reserve,
        deadlines: Deadlines = Deadlines(),  # noqa: B008
        clock_ms: Callable[[], int] = lambda: monotonic_ns() // 1_000_000,
    ) -> None:
        self._router = router
        self._ledger = ledger
        self._backends = {name: pushing(backend) for name, backend in backends.items()}
        self._heeded = {name: heeded for name, each in backends.items() if (heeded := getattr(each, "heeded", None))}
        self._vigil = Vigil(min(TICK_S, deadlines.first_event_s / 4, deadlines.next_event_s / 4, deadlines.total_s / 4))
        self._embedders = embedders
        self._tokenizers = tokenizers
        self._classifiers = classifiers
        self._reserve = reserve
        self._clock_ms = clock_ms
        self.deadlines = deadlines

    def ask_chat(self, origin: Origin, request: ChatRequest) -> Asked:
        """Routes and admits. Raises CallerError."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        request = admit.chat(deployment, request)
        if (heeded := self._heeded.get(deployment.backend)) is not None:
            request = heeded(deployment, request)
        guess = reserve.chat(deployment, request)
        wanted = self._reserve.wanted(origin.caller, deployment, origin.raw.now_ms, guess)
        return Asked(origin, deployment, request, guess, wanted)

    def open_chat_nowait(self, asked: Asked) -> ChatCall | None:
        """Reserves; None where a limit has to be waited for. Raises Refused, StoreUnavailable."""
        held = None
        if asked.wanted is not None and (held := self._reserve.take_nowait(asked.wanted)) is None:
            return None
        return self._chat_call(asked, held)

    async def open_chat(self, asked: Asked) -> ChatCall:
        """As `open_chat_nowait`, having waited."""
        return self._chat_call(asked, await self._reserve.take(asked.wanted) if asked.wanted is not None else None)

    def cut_all(self) -> None:
        """The server stops: every chat call that is still under way ends, and its client is told."""
        for passage in self._vigil.watched():
            try:
                cast(Passage, passage).cut()
            except Exception:
                log.exception("internal error while the server stops")

    def _chat_call(self, asked: Asked, held: Reservation | None) -> ChatCall:
        request, deployment = asked.request, asked.deployment
        backend = self._backends[deployment.backend]
        estimate = request.max_tokens or deployment.card.default_output_tokens
        attempt = asked.origin.attempt(deployment, estimate, request.user)
        meter = Meter(self._ledger, attempt, self._clock_ms, held, asked.guess.prompt_tokens)
        return ChatCall(asked, meter, backend, self.deadlines, self._vigil)

    def deployments(self, caller: Caller) -> tuple[Deployment, ...]:
        roles.require(caller, "models.list")
        return self._router.deployments(caller)

    async def open_embed(self, origin: Origin, request: EmbedRequest) -> Task[EmbedReply]:
        """Routes, admits and reserves. Raises CallerError, StoreUnavailable."""
        deployment = self._deployment(origin, request.asked, request.asked_version)
        service = _offered(self._embedders, deployment, "embeddings", request.asked)
        guess = reserve.texts(request.texts)
        return Task(
            origin,
            deployment,
            await self._meter(origin, deployment, guess, user=request.user),
            service.embed(deployment, request, origin.call()),
            lambda reply: reply.usage if reply.usage.prompt_tokens else guess,
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
        wanted = self._reserve.wanted(origin.caller, deployment, origin.raw.now_ms, guess)
        held = await self._reserve.take(wanted) if wanted is not None else None
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
def _settled_if_refused(meter: Meter) -> Generator[None]:
    try:
        yield
    except ArkwayError as error:
        meter.settle("refused" if isinstance(error, CallerError | Refused) else "upstream_error", error)
        raise
    except BaseException:
        meter.settle("upstream_error")
        raise


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
