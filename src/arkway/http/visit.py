"""One request while it is being served: what has become known of it so far, for its answer and for observers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from arkway.core.caller import Caller
from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, InternalError
from arkway.core.model import Deployment
from arkway.core.raw import RawRequest
from arkway.flow.road import ChatCall, Task
from arkway.http.surface import Route
from arkway.ports import Adjustment, CallRecord, Outcome, Refusing

ADJUSTED_SHOWN = 32
JSON = ("content-type", "application/json; charset=utf-8")

Headers = list[tuple[str, str]]
AnyCall = TypeVar("AnyCall", bound=ChatCall | Task[Any])


class Visit:
    """One request. ``heard_s`` is when all of it was here, on the monotonic clock."""

    __slots__ = (
        "adjusted",
        "caller",
        "deployment",
        "dialect",
        "error",
        "first_token_s",
        "heard_s",
        "listened",
        "raw",
        "route",
        "settled",
        "started_s",
        "status",
        "stream",
        "usage",
    )

    def __init__(self, raw: RawRequest, dialect: Refusing, route: Route | None = None) -> None:
        self.raw = raw
        self.route = route
        self.dialect = dialect
        self.caller: Caller | None = None
        self.deployment: Deployment | None = None
        self.usage = Usage()
        self.first_token_s = -1.0
        self.settled: Outcome | None = None
        self.status = 0
        self.error = ""
        self.stream = False
        self.listened = False
        self.adjusted: tuple[tuple[str, Adjustment], ...] = ()
        self.started_s = self.heard_s = monotonic()

    def note(self, error: Exception) -> None:
        """What went wrong, for observers: an error that is not of the tree is an internal one."""
        failure = error if isinstance(error, ArkwayError) else InternalError()
        self.error = type(failure).__name__
        self.status = self.dialect.encode_error(failure, self.raw.request_id).status

    def adjust(self, ignored: tuple[str, ...], clamped: tuple[str, ...] = ()) -> None:
        """Which of the caller's fields did not do what they say."""
        if ignored or clamped:
            self.adjusted = (*((name, "ignored") for name in ignored), *((name, "clamped") for name in clamped))

    @contextmanager
    def of(self, call: AnyCall) -> Generator[AnyCall]:
        """What an admitted call is about, and in the end what the ledger has on record of it."""
        self.deployment = call.deployment
        try:
            yield call
        finally:
            self.close(call)

    def close(self, call: ChatCall | Task[Any]) -> None:
        """What the ledger has on record of the call."""
        self.settled = call.meter.outcome
        self.usage = call.meter.usage()
        self.first_token_s = call.meter.first_token_ms / 1000

    def head(self, *headers: tuple[str, str]) -> Headers:
        """The headers every answer carries: our request id, and the client's own echoed (protocol §0 rule 12)."""
        request_id = self.raw.request_id
        common = [("x-request-id", request_id), ("x-tt-logid", request_id)]
        client_id = self.raw.header("x-client-request-id")
        if client_id and len(client_id) <= 256 and client_id.isascii() and client_id.isprintable():
            common.append(("x-client-request-id", client_id))
        if self.adjusted:
            common.extend(_told(self.adjusted))
        common.extend(headers)
        return common

    def refusal(self, error: ArkwayError) -> tuple[int, Headers, bytes]:
        """The error as this visit's dialect answers it: status, headers, body."""
        reply = self.dialect.encode_error(error, self.raw.request_id, stream=self.stream)
        named = any(name == "content-type" for name, _ in reply.headers)
        return reply.status, self.head(*(() if named else (JSON,)), *reply.headers), reply.body

    def record(self, operation: str, outcome: Outcome) -> CallRecord:
        """For observers. Where the ledger has settled the call, its word is the outcome."""
        deployment = self.deployment
        return CallRecord(
            request_id=self.raw.request_id,
            dialect=self.dialect.name,
            operation=operation,
            endpoint_id=deployment.endpoint.id if deployment else "",
            model=deployment.card.served_name if deployment else "",
            status=self.status,
            error=self.error,
            outcome=self.settled or outcome,
            usage=self.usage,
            first_token_s=self.first_token_s,
            duration_s=monotonic() - self.started_s,
            stream=self.stream,
            key_id=self.caller.key_id if self.caller else "",
            adjusted=self.adjusted,
        )


def _told(adjusted: tuple[tuple[str, Adjustment], ...]) -> Iterator[tuple[str, str]]:
    """Headers that name the fields: those that a header can hold, as many as a reader looks at."""
    for how in dict.fromkeys(effect for _, effect in adjusted):
        names = (name for name, effect in adjusted if effect == how)
        plain = (name for name in names if name.isascii() and name.isprintable() and "," not in name)
        if shown := ", ".join(islice(plain, ADJUSTED_SHOWN)):
            yield f"x-arkway-{how}", shown
