"""One request while it is being served: what has become known of it so far, for its answer and for observers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import monotonic

import msgspec

from arkway.core.caller import Caller
from arkway.core.chat import Usage
from arkway.core.errors import ArkwayError, InternalError
from arkway.core.model import Deployment
from arkway.core.raw import RawRequest
from arkway.core.transient import Transient
from arkway.flow.meter import Meter
from arkway.http.surface import Route
from arkway.ports import Adjustment, CallRecord, Outcome, Refusing

ADJUSTED_SHOWN = 32
JSON = ("content-type", "application/json; charset=utf-8")

Headers = list[tuple[str, str]]
UNUSED = Usage()


class Visit(Transient):
    """One request. ``heard_s`` is when all of it was here, on the monotonic clock, ``meter`` that of its call.

    ``deployment``: what was asked about without a call.
    """

    raw: RawRequest
    dialect: Refusing
    route: Route | None = None
    caller: Caller | None = None
    meter: Meter | None = None
    deployment: Deployment | None = None
    settled: Outcome | None = None
    status: int = 0
    error: str = ""
    stream: bool = False
    listened: bool = False
    adjusted: tuple[tuple[str, Adjustment], ...] = ()
    started_s: float = msgspec.field(default_factory=monotonic)
    heard_s: float = 0.0

    def note(self, error: Exception) -> None:
        """What went wrong, for observers: an error that is not of the tree is an internal one."""
        failure = error if isinstance(error, ArkwayError) else InternalError()
        self.error = type(failure).__name__
        self.status = self.dialect.encode_error(failure, self.raw.request_id).status

    def adjust(self, ignored: tuple[str, ...], clamped: tuple[str, ...] = ()) -> None:
        """Which of the caller's fields did not do what they say."""
        if ignored or clamped:
            self.adjusted = (*((name, "ignored") for name in ignored), *((name, "clamped") for name in clamped))

    def head(self, *headers: tuple[str, str]) -> Headers:
        """The headers every answer carries: our request id, and the client's own echoed (protocol §0 rule 12)."""
        request_id = self.raw.request_id
        common = [("x-request-id", request_id), ("x-tt-logid", request_id)]
        client_id = self.raw.headers.get("x-client-request-id")
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
        duration_s = monotonic() - self.started_s
        meter, deployment = self.meter, self.deployment
        endpoint_id = model = ""
        usage, first_token_s = UNUSED, -1.0
        if meter is not None:
            endpoint_id, model = meter.attempt.endpoint_id, meter.attempt.model
            usage, outcome = meter.spent, meter.outcome or outcome
            if meter.first_token_ms >= 0:
                first_token_s = meter.first_token_ms / 1000
        elif deployment is not None:
            endpoint_id, model = deployment.endpoint.id, deployment.card.served_name
        return CallRecord(
            self.raw.request_id,
            self.dialect.name,
            operation,
            endpoint_id,
            model,
            self.status,
            self.error,
            self.settled or outcome,
            usage,
            first_token_s,
            duration_s,
            self.stream,
            self.caller.key_id if self.caller is not None else "",
            self.adjusted,
        )


def _told(adjusted: tuple[tuple[str, Adjustment], ...]) -> Iterator[tuple[str, str]]:
    """Headers that name the fields: those that a header can hold, as many as a reader looks at."""
    for how in dict.fromkeys(effect for _, effect in adjusted):
        names = (name for name, effect in adjusted if effect == how)
        plain = (name for name in names if name.isascii() and name.isprintable() and "," not in name)
        if shown := ", ".join(islice(plain, ADJUSTED_SHOWN)):
            yield f"x-arkway-{how}", shown
