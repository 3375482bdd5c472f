"""The settings of the edge are its limits, one for one, and what they say by themselves is what the class says."""

from __future__ import annotations

import resource

import pytest
from msgspec import structs

from arkway.app import asgi_app, edge_limits, server_config
from arkway.config import Edge, load
from arkway.http.asgi import Limits
from arkway.http.edge import CONNECTIONS_MIN, DESCRIPTORS_KEPT, EdgeLimits, capacity
from arkway.http.protocol import EdgeProtocol
from arkway.testing import MemoryLedger, ScriptedBackend, scripted_parts


def test_the_defaults_are_the_limits() -> None:
    assert structs.asdict(Edge()) == structs.asdict(EdgeLimits())


def test_every_setting_reaches_the_connections() -> None:
    changed = {name: value + 1 for name, value in structs.asdict(Edge()).items()}
    settings = load(environ={}, overrides={"home": "/nonexistent", "edge": changed})
    app = asgi_app(settings, scripted_parts(ScriptedBackend(), MemoryLedger()))
    kind = server_config(settings, app).http
    assert isinstance(kind, type)
    assert issubclass(kind, EdgeProtocol)
    assert structs.asdict(kind.edge.limits) == changed
    assert kind.header_count == changed["header_count"]
    assert app.limits == kind.edge.limits


def test_an_applications_own_limits_go_over_the_settings() -> None:
    settings = load(environ={}, overrides={"home": "/nonexistent", "edge": {"head_s": 3}})
    limits = edge_limits(settings, Limits(body_s=7))
    assert (limits.head_s, limits.body_s) == (3, 7)


@pytest.mark.parametrize("connections", [1, 20, 10_000, 1_000_000])
def test_descriptors_are_kept(connections: int) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(soft - DESCRIPTORS_KEPT, CONNECTIONS_MIN)
    assert capacity(connections) == min(connections, max(room * 4 // 5, CONNECTIONS_MIN))
