"""The composition root: settings → concrete objects → an ASGI application; the one module that names classes."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakSet

import uvicorn
from msgspec import structs

from arkway import __version__
from arkway.admin import retired
from arkway.app.exposition import Exposition
from arkway.app.limits import Counting
from arkway.app.workers import LONE, Seat
from arkway.config import Settings
from arkway.dialects.bots import BotsV2
from arkway.dialects.control import ControlForm
from arkway.dialects.openai import OpenAI
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v3 import ArkV3, ArkV3Bots
from arkway.flow.identify import Identity, Repeats
from arkway.flow.passage import Deadlines
from arkway.flow.reserve import CostOf, Reserve, free
from arkway.flow.road import Road
from arkway.flow.route import FindModel, Router
from arkway.http.admin import ROUTES as ADMIN_ROUTES
from arkway.http.admin import AdminApi, AdminForm, Commands
from arkway.http.asgi import AsgiApp, Limits
from arkway.http.edge import EdgeLimits, raise_descriptors
from arkway.http.health import Health
from arkway.http.hot import HotPath
from arkway.http.protocol import EdgeProtocol, edge_protocol
from arkway.http.pulse import Pulse
from arkway.http.serve import Page, Server
from arkway.http.surface import ROUTES, Surface
from arkway.limits.memory import SpentBefore, nothing_spent
from arkway.ports import (
    Backend,
    Classifier,
    Control,
    Directory,
    Embedder,
    Ledger,
    Observer,
    Pushing,
    Refusing,
    Sealing,
    Tokenizer,
)
from arkway.signing import Policy
from arkway.telemetry.limits import LimitWatch
from arkway.telemetry.log import AccessLog, together
from arkway.telemetry.metrics import Metrics, Reading
from arkway.telemetry.tally import Tallies

# The vendor's names for the model service (v1, v2) and the control plane, as clients put them into a signature's scope.
SERVICES = frozenset(("ml_maas", "ark"))


async def _nothing() -> None:
    pass


@dataclass
class Parts:
    """What a server is made of, behind the seams. ``startup`` and ``shutdown`` belong to whoever made the parts.

    ``admin`` None = there is no Admin API. ``tallies``: what parts count by themselves, for the metrics.
    """

    directory: Directory
    find_model: FindModel
    ledger: Ledger
    backends: Mapping[str, Backend | Pushing]
    embedders: Mapping[str, Embedder]
    tokenizers: Mapping[str, Tokenizer]
    classifiers: Mapping[str, Classifier]
    control: Control
    admin: Commands | None = None
    sealing: Sealing | None = None
    startup: Callable[[], Awaitable[None]] = _nothing
    shutdown: Callable[[], Awaitable[None]] = _nothing
    gauges: Callable[[], Reading] = dict
    tallies: tuple[Tallies, ...] = ()
    troubles: Callable[[], tuple[str, ...]] = tuple
    warnings: Callable[[], tuple[str, ...]] = tuple
    observers: tuple[Observer, ...] = field(default=())
    cost_of: CostOf = free
    spent: SpentBefore = nothing_spent
    refresh_spent: Callable[[], Awaitable[None]] = _nothing


def asgi_app(settings: Settings, parts: Parts) -> AsgiApp:
    """The application over any parts."""
    return Wiring(settings, parts).app


class Wiring:
    """What is between the socket and the parts: for each set of settings a server, which never changes.

    What is counted and remembered is made once and goes on: metrics, limits, signatures seen before. ``notes`` are
    further warnings for readiness.
    """

    def __init__(self, settings: Settings, parts: Parts, seat: Seat = LONE) -> None:
        self._parts = parts
        self._repeats = Repeats()
        self._pulses = WeakSet[Pulse]()
        self._roads = WeakSet[Road]()
        self.notes: Callable[[], tuple[str, ...]] = tuple
        self._metrics = Metrics(self._gauges, parts.tallies)
        self._exposition = Exposition(self._metrics, seat)
        watch = LimitWatch(self._metrics.limited)
        self._counting = Counting(settings.limits, parts.spent, parts.refresh_spent, watch.exceeded)
        server = self._server(settings, parts)
        self.app = AsgiApp(server, self._startup, self._shutdown, secrets.token_bytes, edge_limits(settings))

    def rewire(self, settings: Settings, parts: Parts) -> None:
        """Requests that come from now on meet these; those under way end as they began. For the event loop."""
        server = self._server(settings, parts)
        self._parts, self.app.server = parts, server

    def _server(self, settings: Settings, parts: Parts) -> Server:
        observers: list[Observer] = [self._metrics, *parts.observers]
        if settings.server.access_log:
            observers.append(AccessLog())
        pulse = Pulse(settings.stream.heartbeat_s)
        self._pulses.add(pulse)
        road = _road(settings, parts, Reserve(self._counting.limiter, parts.cost_of))
        self._roads.add(road)
        return Server(
            Surface(
                _dialects(settings, parts.sealing), _named(settings), (*ROUTES, *(ADMIN_ROUTES if parts.admin else ()))
            ),
            Identity(parts.directory, _policy(settings), self._repeats),
            road,
            parts.control,
            _pages(self._exposition, Health(__version__, parts.troubles, lambda: (*parts.warnings(), *self.notes()))),
            together(*observers),
            pulse,
            AdminApi(parts.admin) if parts.admin else None,
            told_overhead=settings.server.overhead_header,
        )

    def _gauges(self) -> Reading:
        own = {"signatures_repeated": self._repeats.count, "limits_away": self._counting.away()}
        return {**self._parts.gauges(), **own}

    async def _startup(self) -> None:
        await self._exposition.start()
        await self._counting.start()
        await self._parts.startup()

    async def _shutdown(self) -> None:
        for road in list(self._roads):
            road.cut_all()
        for pulse in list(self._pulses):
            pulse.close()
        await self._parts.shutdown()
        await self._counting.aclose()
        await self._exposition.aclose()


def _policy(settings: Settings) -> Policy:
    signing = settings.signing
    return Policy(
        regions=frozenset(signing.regions),
        services=SERVICES,
        max_skew_s=signing.max_skew_s,
        public_hosts=signing.public_hosts,
        require_host=False,  # the Node SDK signs the date and the body's hash alone
    )


def _dialects(settings: Settings, sealing: Sealing | None) -> tuple[Refusing, ...]:
    strict = settings.surface.legacy_mode == "strict"
    maas = MaasV1(strict=strict, sealing=sealing), MaasV2(strict=strict, sealing=sealing)
    return *maas, BotsV2(strict=strict), ArkV3(), ArkV3Bots(), OpenAI(), ControlForm(), AdminForm()


def _named(settings: Settings) -> frozenset[str]:
    """The dialects that take model names as well as endpoint ids."""
    surface = settings.surface
    names = {"v2": surface.v2_model_names, "v3": surface.v3_model_names, "openai": surface.openai_model_names}
    return frozenset(("v1", *(name for name, on in names.items() if on)))


def _hot(settings: Settings, app: AsgiApp) -> HotPath | None:
    return HotPath(lambda: app.server, secrets.token_bytes) if settings.server.hot_path else None


def _road(settings: Settings, parts: Parts, reserve: Reserve) -> Road:
    stream = settings.stream
    return Road(
        Router(parts.directory, parts.find_model, retired.NAMES),
        parts.ledger,
        parts.backends,
        parts.embedders,
        parts.tokenizers,
        parts.classifiers,
        reserve,
        Deadlines(stream.first_event_s, stream.next_event_s, stream.total_s),
    )


def edge_limits(settings: Settings, requests: Limits | None = None) -> EdgeLimits:
    """The section ``[edge]``; what ``requests`` limits, by that."""
    return EdgeLimits(**{**structs.asdict(settings.edge), **(structs.asdict(requests) if requests else {})})


def change_limits(settings: Settings, app: AsgiApp, config: uvicorn.Config) -> None:
    """The section ``[edge]`` as it is now, for a server that runs."""
    limits = edge_limits(settings)
    raise_descriptors(limits.connections)
    protocol = config.http_protocol_class
    assert issubclass(protocol, EdgeProtocol)
    protocol.limit(limits)
    app.limits = limits


def server_config(settings: Settings, app: AsgiApp) -> uvicorn.Config:
    """How uvicorn serves the application: uvloop, our own connections, no banner, our own log."""
    return uvicorn.Config(
        app,
        host=settings.server.host,
        port=settings.server.port,
        loop="uvloop",
        http=edge_protocol(edge_limits(settings, app.limits), app.refusal, _hot(settings, app)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.server.drain_s),
        backlog=2048,
    )


def _pages(exposition: Exposition, health: Health) -> dict[str, Page]:
    return {"livez": health.live, "readyz": health.ready, "metrics": exposition.page}
