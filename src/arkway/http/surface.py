"""ONE table of all routes: path → dialect, operation, authentication, body limit.

Nothing else decides what a path means, and authentication is a property of the route, so that a path that is not in
this table cannot be reached unauthenticated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from arkway.core.errors import MethodNotAllowed, RouteNotFound
from arkway.ports import Refusing

Operation = Literal[
    "chat",
    "embeddings",
    "tokenization",
    "classification",
    "cert",
    "models",
    "model",
    "control",
    "admin",
    "livez",
    "readyz",
    "metrics",
]
Auth = Literal["bearer", "any", "signature", "control", "none"]

KIB = 1024
MIB = 1024 * KIB


class Route(msgspec.Struct, frozen=True):
    """One route. ``{}`` as one segment of ``path`` takes any segment. ``dialect`` is its name.

    ``auth``: an API key (``bearer``), that or a signature (``any``; for the control plane's
    service ``control``), only a ``signature``, or nothing (``none``).
    """

    method: str
    path: str
    dialect: str
    operation: Operation
    auth: Auth = "bearer"
    body_max_bytes: int = 0


ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/v1/chat", "v1", "chat", "any", 16 * MIB),
    Route("POST", "/api/v1/embeddings", "v1", "embeddings", "any", 8 * MIB),
    Route("POST", "/api/v1/tokenization", "v1", "tokenization", "any", 8 * MIB),
    Route("POST", "/api/v1/classification", "v1", "classification", "any", 8 * MIB),
    Route("POST", "/api/v1/cert", "v1", "cert", "any", MIB),
    Route("POST", "/api/v2/endpoint/{}/chat", "v2", "chat", "any", 16 * MIB),
    Route("POST", "/api/v2/endpoint/{}/embeddings", "v2", "embeddings", "any", 8 * MIB),
    Route("POST", "/api/v2/endpoint/{}/tokenization", "v2", "tokenization", "any", 8 * MIB),
    Route("POST", "/api/v2/endpoint/{}/classification", "v2", "classification", "any", 8 * MIB),
    Route("POST", "/api/v2/endpoint/{}/cert", "v2", "cert", "any", MIB),
    Route("POST", "/api/v2/bots/{}/chat", "bots", "chat", "any", 16 * MIB),
    Route("POST", "/api/v3/chat/completions", "v3", "chat", body_max_bytes=16 * MIB),
    Route("POST", "/api/v3/embeddings", "v3", "embeddings", body_max_bytes=8 * MIB),
    Route("POST", "/api/v3/tokenization", "v3", "tokenization", body_max_bytes=8 * MIB),
    Route("POST", "/api/v3/bots/chat/completions", "v3-bots", "chat", body_max_bytes=16 * MIB),
    Route("GET", "/api/v3/models", "v3", "models"),
    Route("POST", "/v1/chat/completions", "openai", "chat", body_max_bytes=16 * MIB),
    Route("POST", "/v1/embeddings", "openai", "embeddings", body_max_bytes=8 * MIB),
    Route("GET", "/v1/models", "openai", "models"),
    Route("GET", "/v1/models/{}", "openai", "model"),
    Route("POST", "/", "control", "control", "signature", MIB),
    Route("GET", "/livez", "v3", "livez", auth="none"),
    Route("GET", "/readyz", "v3", "readyz", auth="none"),
    Route("GET", "/metrics", "v3", "metrics", auth="none"),
)

PREFIXES = (
    ("/admin/", "admin"),
    ("/api/v1", "v1"),
    ("/api/v2/bots/", "bots"),
    ("/api/v2", "v2"),
    ("/v1/", "openai"),
    ("/", "v3"),
)


class Surface:
    """Looks routes up. ``dialects`` by name; ``named`` are those whose routes take model names as well as ids."""

    def __init__(self, dialects: Iterable[Refusing], named: frozenset[str], routes: tuple[Route, ...] = ROUTES) -> None:
        self._dialects = {dialect.name: dialect for dialect in dialects}
        self._exact: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._exact.setdefault(route.path, {})[route.method] = route
        self._holes = sorted({_hole(route.path) for route in routes} - {-1})
        self.named = named
        self.routes = routes

    def pick(self, method: str, path: str) -> Route:
        """The route of a request. Raises RouteNotFound, MethodNotAllowed."""
        methods = self._exact.get(path) or self._with_hole(path)
        if methods is None:
            raise RouteNotFound(path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodNotAllowed(method, path, tuple(methods))
        return route

    def _with_hole(self, path: str) -> dict[str, Route] | None:
        segments = path.split("/")
        for hole in self._holes:
            if hole < len(segments) and segments[hole]:
                methods = self._exact.get("/".join([*segments[:hole], "{}", *segments[hole + 1 :]]))
                if methods is not None:
                    return methods
        return None

    def dialect(self, route: Route) -> Refusing:
        return self._dialects[route.dialect]

    def dialect_at(self, path: str) -> Refusing:
        """Whose form an error takes at a path that may not exist."""
        if path in self._exact:
            return self._dialects[next(iter(self._exact[path].values())).dialect]
        return next(self._dialects[name] for prefix, name in PREFIXES if path.startswith(prefix) or prefix == "/")


def _hole(path: str) -> int:
    """Which segment is open; -1 = none."""
    segments = path.split("/")
    return segments.index("{}") if "{}" in segments else -1
