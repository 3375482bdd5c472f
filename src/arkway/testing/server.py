"""A real server over scripted parts, in a thread."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import uvicorn

from arkway.admin.endpoints import Endpoints
from arkway.admin.retired import retired_names
from arkway.app import Parts, asgi_app, server_config
from arkway.app.bots import BotDirectory, BotModels, with_bots
from arkway.app.control import certificate
from arkway.app.listeners import Https, TwoListeners
from arkway.config import Settings, load
from arkway.control import Access, ControlPlane
from arkway.control.access import FindModel
from arkway.control.memory import MemoryEndpoints, MemoryRates
from arkway.core.audit import Actor, Entry
from arkway.core.bot import ActionKind, Bot
from arkway.core.caller import AccessKey, Caller
from arkway.core.limit import Rule
from arkway.core.model import Endpoint, ModelCard
from arkway.flow.reserve import CostOf, free
from arkway.http.admin import Commands
from arkway.http.asgi import Limits
from arkway.limits.memory import SpentBefore, nothing_spent
from arkway.ports import Alias, Backend, Control, Directory, Ledger, Observer, Pushing, Sealing
from arkway.ports.lookup import Plugin
from arkway.sealing import fresh
from arkway.telemetry.plugins import PluginWatch
from arkway.testing.doubles import (
    ACCESS_KEY_ID,
    API_KEY,
    BOT_ID,
    CHAT_CARD,
    EMBEDDING_CARD,
    EMBEDDING_ENDPOINT_ID,
    ENDPOINT_ID,
    SECRET_ACCESS_KEY,
    SESSION_ACCESS_KEY_ID,
    SESSION_SECRET,
    SESSION_TOKEN,
    TEMPORARY_KEYS,
    Hook,
    MemoryLedger,
    Script,
    ScriptedBackend,
    StaticDirectory,
    access_key,
    bot,
    echoes,
    endpoint,
)

STOP_S = 30.0


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
        self.bot_id = BOT_ID
        self.backend = backend
        self.ledger = ledger
        self.endpoints = endpoints or MemoryEndpoints(StaticDirectory({}, ()))

    @property
    def audit(self) -> list[Entry]:
        return self.endpoints.entries

    @property
    def directory(self) -> StaticDirectory:
        return self.endpoints.directory


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
    bots: Iterable[Bot] = (),
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
        bots,
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

    def resources(account: str, project: str, actor: Actor) -> Endpoints:
        return Endpoints(endpoints, account, project, actor)

    access = Access(
        resources,
        lambda *_: rates,
        lambda account, project, actor, change: change(resources(account, project, actor), rates),
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
    backends: Mapping[str, Backend | Pushing] | None = None,
    startup: Hook | None = None,
    shutdown: Hook | None = None,
    bots: Iterable[Bot] | None = None,
    plugins: Mapping[ActionKind, Plugin] | None = None,
) -> Generator[RunningServer]:
    """A real server with a scripted backend, on a free loopback port, in a thread; stopped at the end of the block.

    ``tls``: serve HTTPS as well, on another free port, with this context. ``directory`` and ``control``: in the
    place of the fixed keys, endpoints and aliases, and of the control plane over them. ``cards``: models that are
    installed as well. ``admin``: the commands of the Admin API; without them there is none. ``rules``: limits, with
    what was ``spent`` before and what use costs. ``backends``: beside the scripted one, or as ``"scripted"`` in its
    place; what they need done in the server's event loop, ``startup`` and ``shutdown`` do. ``bots``: over these
    endpoints, with ``plugins`` to look things up with by the kind of action; by default one that looks nothing up,
    over the chat endpoint.
    """
    backend, chosen = ScriptedBackend(scripted), ledger if ledger is not None else MemoryLedger()
    config, endpoints = _configured(settings or {}, limits, port), tuple(endpoints)
    known: dict[str, Any] = {"keys": keys, "endpoints": endpoints, "access_keys": access_keys, "aliases": aliases}
    known["bots"] = _one_bot(endpoints) if bots is None else bots
    parts = scripted_parts(backend, chosen, **known, cards=cards, rules=rules)
    parts.spent, parts.cost_of = spent, cost_of
    parts.observers = tuple(observers)
    parts.backends = {**parts.backends, **(backends or {})}
    parts.startup, parts.shutdown = startup or parts.startup, shutdown or parts.shutdown
    parts.admin = admin
    kept = _governed(parts, config, directory, control)
    _answer_for_bots(parts, plugins or {})
    https = _https(tls) if tls else None
    with _served(TwoListeners(server_config(config, asgi_app(config, parts)), https)) as url:
        yield RunningServer(url, backend, chosen, _url_of(https), kept)


def _one_bot(endpoints: Iterable[Endpoint]) -> tuple[Bot, ...]:
    """None where an endpoint has its id."""
    return () if any(each.id == BOT_ID for each in endpoints) else (bot(),)


def _governed(
    parts: Parts, config: Settings, directory: Directory | None, control: Control | None
) -> MemoryEndpoints[StaticDirectory]:
    """Give the parts their control plane; the endpoints in memory that it changes unless it is another one."""
    if config.surface.message_encryption:
        parts.sealing = fresh(int(time.time()))
    kept = MemoryEndpoints(cast(StaticDirectory, parts.directory))
    parts.control = control or memory_control(kept, parts.find_model, config.control.api_key_max_s, parts.sealing)
    parts.directory = directory or parts.directory
    return kept


def _answer_for_bots(parts: Parts, plugins: Mapping[ActionKind, Plugin]) -> None:
    """Where the directory knows of any: what stands in for one in a test may know of endpoints alone."""
    if not hasattr(parts.directory, "bot"):
        return
    models, watch = BotModels(cast(BotDirectory, parts.directory), parts.find_model), PluginWatch()
    parts.backends = with_bots(parts.backends, models, lambda: plugins, parts.ledger, watch)
    parts.find_model, parts.tallies = models.find, (watch.tallies,)


def _configured(given: Mapping[str, Any], limits: Limits | None, port: int) -> Settings:
    edge = {**(msgspec.structs.asdict(limits) if limits else {}), **given.get("edge", {})}
    server = {"port": port, "drain_s": 1, **given.get("server", {})}
    return load(environ={}, overrides={"home": "/nonexistent", **given, "edge": edge, "server": server})


@contextmanager
def _served(server: uvicorn.Server) -> Generator[str]:
    """Where it is, while it runs in a thread."""
    thread = threading.Thread(target=server.run, name="arkway-testing")
    thread.start()
    try:
        yield _url(server, thread)
    finally:
        server.should_exit = True
        thread.join(STOP_S)
        if thread.is_alive():
            raise RuntimeError("the server did not stop")


def _url(server: uvicorn.Server, thread: threading.Thread) -> str:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        thread.join(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def _url_of(https: Https | None) -> str:
    return f"https://localhost:{https.listener.getsockname()[1]}" if https else ""


def _https(context: ssl.SSLContext) -> Https:
    """A free loopback port; it takes connections from now on, so that nobody comes too early."""
    listener = socket.create_server(("127.0.0.1", 0))
    return Https(listener, context)
