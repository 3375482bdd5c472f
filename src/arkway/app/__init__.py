"""The composition root: settings → concrete objects → an ASGI application; the one module that names classes."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import uvicorn

from arkway import __version__
from arkway.config import Settings
from arkway.dialects.openai import OpenAI
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v3 import ArkV3
from arkway.flow.identify import Identity
from arkway.flow.road import Deadlines, Road
from arkway.flow.route import FindModel, Router
from arkway.http.asgi import AsgiApp
from arkway.http.health import Health
from arkway.http.pulse import Pulse
from arkway.http.serve import Page, Server
from arkway.http.surface import Surface
from arkway.ports import Backend, Classifier, Dialect, Directory, Embedder, Ledger, Observer, Sealing, Tokenizer
from arkway.signing import Policy
from arkway.telemetry.log import AccessLog, Observers
from arkway.telemetry.metrics import CONTENT_TYPE, Metrics, Reading

# The vendor's names for the model service (v1, v2) and the control plane, as clients put them into a signature's scope.
SERVICES = frozenset(("ml_maas", "ark"))


async def _nothing() -> None:
    pass


@dataclass
class Parts:
    """What a server is made of, behind the seams. ``startup`` and ``shutdown`` belong to whoever made the parts."""

    directory: Directory
    find_model: FindModel
    ledger: Ledger
    backends: Mapping[str, Backend]
    embedders: Mapping[str, Embedder]
    tokenizers: Mapping[str, Tokenizer]
    classifiers: Mapping[str, Classifier]
    sealing: Sealing | None = None
    startup: Callable[[], Awaitable[None]] = _nothing
    shutdown: Callable[[], Awaitable[None]] = _nothing
    gauges: Callable[[], Reading] = dict
    troubles: Callable[[], tuple[str, ...]] = tuple
    observers: tuple[Observer, ...] = field(default=())


def asgi_app(settings: Settings, parts: Parts) -> AsgiApp:
    """The application over any parts."""
    signing = settings.signing
    policy = Policy(
        regions=frozenset(signing.regions),
        services=SERVICES,
        max_skew_s=signing.max_skew_s,
        public_hosts=signing.public_hosts,
        require_host=False,  # the Node SDK signs the date and the body's hash alone
    )
    identity = Identity(parts.directory, policy)
    metrics = Metrics(lambda: {**parts.gauges(), "signatures_repeated": identity.repeated})
    observers: list[Observer] = [metrics, *parts.observers]
    if settings.server.access_log:
        observers.append(AccessLog())
    pulse = Pulse(settings.stream.heartbeat_s)
    server = Server(
        Surface(_dialects(settings, parts.sealing), _named(settings)),
        identity,
        _road(settings, parts),
        _pages(metrics, Health(__version__, parts.troubles)),
        Observers(*observers),
        pulse,
    )

    async def shutdown() -> None:
        await pulse.aclose()
        await parts.shutdown()

    return AsgiApp(server, parts.startup, shutdown, secrets.token_bytes)


def _dialects(settings: Settings, sealing: Sealing | None) -> tuple[Dialect, ...]:
    strict = settings.surface.legacy_mode == "strict"
    return MaasV1(strict=strict, sealing=sealing), MaasV2(strict=strict, sealing=sealing), ArkV3(), OpenAI()


def _named(settings: Settings) -> frozenset[str]:
    """The dialects that take model names as well as endpoint ids."""
    surface = settings.surface
    names = {"v2": surface.v2_model_names, "v3": surface.v3_model_names, "openai": surface.openai_model_names}
    return frozenset(("v1", *(name for name, on in names.items() if on)))


def _road(settings: Settings, parts: Parts) -> Road:
    stream = settings.stream
    return Road(
        Router(parts.directory, parts.find_model),
        parts.ledger,
        parts.backends,
        parts.embedders,
        parts.tokenizers,
        parts.classifiers,
        Deadlines(stream.first_event_s, stream.next_event_s, stream.total_s),
    )


def server_config(settings: Settings, app: AsgiApp) -> uvicorn.Config:
    """How uvicorn serves the application: uvloop and httptools, no banner, our own log."""
    return uvicorn.Config(
        app,
        host=settings.server.host,
        port=settings.server.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.server.drain_s),
        backlog=2048,
    )


def _pages(metrics: Metrics, health: Health) -> dict[str, Page]:
    async def exposition() -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE, metrics.render()

    return {"livez": health.live, "readyz": health.ready, "metrics": exposition}
