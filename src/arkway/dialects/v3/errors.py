"""Errors in Ark v3's form (protocol §9.2, §9.3; vendor documents 82379/1299023)."""

from __future__ import annotations

from arkway.core import errors as e
from arkway.core.raw import ErrorReply
from arkway.wire import json
from arkway.wire.codes import Code, code_of, error_reply, sentence

CODES: dict[type[e.ArkwayError], Code] = {
    e.ArkwayError: Code(500, "InternalServiceError", "InternalServerError"),
    e.BadRequest: Code(400, "InvalidParameter", "BadRequest"),
    e.MissingField: Code(400, "MissingParameter", "BadRequest"),
    e.UnsupportedInput: Code(400, "InvalidParameter.UnsupportedInput", "BadRequest"),
    e.Unauthenticated: Code(401, "AuthenticationError", "Unauthorized"),
    e.Forbidden: Code(403, "AccessDenied", "Forbidden"),
    e.EndpointNotFound: Code(404, "InvalidEndpointOrModel.NotFound", "NotFound"),
    e.EndpointStopped: Code(400, "InvalidEndpoint.ClosedEndpoint", "BadRequest"),
    e.UnsupportedModel: Code(400, "InvalidParameter.UnsupportedModel", "BadRequest"),
    e.RouteNotFound: Code(404, "NotFound", "NotFound"),
    e.MethodNotAllowed: Code(405, "MethodNotAllowed", "BadRequest"),
    e.TooLarge: Code(413, "InvalidParameter", "BadRequest"),
    e.HeadTooLarge: Code(431, "InvalidParameter", "BadRequest"),
    e.UnsupportedEncoding: Code(415, "InvalidParameter", "BadRequest"),
    e.RequestTimeout: Code(408, "RequestTimeout", "BadRequest"),
    e.Quarantined: Code(400, "InvalidParameter", "BadRequest"),
    e.InputBlocked: Code(400, "InputTextSensitiveContentDetected", "BadRequest"),
    e.OutputBlocked: Code(400, "OutputTextSensitiveContentDetected", "BadRequest"),
    e.RateLimited: Code(429, "RateLimitExceeded.EndpointRPMExceeded", "TooManyRequests"),
    e.TokenRateLimited: Code(429, "RateLimitExceeded.EndpointTPMExceeded", "TooManyRequests"),
    e.QuotaExhausted: Code(403, "QuotaExceeded", "Forbidden"),
    e.Overloaded: Code(429, "ServerOverloaded", "TooManyRequests"),
    e.BackendTimeout: Code(504, "APITimeoutError", "InternalServerError"),
    e.StoreUnavailable: Code(503, "InternalServiceError", "InternalServerError"),
}


def payload(error: e.ArkwayError, request_id: str) -> bytes:
    """The error object. ``error`` is the first key, as the Go SDK needs it in streams (protocol §7.4)."""
    code = code_of(CODES, error)
    return json.dumps(
        {
            "error": {
                "code": code.code,
                "message": f"{_sentence(error)} Request id: {request_id}",
                "param": error.field,
                "type": code.type,
            }
        }
    )


def reply(error: e.ArkwayError, request_id: str) -> ErrorReply:
    """The whole HTTP answer for an error before the stream."""
    return error_reply(CODES, error, payload(error, request_id))


def _sentence(error: e.ArkwayError) -> str:
    match error:
        case e.MissingField():
            return f"The request failed because it is missing `{error.field}` parameter."
        case e.BadRequest() if error.field:
            return f"The parameter `{error.field}` specified in the request are not valid: {error.message}."
        case e.BadRequest():
            return f"One or more parameters specified in the request are not valid: {error.message}."
        case _:
            return sentence(error.message)
