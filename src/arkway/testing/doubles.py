"""Scripted backends, a ledger and a directory in memory: what stands behind a server under test."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

import msgspec

from arkway.core.bot import Bot
from arkway.core.caller import AccessKey, Call, Caller, Role
from arkway.core.chat import ChatRequest, FinishReason, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest, LabelScore
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ContextTooLong
from arkway.core.events import Delta, Event, Finished, Progress, UsageReport
from arkway.core.limit import Rule
from arkway.core.model import Deployment, Endpoint, ModelCard, ParameterRange
from arkway.ports import Alias, Attempt, Settlement
from arkway.stores.home import Pepper
from arkway.stores.limits import RuleBook
from arkway.stores.temporary import TemporaryKeys, caller_of

API_KEY = "ark-testing-only-0000000000000000000000000000"
ENDPOINT_ID = "ep-20240701000000-tests"
EMBEDDING_ENDPOINT_ID = "ep-20240701000000-embed"
BOT_ID = "bot-20240701000000-tests"
ACCESS_KEY_ID = "AKLTtestingonly000000000000000000000000000000000"
SECRET_ACCESS_KEY = "dGVzdGluZ29ubHkwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA=="  # noqa: S105 (public, like all of these)
SESSION_ACCESS_KEY_ID = "AKTPtestingonly000000000000000000000000000000000"
SESSION_SECRET = "dGVzdGluZ29ubHkxMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMQ=="  # noqa: S105
SESSION_TOKEN = "STS2testingonly00000000000000000000000000000000000000000000000000000"  # noqa: S105

TEMPORARY_KEYS = TemporaryKeys(Pepper(b"testing only, public as all of it"))

CHAT_CARD = ModelCard(
    name="scripted-chat",
    version="1",
    title="Scripted backend",
    licence="Apache-2.0",
    capabilities=("chat", "tokenization", "tools", "json", "logprobs"),
    context_tokens=8192,
    max_output_tokens=4096,
    default_output_tokens=4096,
    parameters=(ParameterRange("temperature", 0, 2, 1), ParameterRange("n", 1, 4, 1)),
)
EMBEDDING_CARD = ModelCard(
    name="scripted-embeddings",
    version="1",
    title="Scripted embedder",
    licence="Apache-2.0",
    capabilities=("embeddings", "tokenization"),
    context_tokens=8192,
    dimensions=8,
)


class Pause(msgspec.Struct, frozen=True):
    """A step of a script: nothing happens for a while."""

    seconds: float


class Gate:
    """A step of a script: nothing happens until `open` is called (from any thread)."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    async def passed(self) -> None:
        while not self._event.is_set():
            await asyncio.sleep(0.005)


Step = Event | Pause | Gate | BaseException
Script = Callable[[ChatRequest], Iterable[Step]]
Hook = Callable[[], Awaitable[None]]


def says(*pieces: str, reason: FinishReason = "stop", prompt_tokens: int = 7) -> Script:
    """A script that answers with these pieces, one token each."""

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Progress(prompt_tokens, prompt_tokens)
        for count, piece in enumerate(pieces, 1):
            yield Delta(piece, completion_tokens=count, prompt_tokens=prompt_tokens)
        yield Finished(reason)
        yield UsageReport(Usage(prompt_tokens, len(pieces)))

    return script


def echoes(request: ChatRequest) -> Iterable[Step]:
    """A script that says the last message back, character by character."""
    text = request.messages[-1].text()
    limit = request.max_tokens or CHAT_CARD.default_output_tokens
    if len(text) > CHAT_CARD.context_tokens:
        raise ContextTooLong(len(text), 1, CHAT_CARD.context_tokens)
    return says(*text[:limit], reason="length" if len(text) > limit else "stop")(request)


class ScriptedBackend:
    """Implements `arkway.ports.Backend` from a script, and Embedder, Tokenizer and Classifier by rote.

    ``requests`` lists every chat request that arrived; ``open_streams`` counts those still being served.
    """

    def __init__(self, script: Script = echoes) -> None:
        self.script = script
        self.requests: list[ChatRequest] = []
        self.calls: list[Call] = []
        self.open_streams = 0

    async def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.calls.append(call)
        self.open_streams += 1
        try:
            for step in self.script(request):
                match step:
                    case Pause():
                        await asyncio.sleep(step.seconds)
                    case Gate():
                        await step.passed()
                    case BaseException():
                        raise step
                    case _:
                        yield step
        finally:
            self.open_streams -= 1

    async def embed(self, deployment: Deployment, request: EmbedRequest, call: Call) -> EmbedReply:
        tokens = sum(map(len, request.texts))
        return EmbedReply(tuple(map(_vector, request.texts)), Usage(tokens, provenance="counted"))

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        return tuple(
            Tokenized(tuple(map(ord, text)), tuple((i, i + 1) for i in range(len(text)))) for text in request.texts
        )

    async def classify(self, deployment: Deployment, request: ClassifyRequest, call: Call) -> ClassifyReply:
        """Every character of a label is a token, and a likely one if the query has it."""
        scores = tuple(
            LabelScore(label, tuple(label), tuple(-0.125 if letter in request.query else -2.0 for letter in label))
            for label in request.labels
        )
        best = max(scores, key=lambda score: sum(score.logprobs))
        return ClassifyReply(best.label, scores, Usage(len(request.query), sum(map(len, request.labels))))


class MemoryLedger:
    """Implements `arkway.ports.Ledger` in memory."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.checkpoints: list[tuple[str, int, int]] = []
        self.settlements: dict[str, Settlement] = {}

    def reserve(self, attempt: Attempt) -> None:
        self.attempts[attempt.id] = attempt

    def checkpoint(self, attempt_id: str, prompt_tokens: int, completion_tokens: int) -> None:
        self.checkpoints.append((attempt_id, prompt_tokens, completion_tokens))

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        if attempt_id in self.settlements:
            raise AssertionError(f"{attempt_id} is settled twice")
        self.settlements[attempt_id] = settlement


class StaticDirectory:
    """Implements `arkway.ports.Directory` from fixed keys, endpoints, bots and aliases."""

    def __init__(
        self,
        callers: Mapping[str, Caller],
        endpoints: Iterable[Endpoint],
        access_keys: Iterable[AccessKey] = (),
        aliases: Iterable[Alias] = (),
        rules: Iterable[Rule] = (),
        bots: Iterable[Bot] = (),
    ) -> None:
        self._bots = {bot.id: bot for bot in bots}
        self._callers = dict(callers)
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        self._access_keys = {key.id: key for key in access_keys}
        self._aliases = {alias.name.casefold(): alias for alias in aliases}
        self._rules = RuleBook(rules)
        self.changes = 0

    def caller(self, secret: str, now_s: int) -> Caller | None:
        if TEMPORARY_KEYS.claimed(secret):
            grant = TEMPORARY_KEYS.grant(secret, now_s)
            return caller_of(grant) if grant and grant.access_key_id in self._access_keys else None
        return self._callers.get(secret)

    def stands(self, caller: Caller, now_s: int) -> bool:
        return any(known is caller for known in self._callers.values())

    def show(self, endpoints: Iterable[Endpoint]) -> None:
        """These are found from now on, in the place of those of the same ids, bots among them."""
        shown = {endpoint.id: endpoint for endpoint in endpoints}
        self._bots = {known: bot for known, bot in self._bots.items() if known not in shown}
        self._endpoints = {**self._endpoints, **shown}
        self.changes += 1

    def show_bots(self, bots: Iterable[Bot]) -> None:
        """These are found from now on, in the place of those of the same ids."""
        self._bots = {**self._bots, **{bot.id: bot for bot in bots}}
        self.changes += 1

    def hide(self, endpoint_id: str) -> None:
        """It is not found from now on, an endpoint or a bot."""
        self._bots = {known: bot for known, bot in self._bots.items() if known != endpoint_id}
        self._endpoints = {known: endpoint for known, endpoint in self._endpoints.items() if known != endpoint_id}
        self.changes += 1

    def revoke(self, access_key_id: str) -> None:
        """The pair, and every temporary key that it was given, is unknown from now on."""
        del self._access_keys[access_key_id]
        self.changes += 1

    def access_key(self, access_key_id: str, now_s: int) -> AccessKey | None:
        return self._access_keys.get(access_key_id)

    def used(self, access_key_id: str, now_s: int) -> None:
        """Nothing is written anywhere."""

    def alias(self, name: str) -> Alias | None:
        return self._aliases.get(name.casefold())

    def aliases(self) -> tuple[Alias, ...]:
        return tuple(self._aliases.values())

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        bot = self._bots.get(endpoint_id)
        return self._endpoints.get(endpoint_id) if bot is None else bot.as_endpoint()

    def bot(self, bot_id: str) -> Bot | None:
        return self._bots.get(bot_id)

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]:
        return tuple(e for e in self._endpoints.values() if (e.account, e.project) == (account, project))

    def limits(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        return self._rules.of(account, project, key_id, endpoint_id)


def endpoint(
    endpoint_id: str, model_name: str, *, account: str = "default", status: str = "running", version: str = ""
) -> Endpoint:
    """An endpoint of the project ``default``; ``version`` empty = it follows the model's default one."""
    model = {"name": model_name, "model_name": model_name, "model_version": version}
    place = {"account": account, "project": "default", "created_at": 1719792000}
    return msgspec.convert({"id": endpoint_id, **model, "status": status, **place}, Endpoint)


def bot(endpoint_id: str = ENDPOINT_ID, bot_id: str = BOT_ID) -> Bot:
    """A bot of the project ``default`` over an endpoint, with neither a prompt nor actions of its own."""
    return Bot(id=bot_id, name="tests", account="default", project="default", endpoint_id=endpoint_id)


def access_key(
    access_key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    *,
    session_token: str = "",
    account: str = "default",
    endpoints: tuple[str, ...] = (),
    role: Role = "owner",
) -> AccessKey:
    """An access key pair of the project ``default``."""
    return AccessKey(
        access_key_id, secret.encode(), Caller(account, "default", access_key_id, endpoints, role), session_token
    )


def _vector(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).digest()
    return struct.pack("<8f", *((byte - 127.5) / 360.624 for byte in digest[:8]))
