"""Errors in OpenAI's own form: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from arkway.core import errors as e
from arkway.core.raw import ErrorReply
from arkway.wire import json
from arkway.wire.codes import Code, code_of, error_reply, sentence

_BAD = "invalid_request_error"

CODES: dict[type[e.ArkwayError], Code] = {
    e.ArkwayError: Code(500, "internal_error", "server_error"),
    e.BadRequest: Code(400, "invalid_request", _BAD),
    e.MissingField: Code(400, "missing_required_parameter", _BAD),
    e.InvalidField: Code(400, "invalid_value", _BAD),
    e.UnsupportedInput: Code(400, "unsupported_content", _BAD),
    e.ContextTooLong: Code(400, "context_length_exceeded", _BAD),
    e.Unauthenticated: Code(401, "invalid_api_key", _BAD),
    e.Forbidden: Code(403, "permission_denied", _BAD),
    e.EndpointNotFound: Code(404, "model_not_found", _BAD),
    e.EndpointStopped: Code(400, "model_not_available", _BAD),
    e.UnsupportedModel: Code(400, "unsupported_model", _BAD),
    e.RouteNotFound: Code(404, "unknown_url", _BAD),
    e.MethodNotAllowed: Code(405, "method_not_allowed", _BAD),
    e.TooLarge: Code(413, "request_too_large", _BAD),
    e.HeadTooLarge: Code(431, "headers_too_large", _BAD),
    e.UnsupportedEncoding: Code(415, "unsupported_encoding", _BAD),
    e.RequestTimeout: Code(408, "request_timeout", _BAD),
    e.Quarantined: Code(400, "request_refused", _BAD),
    e.InputBlocked: Code(400, "content_policy_violation", _BAD),
    e.OutputBlocked: Code(400, "content_filter", _BAD),
    e.RateLimited: Code(429, "rate_limit_exceeded", "requests"),
    e.TokenRateLimited: Code(429, "rate_limit_exceeded", "tokens"),
    e.QuotaExhausted: Code(403, "insufficient_quota", "insufficient_quota"),
    e.Overloaded: Code(429, "server_overloaded", "server_error"),
    e.BackendUnavailable: Code(503, "model_unavailable", "server_error"),
    e.BackendTimeout: Code(504, "timeout", "server_error"),
    e.StoreUnavailable: Code(503, "service_unavailable", "server_error"),
}


def payload(error: e.ArkwayError) -> bytes:
    """The error object; ``param`` is null when no field is at fault."""
    code = code_of(CODES, error)
    return json.dumps(
        {
            "error": {
                "message": sentence(_words(error)),
                "type": code.type,
                "param": error.field or None,
                "code": code.code,
            }
        }
    )


def _words(error: e.ArkwayError) -> str:
    """The message as this API words it: it names the parameter, since many clients show nothing else."""
    match error:
        case e.MissingField():
            return f"Missing required parameter: '{error.field}'"
        case e.InvalidField() if error.field:
            return f"Invalid value for '{error.field}': {error.message}"
        case _:
            return error.message


def reply(error: e.ArkwayError) -> ErrorReply:
    """The whole HTTP answer for an error before the stream."""
    return error_reply(CODES, error, payload(error))
