"""The road itself: a decoded request of a known caller in, a metered answer out.

The database, the disk (but for the journal's one ``write()``) and the clock's wall are never waited for here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from time import monotonic, monotonic_ns
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
from arkway.core.transient import Transient
from arkway.flow import admit, leaving, reserve
from arkway.flow.meter import Meter
from arkway.flow.passage import Deadlines, Passage, Receiver
from arkway.flow.patience import Patience
from arkway.flow.pumped import pushing
from arkway.flow.reserve import Reservation, Reserve
from arkway.flow.route import Clearance, Router
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
        caller = self.caller
        return Call(self.raw.request_id, caller.account, caller.project, caller.key_id)

    def attempt(self, clearance: Clearance, estimate_tokens: int = 0, user: str = "") -> Attempt:
        """One attempt's opening entry; the request id is unique, and one attempt is made per request."""
        raw, caller = self.raw, self.caller
        return Attempt(
            raw.request_id,
            raw.request_id,
            caller.account,
            caller.project,
            caller.key_id,
            clearance.deployment.endpoint.id,
            clearance.model,
            self.dialect,
            self.operation,
            raw.now_ms,
            estimate_tokens,
            user,
        )

    def tag(self, model: str) -> ReplyTag:
        return ReplyTag(self.raw.request_id, self.raw.now_ms // 1000, model)


class Asked(Transient):
    """A chat call that may go ahead as far as its model is concerned: what serves it, and what it wants of limits."""

    origin: Origin
    clearance: Clearance
    request: ChatRequest
    wanted: Reservation | None = None
    _guess: Usage | None = None

    def guess(self) -> Usage:
        """Made when first asked for: where there are no limits, and the model tells what it used, nobody asks."""
        if self._guess is None:
            self._guess = reserve.chat(self.clearance.deployment, self.request)
        return self._guess


class ChatCall(Transient):
    """One admitted chat call: `run` runs it, `meter` has counted it."""

    _origin: Origin
    request: ChatRequest
    _deployment: Deployment
    meter: Meter
    _backend: Pushing
    _deadlines: Deadlines
    _vigil: Vigil

    def run(self, receiver: Receiver) -> Passage:
        """The backend's answer goes to the receiver, counted; the call is settled before its end gets there.

        What the backend refuses at once raises, and is settled too.
        """
        deadlines, now_s = self._deadlines, monotonic()
        due_s, end_s = now_s + deadlines.first_event_s, now_s + deadlines.total_s
        passage = Passage(self.meter, receiver, deadlines, self._vigil, end_s, min(due_s, end_s))
        try:
            passage.running = self._backend.start(self._deployment, self.request, self._origin.call(), passage)
        except ArkwayError as error:
            self.meter.settle("refused" if isinstance(error, CallerError | Refused) else "upstream_error", error)
            raise
        except BaseException:
            self.meter.settle("upstream_error")
            raise
        self._vigil.add(passage)
        return passage

    def tag(self) -> ReplyTag:
        attempt = self.meter.attempt
        return ReplyTag(attempt.request_id, attempt.opened_ms // 1000, attempt.model)


class Task(Generic[T]):
    """One admitted call that has no events: `result` runs it, and has settled it when it returns."""

    def __init__(
        self,
        origin: Origin,
        clearance: Clearance,
        meter: Meter,
        work: Coroutine[Any, Any, T],
        cost: Callable[[T], Usage],
    ) -> None:
        self.meter = meter
        self.tag = origin.tag(clearance.model)
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
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._router, self._clearance = router, router.clearance
        self._ledger = ledger
        self._backends = {name: pushing(backend) for name, backend in backends.items()}
        self._heeded = {name: heeded for name, each in backends.items() if (heeded := getattr(each, "heeded", None))}
        self._vigil = Vigil(min(TICK_S, deadlines.first_event_s / 4, deadlines.next_event_s / 4, deadlines.total_s / 4))
        self._embedders = embedders
        self._tokenizers = tokenizers
        self._classifiers = classifiers
        self._reserve = reserve
        self._clock_ns = clock_ns
        self.deadlines = deadlines

    def ask_chat(self, origin: Origin, request: ChatRequest) -> Asked:
        """Routes and admits. Raises CallerError."""
        clearance = self._clearance(origin.caller, request.asked, names=origin.names, version=request.asked_version)
        request = clearance.admission.chat(request)
        if (heeded := self._heeded.get(clearance.deployment.backend)) is not None:
            request = heeded(clearance.deployment, request)
        asked = Asked(origin, clearance, request)
        if clearance.rules:
            asked.wanted = self._reserve.wanted(clearance, origin.raw.now_ms, asked.guess())
        return asked

    def open_chat_nowait(self, asked: Asked) -> ChatCall | None:
        """Reserves; None where a limit has to be waited for. Raises Refused, StoreUnavailable."""
        wanted = asked.wanted
        return self._chat_call(asked) if wanted is None or self._reserve.take_nowait(wanted) else None

    async def open_chat(self, asked: Asked) -> ChatCall:
        """As `open_chat_nowait`, having waited."""
        if asked.wanted is not None:
            await self._reserve.take(asked.wanted)
        return self._chat_call(asked)

    def cut_all(self) -> None:
        """The server stops: every chat call that is still under way ends, and its client is told."""
        for passage in list(self._vigil.watched):
            try:
                cast(Passage, passage).cut()
            except Exception:
                log.exception("internal error while the server stops")

    def _chat_call(self, asked: Asked) -> ChatCall:
        origin, clearance, request = asked.origin, asked.clearance, asked.request
        deployment = clearance.deployment
        estimate = request.max_tokens or deployment.card.default_output_tokens
        backend = self._backends[deployment.backend]
        attempt = origin.attempt(clearance, estimate, request.user)
        meter = Meter(self._ledger, attempt, self._clock_ns, asked.wanted, asked.guess)
        return ChatCall(origin, request, deployment, meter, backend, self.deadlines, self._vigil)

    def deployments(self, caller: Caller) -> tuple[Deployment, ...]:
        roles.require(caller, "models.list")
        return self._router.deployments(caller)

    async def open_embed(self, origin: Origin, request: EmbedRequest) -> Task[EmbedReply]:
        """Routes, admits and reserves. Raises CallerError, StoreUnavailable."""
        clearance = self._of(origin, request.asked, request.asked_version)
        service = _offered(self._embedders, clearance.deployment, "embeddings", request.asked)
        guess = reserve.texts(request.texts)
        return Task(
            origin,
            clearance,
            await self._meter(origin, clearance, guess, user=request.user),
            service.embed(clearance.deployment, request, origin.call()),
            lambda reply: reply.usage if reply.usage.prompt_tokens else guess,
        )

    async def open_tokenize(self, origin: Origin, request: TokenizeRequest) -> Task[tuple[Tokenized, ...]]:
        """As `open_embed`. Tokenization costs nothing, but is on record."""
        clearance = self._of(origin, request.asked, request.asked_version)
        service = _offered(self._tokenizers, clearance.deployment, "tokenization", request.asked)
        return Task(
            origin,
            clearance,
            await self._meter(origin, clearance, Usage()),
            service.tokenize(clearance.deployment, request, origin.call()),
            lambda _: Usage(provenance="counted"),
        )

    async def open_classify(self, origin: Origin, request: ClassifyRequest) -> Task[ClassifyReply]:
        """As `open_embed`."""
        clearance = self._of(origin, request.asked, request.asked_version)
        service = _offered(self._classifiers, clearance.deployment, "chat", request.asked, "classification")
        return Task(
            origin,
            clearance,
            await self._meter(origin, clearance, reserve.texts((request.query, *request.labels))),
            service.classify(clearance.deployment, request, origin.call()),
            lambda reply: reply.usage,
        )

    def certified(self, origin: Origin, request: CertRequest) -> Deployment:
        """Whose certificate is asked for. Raises CallerError."""
        return self._of(origin, request.asked, request.asked_version).deployment

    def _of(self, origin: Origin, asked: str, version: str) -> Clearance:
        return self._clearance(origin.caller, asked, names=origin.names, version=version)

    async def result(self, task: Task[T]) -> T:
        return await task.result(self.deadlines.first_event_s)

    async def _meter(self, origin: Origin, clearance: Clearance, guess: Usage, user: str = "") -> Meter:
        """What is refused by a limit leaves no entry in the ledger; from here on nothing is waited for."""
        wanted = None
        if clearance.rules:
            wanted = self._reserve.wanted(clearance, origin.raw.now_ms, guess)
            await self._reserve.take(wanted)
        return Meter(self._ledger, origin.attempt(clearance, user=user), self._clock_ns, wanted)


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
