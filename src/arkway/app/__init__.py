"""The composition root: settings → concrete objects → an ASGI application; the one module that names classes."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import uvicorn

from arkway import __version__
from arkway.config import Settings
from arkway.dialects.openai import OpenAI
from arkway.dialects.v3 import ArkV3
from arkway.flow.road import Deadlines, Road
from arkway.flow.route import FindModel, Router
from arkway.http.asgi import AsgiApp
from arkway.http.health import Health
from arkway.http.pulse import Pulse
from arkway.http.serve import Page, Server
from arkway.http.surface import Surface
from arkway.ports import Backend, Directory, Embedder, Ledger, Observer, Tokenizer
from arkway.telemetry.log import AccessLog, Observers
from arkway.telemetry.metrics import CONTENT_TYPE, Metrics, Reading


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
    startup: Callable[[], Awaitable[None]] = _nothing
    shutdown: Callable[[], Awaitable[None]] = _nothing
    gauges: Callable[[], Reading] = dict
    troubles: Callable[[], tuple[str, ...]] = tuple
    observers: tuple[Observer, ...] = field(default=())


def asgi_app(settings: Settings, parts: Parts) -> AsgiApp:
    """The application over any parts."""
    metrics = Metrics(parts.gauges)
    observers: list[Observer] = [metrics, *parts.observers]
    if settings.server.access_log:
        observers.append(AccessLog())
    names = {"v3": settings.surface.v3_model_names, "openai": settings.surface.openai_model_names}
    pulse = Pulse(settings.stream.heartbeat_s)
    server = Server(
        Surface((ArkV3(), OpenAI()), frozenset(name for name, on in names.items() if on)),
        parts.directory,
        Road(
            Router(parts.directory, parts.find_model),
            parts.ledger,
            parts.backends,
            parts.embedders,
            parts.tokenizers,
            Deadlines(settings.stream.first_event_s, settings.stream.next_event_s, settings.stream.total_s),
        ),
        _pages(metrics, Health(__version__, parts.troubles)),
        Observers(*observers),
        pulse,
    )

    async def shutdown() -> None:
        await pulse.aclose()
        await parts.shutdown()

    return AsgiApp(server, parts.startup, shutdown, secrets.token_bytes)


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
