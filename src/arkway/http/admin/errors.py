"""What goes wrong in the Admin API: its own kinds of errors, and the one table of statuses and codes."""

from __future__ import annotations

import msgspec

from arkway.core import errors as e
from arkway.wire.codes import Code

SHOWN_CHARACTERS = 128


class NotFound(e.CallerError):
    """Nothing of that name for this caller: unknown and somebody else's get one and the same answer."""

    def __init__(self, kind: str, asked: str) -> None:
        super().__init__(f"the {kind} `{asked[:SHOWN_CHARACTERS]}` does not exist or you do not have access to it")


class Conflict(e.CallerError):
    """What is there already, or its state, does not allow it."""


class UnsupportedMediaType(e.CallerError):
    """A body that does not say that it is JSON."""

    def __init__(self) -> None:
        super().__init__("the body has to be JSON; send it with `Content-Type: application/json`")


class ErrorDetail(msgspec.Struct, frozen=True):
    """``message`` is for people; ``field`` is the path of what was wrong, empty where it is not one field."""

    code: str
    message: str
    field: str
    request_id: str


class Failure(msgspec.Struct, frozen=True):
    """What every answer is that is not a success."""

    error: ErrorDetail


CODES: dict[type[e.ArkwayError], Code] = {
    e.ArkwayError: Code(500, "InternalError"),
    e.BadRequest: Code(400, "InvalidParameter"),
    e.MissingField: Code(400, "MissingParameter"),
    e.Unauthenticated: Code(401, "AuthenticationError"),
    e.Forbidden: Code(403, "AccessDenied"),
    e.EndpointNotFound: Code(404, "NotFound"),
    NotFound: Code(404, "NotFound"),
    e.RouteNotFound: Code(404, "RouteNotFound"),
    e.MethodNotAllowed: Code(405, "MethodNotAllowed"),
    e.RequestTimeout: Code(408, "RequestTimeout"),
    Conflict: Code(409, "Conflict"),
    e.TooLarge: Code(413, "RequestTooLarge"),
    e.UnsupportedEncoding: Code(415, "UnsupportedMediaType"),
    UnsupportedMediaType: Code(415, "UnsupportedMediaType"),
    e.HeadTooLarge: Code(431, "RequestTooLarge"),
    e.InputBlocked: Code(400, "InvalidParameter"),
    e.OutputBlocked: Code(400, "InvalidParameter"),
    e.Refused: Code(429, "RateLimitExceeded"),
    e.QuotaExhausted: Code(403, "AccessDenied"),
    e.Overloaded: Code(503, "ServiceUnavailable"),
    e.BackendUnavailable: Code(503, "ServiceUnavailable"),
    e.StoreUnavailable: Code(503, "ServiceUnavailable"),
    e.Misconfigured: Code(503, "Misconfigured"),
}
