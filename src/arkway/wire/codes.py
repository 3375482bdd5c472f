"""Error class → a dialect's own code: each dialect declares a table, looked up along the class's ancestry."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from arkway.core.errors import (
    ArkwayError,
    CallerError,
    MethodNotAllowed,
    Misconfigured,
    QuotaExhausted,
    Refused,
    RequestTimeout,
)
from arkway.core.raw import ErrorReply

FINAL = (CallerError, QuotaExhausted, Misconfigured)


class Code(msgspec.Struct, frozen=True):
    """How one class of error looks in one dialect: HTTP status, code, and its type or number where it has one."""

    status: int
    code: str
    type: str = ""
    number: int = 0


def code_of(codes: Mapping[type[ArkwayError], Code], error: ArkwayError) -> Code:
    """The code of the nearest ancestor that the table knows."""
    return next(codes[kind] for kind in type(error).__mro__ if kind in codes)


def error_reply(codes: Mapping[type[ArkwayError], Code], error: ArkwayError, body: bytes) -> ErrorReply:
    """The whole HTTP answer for an error before the stream.

    ``Retry-After`` where a time is known, ``x-should-retry: false`` where trying again cannot help, ``Allow`` where
    another method would do.
    """
    headers: list[tuple[str, str]] = []
    if isinstance(error, Refused) and error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    if isinstance(error, FINAL) and not isinstance(error, RequestTimeout):
        headers.append(("x-should-retry", "false"))
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", ", ".join(error.allowed)))
    return ErrorReply(code_of(codes, error).status, body, tuple(headers))


def sentence(message: str) -> str:
    """The message with a capital letter and an end."""
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith(('.', '?')) else '.'}"
