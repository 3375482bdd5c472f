"""The Admin API's own form of the wire: one shape for every error, and headers that every answer carries."""

from __future__ import annotations

from typing import Self

import msgspec

from arkway.core.errors import ArkwayError, Unauthenticated
from arkway.core.raw import ErrorReply, RawRequest
from arkway.http.admin.errors import CODES, ErrorDetail, Failure
from arkway.wire.codes import code_of, error_reply, sentence

HEADERS = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""Nothing of it is kept by a cache, taken for anything but JSON, or shown in a frame. There is no header of CORS, so
that no other site's page reads anything, and no cookie is read or set."""
CHALLENGE = ("www-authenticate", 'Bearer realm="Arkway Admin API"')


class AdminForm:
    """Implements `arkway.ports.Refusing`."""

    name = "admin"
    deaf_to_status = False

    def suited(self, raw: RawRequest) -> Self:
        return self

    def wants_stream(self, body: bytes) -> bool:
        return False

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        """``{"error": {"code", "message", "field", "request_id"}}``."""
        detail = ErrorDetail(code_of(CODES, error).code, sentence(error.message), error.field, request_id)
        reply = error_reply(CODES, error, msgspec.json.encode(Failure(detail)))
        challenge = (CHALLENGE,) if isinstance(error, Unauthenticated) else ()
        return msgspec.structs.replace(reply, headers=(*reply.headers, *HEADERS, *challenge))
