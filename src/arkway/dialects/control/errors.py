"""Errors as the vendor's OpenAPI gives them: a code, its number and a status (protocol §8.3, §9.3).

Numbers are those of the vendor's list of common codes where it has one (documents 6369/68677). The codes of ours that
it does not have begin at 100900: a number of zero means no error to some clients.
"""

from __future__ import annotations

from typing import Any

from arkway.core import errors as e
from arkway.wire.codes import Code, code_of, sentence

_INVALID = "InvalidParameter"
_INVALID_NUMBER = 100901
_UNAVAILABLE = Code(503, "ServiceUnavailableTemp", number=100019)
_FLOW = Code(429, "FlowLimitExceeded", number=100018)

CODES: dict[type[e.ArkwayError], Code] = {
    e.ArkwayError: Code(500, "InternalError", number=100014),
    e.BadRequest: Code(400, _INVALID, number=_INVALID_NUMBER),
    e.MissingField: Code(400, "MissingParameter", number=100002),
    e.Unauthenticated: Code(401, "InvalidAccessKey", number=100009),
    e.NoCredentials: Code(401, "MissingAuthenticationToken", number=100003),
    e.MalformedCredentials: Code(400, "InvalidAuthorization", number=100024),
    e.SignatureMismatch: Code(401, "SignatureDoesNotMatch", number=100010),
    e.SignatureExpired: Code(400, "InvalidTimestamp", number=100006),
    e.Forbidden: Code(403, "AccessDenied", number=100013),
    e.EndpointNotFound: Code(404, "ResourceNotFound", number=100902),
    e.EndpointStopped: Code(400, "OperationDenied", number=100903),
    e.UnsupportedModel: Code(400, "UnsupportedOperation", number=100904),
    e.RouteNotFound: Code(404, "InvalidActionOrVersion", number=100008),
    e.MethodNotAllowed: Code(405, "MethodNotAllowed", number=100905),
    e.TooLarge: Code(413, _INVALID, number=_INVALID_NUMBER),
    e.HeadTooLarge: Code(431, _INVALID, number=_INVALID_NUMBER),
    e.UnsupportedEncoding: Code(415, _INVALID, number=_INVALID_NUMBER),
    e.RequestTimeout: Code(408, "RequestTimeout", number=100906),
    e.Quarantined: Code(400, _INVALID, number=_INVALID_NUMBER),
    e.InputBlocked: Code(400, _INVALID, number=_INVALID_NUMBER),
    e.OutputBlocked: Code(400, _INVALID, number=_INVALID_NUMBER),
    e.RateLimited: _FLOW,
    e.QuotaExhausted: Code(403, "AccessDenied", number=100013),
    e.Overloaded: _FLOW,
    e.BackendUnavailable: _UNAVAILABLE,
    e.BackendTimeout: Code(504, "InternalServiceTimeout", number=100016),
    e.StoreUnavailable: _UNAVAILABLE,
}


def error_object(error: e.ArkwayError) -> dict[str, Any]:
    """What stands under ``ResponseMetadata.Error``."""
    code = code_of(CODES, error)
    return {"CodeN": code.number, "Code": code.code, "Message": _words(error)}


def _words(error: e.ArkwayError) -> str:
    """The reason, with the field at fault where the reason does not name it."""
    blamed = isinstance(error, e.BadRequest) and error.field and f"`{error.field}`" not in error.message
    return sentence(f"the parameter `{error.field}` is not valid: {error.message}" if blamed else error.message)
