"""How each dialect tells of an error, from the vendors' documents and not from the dialects."""

from __future__ import annotations

from typing import NamedTuple

from arkway.core import errors as e


class Told(NamedTuple):
    """How a dialect tells of an error: HTTP status, code, and ``code_n`` where it has one."""

    status: int
    code: str
    number: int = 0


V3_TOLD: dict[type[e.ArkwayError], Told] = {
    e.InvalidField: Told(400, "InvalidParameter"),
    e.MissingField: Told(400, "MissingParameter"),
    e.NoCredentials: Told(401, "AuthenticationError"),
    e.UnknownCredentials: Told(401, "AuthenticationError"),
    e.Forbidden: Told(403, "AccessDenied"),
    e.EndpointNotFound: Told(404, "InvalidEndpointOrModel.NotFound"),
    e.EndpointStopped: Told(400, "InvalidEndpoint.ClosedEndpoint"),
    e.UnsupportedModel: Told(400, "InvalidParameter.UnsupportedModel"),
    e.RouteNotFound: Told(404, "NotFound"),
    e.MethodNotAllowed: Told(405, "MethodNotAllowed"),
    e.TooLarge: Told(413, "InvalidParameter"),
    e.HeadTooLarge: Told(431, "InvalidParameter"),
    e.UnsupportedEncoding: Told(415, "InvalidParameter"),
    e.RequestTimeout: Told(408, "RequestTimeout"),
    e.BackendUnavailable: Told(500, "InternalServiceError"),
    e.BackendFailed: Told(500, "InternalServiceError"),
    e.BackendTimeout: Told(504, "APITimeoutError"),
    e.StoreUnavailable: Told(503, "InternalServiceError"),
    e.InternalError: Told(500, "InternalServiceError"),
}
OPENAI_TOLD: dict[type[e.ArkwayError], Told] = {
    e.InvalidField: Told(400, "invalid_value"),
    e.MissingField: Told(400, "missing_required_parameter"),
    e.NoCredentials: Told(401, "invalid_api_key"),
    e.UnknownCredentials: Told(401, "invalid_api_key"),
    e.Forbidden: Told(403, "permission_denied"),
    e.EndpointNotFound: Told(404, "model_not_found"),
    e.EndpointStopped: Told(400, "model_not_available"),
    e.UnsupportedModel: Told(400, "unsupported_model"),
    e.RouteNotFound: Told(404, "unknown_url"),
    e.MethodNotAllowed: Told(405, "method_not_allowed"),
    e.TooLarge: Told(413, "request_too_large"),
    e.HeadTooLarge: Told(431, "headers_too_large"),
    e.UnsupportedEncoding: Told(415, "unsupported_encoding"),
    e.RequestTimeout: Told(408, "request_timeout"),
    e.BackendUnavailable: Told(503, "model_unavailable"),
    e.BackendFailed: Told(500, "internal_error"),
    e.BackendTimeout: Told(504, "timeout"),
    e.StoreUnavailable: Told(503, "service_unavailable"),
    e.InternalError: Told(500, "internal_error"),
}
MAAS_TOLD: dict[type[e.ArkwayError], Told] = {
    e.InvalidField: Told(400, "InvalidParameter", 1709808),
    e.MissingField: Told(400, "MissingParameter", 1709807),
    e.NoCredentials: Told(401, "MissingAuthenticationHeader", 1709804),
    e.UnknownCredentials: Told(401, "AuthenticationHeaderIsInvalid", 1709805),
    e.Forbidden: Told(401, "UnauthorizedUserForEndpoint", 1709818),
    e.EndpointNotFound: Told(400, "EndpointIsInvalid", 1709810),
    e.EndpointStopped: Told(503, "EndpointIsNotEnable", 1709811),
    e.UnsupportedModel: Told(405, "APINotSupport", 1709828),
    e.RouteNotFound: Told(405, "APINotSupport", 1709828),
    e.MethodNotAllowed: Told(405, "APINotSupport", 1709828),
    e.TooLarge: Told(413, "InvalidParameter", 1709808),
    e.HeadTooLarge: Told(431, "InvalidParameter", 1709808),
    e.UnsupportedEncoding: Told(415, "InvalidParameter", 1709808),
    e.RequestTimeout: Told(408, "RequestTimeout", 1709802),
    e.BackendUnavailable: Told(503, "ServiceConnectionRefused", 1709816),
    e.BackendFailed: Told(500, "InternalServiceError", 1709806),
    e.BackendTimeout: Told(504, "InferenceServiceConnetionTimeout", 1709803),
    e.StoreUnavailable: Told(500, "InternalServiceError", 1709806),
    e.InternalError: Told(500, "InternalServiceError", 1709806),
}
BOTS_TOLD: dict[type[e.ArkwayError], Told] = {
    **MAAS_TOLD,
    e.EndpointNotFound: Told(400, "InvalidBot", 1709808),
}
