"""Errors in the MaaS shape: ``{"req_id", "error": {"code", "code_n", "message"}}`` (protocol §9.1, §9.3).

``code_n`` is never zero, or some clients take the error for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arkway.core import errors as e
from arkway.core.raw import ErrorReply
from arkway.wire import json, sse
from arkway.wire.codes import Code, code_of, error_reply, sentence

_INVALID = "InvalidParameter"
_HEADER = "AuthenticationHeaderIsInvalid"
_DEFECT = Code(500, "InternalServiceError", number=1709806)
_NO_SUCH_OPERATION = Code(405, "APINotSupport", number=1709828)

Codes = Mapping[type[e.ArkwayError], Code]

CODES: Codes = {
    e.ArkwayError: _DEFECT,
    e.BadRequest: Code(400, _INVALID, number=1709808),
    e.MissingField: Code(400, "MissingParameter", number=1709807),
    e.Unauthenticated: Code(401, _HEADER, number=1709805),
    e.NoCredentials: Code(401, "MissingAuthenticationHeader", number=1709804),
    e.SignatureMismatch: Code(401, "SignatureDoesNotMatch", number=1709801),
    e.SignatureExpired: Code(401, "AuthenticationExpire", number=1709809),
    e.Forbidden: Code(401, "UnauthorizedUserForEndpoint", number=1709818),
    e.EndpointNotFound: Code(400, "EndpointIsInvalid", number=1709810),
    e.EndpointStopped: Code(503, "EndpointIsNotEnable", number=1709811),
    e.UnsupportedModel: _NO_SUCH_OPERATION,
    e.RouteNotFound: _NO_SUCH_OPERATION,
    e.MethodNotAllowed: _NO_SUCH_OPERATION,
    e.TooLarge: Code(413, _INVALID, number=1709808),
    e.HeadTooLarge: Code(431, _INVALID, number=1709808),
    e.UnsupportedEncoding: Code(415, _INVALID, number=1709808),
    e.RequestTimeout: Code(408, "RequestTimeout", number=1709802),
    e.Quarantined: Code(400, _INVALID, number=1709808),
    e.InputBlocked: Code(400, "ReqTextExistRisk", number=1709813),
    e.OutputBlocked: Code(400, "RespTextExistRisk", number=1709814),
    e.RateLimited: Code(429, "EndpointAccountRpmRateLimitExceeded", number=1709820),
    e.TokenRateLimited: Code(429, "EndpointAccountTpmRateLimitExceeded", number=1709821),
    e.QuotaExhausted: Code(403, "OperationDenied", number=1709835),
    e.Overloaded: Code(412, "ServiceResourceWaitQueueFull", number=1709822),
    e.BackendUnavailable: Code(503, "ServiceConnectionRefused", number=1709816),
    # The spelling is the vendor's.
    e.BackendTimeout: Code(504, "InferenceServiceConnetionTimeout", number=1709803),
}
NO_EMBEDDINGS = Code(405, "ModelNotSupportEmbeddings", number=1709829)

_VENDOR_SENTENCES = {
    1709801: "Request signature we calculated does not match the signature you provided",
    1709807: "The request is missing parameter",
    1709808: "A parameter specified in the request is not valid",
    1709810: "The specific endpoint is not exist or invalid",
    1709820: "RPM (Requests Per Minute) limit of the account is exceeded",
    1709821: "TPM (Tokens Per Minute) limit of the account is exceeded",
}


def code(error: e.ArkwayError, codes: Codes = CODES) -> Code:
    """HTTP status, code and number of an error."""
    if isinstance(error, e.UnsupportedModel) and error.operation == "embeddings":
        return NO_EMBEDDINGS
    return code_of(codes, error)


def payload(error: e.ArkwayError, request_id: str, shown_id: str, codes: Codes = CODES) -> bytes:
    """The error object. ``shown_id`` is its ``req_id``, empty = none; ``request_id``, ours, ends the message."""
    found = code(error, codes)
    body: dict[str, Any] = {"req_id": shown_id} if shown_id else {}
    body["error"] = {
        "code": found.code,
        "code_n": found.number,
        "message": f"{sentence(_words(error, found))} Request ID: {request_id}",
    }
    return json.dumps(body)


def reply(error: e.ArkwayError, body: bytes, codes: Codes = CODES) -> ErrorReply:
    """The whole HTTP answer for an error before the stream."""
    return error_reply(codes, error, body)


def framed(answer: ErrorReply) -> ErrorReply:
    """As a frame, for a client that reads frames whatever the status says (protocol §0 rule 7)."""
    return ErrorReply(
        answer.status,
        sse.tight(answer.body),
        (*answer.headers, ("content-type", "text/event-stream; charset=utf-8")),
    )


def _words(error: e.ArkwayError, found: Code) -> str:
    """The vendor's sentence, if it has one, and the precise reason with the field at fault."""
    blamed = isinstance(error, e.BadRequest) and error.field and f"`{error.field}`" not in error.message
    reason = f"`{error.field}`: {error.message}" if blamed else error.message
    vendor = _VENDOR_SENTENCES.get(found.number)
    return f"{vendor}: {reason}" if vendor else reason
