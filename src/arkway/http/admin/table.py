"""ONE table of all operations, and the routes that follow from it."""

from __future__ import annotations

import re

from arkway.http.admin import bots, catalogue, credentials, knowledge, records, serving, tenants, upstreams
from arkway.http.admin.operations import Operation
from arkway.http.surface import KIB, Route

BODY_MAX_BYTES = 64 * KIB
# An action has nothing to say but that it is wanted: an empty body, or an empty object.
ACTION_BODY_MAX_BYTES = KIB

OPERATIONS: tuple[Operation, ...] = (
    *tenants.OPERATIONS,
    *credentials.OPERATIONS,
    *serving.OPERATIONS,
    *bots.OPERATIONS,
    *knowledge.OPERATIONS,
    *catalogue.OPERATIONS,
    *upstreams.OPERATIONS,
    *records.OPERATIONS,
)


def body_max_bytes(operation: Operation) -> int:
    """What is read of a body; 0 = none is taken."""
    if operation.upload_max_bytes:
        return operation.upload_max_bytes
    if operation.body is not None:
        return BODY_MAX_BYTES
    return 0 if operation.method in ("GET", "DELETE") else ACTION_BODY_MAX_BYTES


def route_of(operation: Operation) -> Route:
    """How a request comes to the operation."""
    path = re.sub(r"\{\w+\}", "{}", operation.full_path)
    return Route(operation.method, path, "admin", "admin", "control", body_max_bytes(operation))


ROUTES: tuple[Route, ...] = tuple(map(route_of, OPERATIONS))
BY_ROUTE: dict[tuple[str, str], Operation] = {
    (route.method, route.path): operation for route, operation in zip(ROUTES, OPERATIONS, strict=True)
}
