"""Everything that can go wrong with a call, as one tree.

::

    ArkwayError
    ├── CallerError                 the caller can mend it
    │   ├── BadRequest(field)       a field or the body is wrong
    │   │   ├── MissingField        a required field is absent
    │   │   ├── InvalidField        a field is out of its type, range or form
    │   │   ├── UnsupportedInput    the model cannot take this kind of input
    │   │   └── ContextTooLong      prompt and answer do not fit the model's context
    │   ├── Unauthenticated         who calls is not proven
    │   │   ├── NoCredentials       nothing was sent
    │   │   ├── MalformedCredentials  what was sent cannot be read, or is not for this service
    │   │   ├── UnknownCredentials  an API key or access key that does not exist, was revoked or has expired
    │   │   ├── SignatureMismatch   a signature that is not the one of this request
    │   │   └── SignatureExpired    a signature made too long ago, or in the future
    │   ├── Forbidden               known caller, not allowed to
    │   ├── EndpointNotFound        no such endpoint or model (for this caller)
    │   ├── EndpointStopped         it exists and is switched off
    │   ├── UnsupportedModel        the model does not offer this operation
    │   ├── RouteNotFound           no such path
    │   ├── MethodNotAllowed        the path exists, the method does not
    │   ├── TooLarge                the body is over its limit
    │   ├── HeadTooLarge            the request line or the headers are over their limit
    │   ├── UnsupportedEncoding     a Content-Encoding we do not take
    │   ├── RequestTimeout          the body did not arrive in time
    │   ├── Quarantined             this very request has brought the engine down before
    │   ├── InputBlocked(field)     moderation does not let the request's text pass
    │   └── OutputBlocked           moderation has stopped the answer
    ├── Refused                     right request, wrong moment
    │   ├── RateLimited(retry_after_s)  too many requests, in a minute or at a time
    │   │   └── TokenRateLimited        too many tokens in a minute
    │   ├── QuotaExhausted
    │   └── Overloaded(retry_after_s)
    └── PlatformError               ours to mend
        ├── BackendUnavailable      nothing serves this endpoint just now
        ├── BackendFailed           it broke while serving
        ├── BackendTimeout          it did not answer in time
        ├── StoreUnavailable        the database or the ledger does not take writes
        ├── Misconfigured           the operator has to change something
        └── InternalError           a defect; the request id finds it in the log

A message says what was wrong, where, and how to mend it, and is safe to show to the caller. Adapters translate library
errors into this tree at their own edge; each dialect maps the classes to its codes (``docs/errors.md``). A client that
left is an outcome (``cancelled``), not an error.
"""

from __future__ import annotations


class ArkwayError(Exception):
    """Root of the tree. ``message`` is safe to show; ``field`` is the wire path at fault, or ``""``."""

    field: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CallerError(ArkwayError):
    """The caller can mend it."""


class BadRequest(CallerError):
    """A field (named by its path on the wire, e.g. ``messages[2].role``) or the whole body (``""``) is wrong."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class MissingField(BadRequest):
    """A required field is absent or null."""

    def __init__(self, field: str) -> None:
        super().__init__(f"the field `{field}` is required", field)


class InvalidField(BadRequest):
    """A field is not of its type, out of its range, or contradicts another one."""


class UnsupportedInput(BadRequest):
    """The model cannot take this kind of input, such as an image sent to a text-only model."""


class ContextTooLong(BadRequest):
    """Prompt plus requested answer do not fit into the model's context; found before any prefill."""

    def __init__(self, prompt_tokens: int, answer_tokens: int, context_tokens: int, field: str = "messages") -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the answer may take {answer_tokens}, "
            f"but the model's context holds {context_tokens}; shorten the messages or lower the answer's limit",
            field,
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class Unauthenticated(CallerError):
    """Who calls is not proven."""


class NoCredentials(Unauthenticated):
    """Nothing was sent that could prove it; the message says what this route takes."""

    def __init__(self, wanted: str = "send the header `Authorization: Bearer <API key>`") -> None:
        super().__init__(f"no credentials were sent; {wanted}")


class MalformedCredentials(Unauthenticated):
    """The credentials cannot be read, or are made for another service, region or scheme; the message says which."""


class UnknownCredentials(Unauthenticated):
    """Unknown, revoked and expired keys get one and the same answer; ``what`` is ``API key`` or ``access key``."""

    def __init__(self, what: str = "API key") -> None:
        super().__init__(f"the {what} does not exist, was revoked or has expired")


class SignatureMismatch(Unauthenticated):
    """The signature is not the one of this request under this key. Never tells what it should have been."""


class SignatureExpired(Unauthenticated):
    """The signature's date is outside the window; the message gives both clocks."""


class Forbidden(CallerError):
    """The caller is known and may not do this."""


class EndpointNotFound(CallerError):
    """No endpoint or model of that name for this caller; ``near`` holds names that look like it."""

    field = "model"

    def __init__(self, asked: str, near: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
        super().__init__(f"the model or endpoint `{asked[:128]}` does not exist or you do not have access to it{hint}")
        self.asked = asked
        self.near = near


class EndpointStopped(CallerError):
    """The endpoint exists and has been switched off by its owner."""

    field = "model"

    def __init__(self, asked: str) -> None:
        super().__init__(f"the endpoint `{asked}` is stopped; its owner can start it again")


class UnsupportedModel(CallerError):
    """The model behind the endpoint does not offer this operation (chat sent to an embedding model)."""

    field = "model"

    def __init__(self, asked: str, operation: str) -> None:
        super().__init__(f"the model behind `{asked}` does not support {operation}")
        self.operation = operation


class RouteNotFound(CallerError):
    """No such path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no route `{path[:256]}`")


class MethodNotAllowed(CallerError):
    """The path exists, the method does not; ``allowed`` lists those that do."""

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"`{path[:256]}` does not take {method[:16]}; use {' or '.join(allowed)}")
        self.allowed = allowed


class TooLarge(CallerError):
    """The body is larger than this operation takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than the limit of {limit_bytes} bytes")


class HeadTooLarge(CallerError):
    """The request line or the headers are larger than is taken."""


class UnsupportedEncoding(CallerError):
    """A compressed request body: refused, because it can unpack to any size."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"Content-Encoding `{encoding[:64]}` is not taken; send the body uncompressed")


class RequestTimeout(CallerError):
    """The request did not arrive completely in time."""


class Quarantined(CallerError):
    """This very request has brought the engine down before and is refused until the server restarts."""


class InputBlocked(CallerError):
    """Moderation does not let the text of the request pass; ``field`` is the message at fault, e.g. ``messages[2]``."""

    def __init__(self, field: str = "messages") -> None:
        super().__init__("the request failed because the input text may contain sensitive information")
        self.field = field


class OutputBlocked(CallerError):
    """Moderation has stopped the answer; for the forms that have no finish reason for it."""

    def __init__(self) -> None:
        super().__init__("the request failed because the output text may contain sensitive information")


class Refused(ArkwayError):
    """A right request at the wrong moment."""

    retry_after_s: float | None = None


class RateLimited(Refused):
    """Too many requests in a minute, or at a time; come back after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TokenRateLimited(RateLimited):
    """Too many tokens in a minute."""


class QuotaExhausted(Refused):
    """A quota or budget is spent; trying again does not help."""


class Overloaded(Refused):
    """The waiting line is full, or the wait was longer than allowed."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PlatformError(ArkwayError):
    """Ours to mend."""


class BackendUnavailable(PlatformError):
    """Nothing serves this endpoint just now."""


class BackendFailed(PlatformError):
    """The backend broke while serving."""


class BackendTimeout(PlatformError):
    """The backend did not answer in time."""


class StoreUnavailable(PlatformError):
    """The database or the ledger does not take writes."""


class Misconfigured(PlatformError):
    """The operator has to change something; the message says what."""


class InternalError(PlatformError):
    """A defect. The caller sees no detail; the request id finds it in the log."""

    def __init__(self) -> None:
        super().__init__("an internal error occurred; the request id finds it in the server's log")


def leaves(root: type[ArkwayError] = ArkwayError) -> tuple[type[ArkwayError], ...]:
    """Every class of this module that can be raised: those without subclasses here, BadRequest and RateLimited."""
    found: list[type[ArkwayError]] = [root] if root in (BadRequest, RateLimited) else []
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            found.extend(leaves(child) or (child,))
    return tuple(found)
