"""What users need to test their own code against Arkway, and what Arkway's own tests stand on.

``running_server()`` is a real server on a free loopback port, with a scripted backend in place of an engine: the wire,
the road and the ledger are the real ones. ``python -m arkway.testing`` runs one in the foreground.

::

    with running_server(scripted=says("你好", "!")) as server:
        client = Ark(base_url=server.url + "/api/v3", api_key=server.api_key)
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import uvicorn

from arkway.admin.endpoints import Endpoints
from arkway.admin.retired import retired_names
from arkway.app import Parts, asgi_app, server_config
from arkway.app.control import certificate
from arkway.app.listeners import Https, TwoListeners
from arkway.config import load
from arkway.control import Access, ControlPlane
from arkway.control.access import FindModel
from arkway.control.memory import MemoryEndpoints, MemoryRates
from arkway.core.audit import Entry
from arkway.core.caller import AccessKey, Call, Caller, Role
from arkway.core.chat import ChatRequest, FinishReason, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest, LabelScore
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ContextTooLong
from arkway.core.events import Delta, Event, Finished, Progress, UsageReport
from arkway.core.limit import Rule
from arkway.core.model import Deployment, Endpoint, ModelCard, ParameterRange
from arkway.flow.reserve import CostOf, free
from arkway.http.admin import Commands
from arkway.http.asgi import Limits
from arkway.limits.memory import SpentBefore, nothing_spent
from arkway.ports import Alias, Attempt, Backend, Control, Directory, Ledger, Observer, Sealing, Settlement
from arkway.sealing import fresh
from arkway.stores.home import Pepper
from arkway.stores.limits import RuleBook
from arkway.stores.temporary import TemporaryKeys, caller_of

API_KEY = "ark-testing-only-0000000000000000000000000000"
ENDPOINT_ID = "ep-20240701000000-tests"
EMBEDDING_ENDPOINT_ID = "ep-20240701000000-embed"
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
    """Implements `arkway.ports.Directory` from fixed keys, endpoints and aliases."""

    def __init__(
        self,
        callers: Mapping[str, Caller],
        endpoints: Iterable[Endpoint],
        access_keys: Iterable[AccessKey] = (),
        aliases: Iterable[Alias] = (),
        rules: Iterable[Rule] = (),
    ) -> None:
        self._callers = dict(callers)
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        self._access_keys = {key.id: key for key in access_keys}
        self._aliases = {alias.name.casefold(): alias for alias in aliases}
        self._rules = RuleBook(rules)

    def caller(self, secret: str, now_s: int) -> Caller | None:
        if TEMPORARY_KEYS.claimed(secret):
            grant = TEMPORARY_KEYS.grant(secret, now_s)
            return caller_of(grant) if grant and grant.access_key_id in self._access_keys else None
        return self._callers.get(secret)

    def show(self, endpoints: Iterable[Endpoint]) -> None:
        """These are found from now on, in the place of those of the same ids."""
        self._endpoints = {**self._endpoints, **{endpoint.id: endpoint for endpoint in endpoints}}

    def hide(self, endpoint_id: str) -> None:
        """It is not found from now on."""
        self._endpoints = {known: endpoint for known, endpoint in self._endpoints.items() if known != endpoint_id}

    def revoke(self, access_key_id: str) -> None:
        """The pair, and every temporary key that it was given, is unknown from now on."""
        del self._access_keys[access_key_id]

    def access_key(self, access_key_id: str, now_s: int) -> AccessKey | None:
        return self._access_keys.get(access_key_id)

    def used(self, access_key_id: str, now_s: int) -> None:
        """Nothing is written anywhere."""

    def alias(self, name: str) -> Alias | None:
        return self._aliases.get(name.casefold())

    def aliases(self) -> tuple[Alias, ...]:
        return tuple(self._aliases.values())

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return self._endpoints.get(endpoint_id)

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]:
        return tuple(e for e in self._endpoints.values() if (e.account, e.project) == (account, project))

    def limits(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        return self._rules.of(account, project, key_id, endpoint_id)


class RunningServer:
    """A server that is up: where it is, keys for it (the pair of a session is a temporary one), and what is behind.

    ``directory`` and ``audit`` (its entries) are those of a server that has not been given another directory.
    """

    def __init__(
        self,
        url: str,
        backend: ScriptedBackend,
        ledger: Ledger,
        https_url: str = "",
        endpoints: MemoryEndpoints[StaticDirectory] | None = None,
    ) -> None:
        self.url = url
        self.https_url = https_url
        self.api_key = API_KEY
        self.access_key_id = ACCESS_KEY_ID
        self.secret_access_key = SECRET_ACCESS_KEY
        self.session_access_key_id = SESSION_ACCESS_KEY_ID
        self.session_secret = SESSION_SECRET
        self.session_token = SESSION_TOKEN
        self.endpoint_id = ENDPOINT_ID
        self.embedding_endpoint_id = EMBEDDING_ENDPOINT_ID
        self.backend = backend
        self.ledger = ledger
        self.endpoints = endpoints or MemoryEndpoints(StaticDirectory({}, ()))

    @property
    def audit(self) -> list[Entry]:
        return self.endpoints.entries

    @property
    def directory(self) -> StaticDirectory:
        return self.endpoints.directory


def endpoint(
    endpoint_id: str, model_name: str, *, account: str = "default", status: str = "running", version: str = ""
) -> Endpoint:
    """An endpoint of the project ``default``; ``version`` empty = it follows the model's default one."""
    model = {"name": model_name, "model_name": model_name, "model_version": version}
    place = {"account": account, "project": "default", "created_at": 1719792000}
    return msgspec.convert({"id": endpoint_id, **model, "status": status, **place}, Endpoint)


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


def scripted_parts(
    backend: Backend,
    ledger: Ledger,
    *,
    keys: Mapping[str, Caller] | None = None,
    endpoints: Iterable[Endpoint] = (),
    access_keys: Iterable[AccessKey] = (),
    aliases: Iterable[Alias] = (),
    cards: Iterable[ModelCard] = (),
    rules: Iterable[Rule] = (),
) -> Parts:
    """Everything a server is made of, with the scripted backend behind two endpoints (chat, embeddings).

    Retired models' names are aliases of the chat model. ``cards`` are installed beside those of the endpoints; the
    first of a name is its default version.
    """
    directory = StaticDirectory(
        {API_KEY: Caller("default", "default", "key-testing"), **(keys or {})},
        [
            endpoint(ENDPOINT_ID, CHAT_CARD.name),
            endpoint(EMBEDDING_ENDPOINT_ID, EMBEDDING_CARD.name),
            *endpoints,
        ],
        [
            access_key(),
            access_key(SESSION_ACCESS_KEY_ID, SESSION_SECRET, session_token=SESSION_TOKEN),
            *access_keys,
        ],
        [*retired_names(CHAT_CARD.name, CHAT_CARD.version), *aliases],
        rules,
    )
    find_model = _installed([CHAT_CARD, EMBEDDING_CARD, *cards])
    return Parts(
        directory=directory,
        find_model=find_model,
        control=memory_control(MemoryEndpoints(directory), find_model),
        ledger=ledger,
        backends={"scripted": backend},
        embedders={"scripted": backend} if isinstance(backend, ScriptedBackend) else {},
        tokenizers={"scripted": backend} if isinstance(backend, ScriptedBackend) else {},
        classifiers={"scripted": backend} if isinstance(backend, ScriptedBackend) else {},
    )


def memory_control(
    endpoints: MemoryEndpoints[StaticDirectory],
    find_model: FindModel,
    api_key_max_s: int = 2_592_000,
    sealing: Sealing | None = None,
) -> ControlPlane:
    """The control plane over a directory in memory."""
    rates = MemoryRates()
    access = Access(
        lambda account, project, actor: Endpoints(endpoints, account, project, actor),
        lambda *_: rates,
        lambda *_: False,
        endpoints,
        endpoints.directory,
        find_model,
    )
    return ControlPlane(access, TEMPORARY_KEYS.issue, api_key_max_s, certificate(sealing))


def _installed(cards: Iterable[ModelCard]) -> FindModel:
    found: dict[tuple[str, str], tuple[ModelCard, str]] = {}
    for card in cards:
        found[card.name, card.version] = (card, "scripted")
        found.setdefault((card.name, ""), (card, "scripted"))
    return lambda name, version: found.get((name, version))


@contextmanager
def running_server(
    scripted: Script = echoes,
    *,
    ledger: Ledger | None = None,
    settings: Mapping[str, Any] | None = None,
    keys: Mapping[str, Caller] | None = None,
    endpoints: Iterable[Endpoint] = (),
    access_keys: Iterable[AccessKey] = (),
    aliases: Iterable[Alias] = (),
    observers: Iterable[Observer] = (),
    limits: Limits | None = None,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    directory: Directory | None = None,
    control: Control | None = None,
    admin: Commands | None = None,
    cards: Iterable[ModelCard] = (),
    rules: Iterable[Rule] = (),
    spent: SpentBefore = nothing_spent,
    cost_of: CostOf = free,
) -> Generator[RunningServer]:
    """A real server with a scripted backend, on a free loopback port, in a thread; stopped at the end of the block.

    ``tls``: serve HTTPS as well, on another free port, with this context. ``directory`` and
    ``control``: in the place of the fixed keys, endpoints and aliases, and of the control plane over them. ``cards``:
    models that are installed as well. ``admin``: the commands of the Admin API; without them there is none. ``rules``:
    limits, with what was ``spent`` before and what use costs.
    """
    backend = ScriptedBackend(scripted)
    chosen = ledger if ledger is not None else MemoryLedger()
    given = dict(settings or {})
    tree = {"home": "/nonexistent", **given, "server": {"port": port, "drain_s": 1, **given.get("server", {})}}
    config = load(environ={}, overrides=tree)
    parts = scripted_parts(
        backend,
        chosen,
        keys=keys,
        endpoints=endpoints,
        access_keys=access_keys,
        aliases=aliases,
        cards=cards,
        rules=rules,
    )
    parts.spent, parts.cost_of = spent, cost_of
    parts.observers = tuple(observers)
    if config.surface.message_encryption:
        parts.sealing = fresh(int(time.time()))
    kept = MemoryEndpoints(cast(StaticDirectory, parts.directory))
    parts.control = control or memory_control(kept, parts.find_model, config.control.api_key_max_s, parts.sealing)
    parts.directory = directory or parts.directory
    parts.admin = admin
    app = asgi_app(config, parts)
    app.limits = limits or app.limits
    https = _https(tls) if tls else None
    with _served(TwoListeners(server_config(config, app), https)) as url:
        https_url = f"https://localhost:{https.listener.getsockname()[1]}" if https else ""
        yield RunningServer(url, backend, chosen, https_url, kept)


@contextmanager
def _served(server: uvicorn.Server) -> Generator[str]:
    """Where it is, while it runs in a thread."""
    thread = threading.Thread(target=server.run, name="arkway-testing")
    thread.start()
    try:
        yield _url(server, thread)
    finally:
        server.should_exit = True
        thread.join(10)


def _url(server: uvicorn.Server, thread: threading.Thread) -> str:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        thread.join(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def _https(context: ssl.SSLContext) -> Https:
    """A free loopback port; it takes connections from now on, so that nobody comes too early."""
    listener = socket.create_server(("127.0.0.1", 0))
    return Https(listener, context)


def _vector(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).digest()
    return struct.pack("<8f", *((byte - 127.5) / 360.624 for byte in digest[:8]))


def main() -> None:
    """Runs a scripted server until it is interrupted; the first argument is the port (default 8080)."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with running_server(port=port) as server:
        sys.stdout.write(f"{server.url}/api/v3  key {server.api_key}  endpoint {server.endpoint_id}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
