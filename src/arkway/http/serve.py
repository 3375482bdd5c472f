"""One handler for every request, written against the transport seam: ``handle(RawRequest, Writer)``.

The order is fixed (``docs/internals.md``): pick, identify, read, decode, route, admit, run, encode. The first event is
pulled before the status line leaves, so that everything that can be an HTTP error is one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from itertools import islice
from time import monotonic
from typing import Any, TypeVar, cast

from arkway.core.caller import Caller
from arkway.core.chat import Usage
from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    CallerError,
    InternalError,
    Refused,
    TooLarge,
    UnsupportedEncoding,
)
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.core.raw import ClientGone, RawRequest, Tap, Writer
from arkway.flow.identify import Identity
from arkway.flow.road import ChatCall, Origin, Road, Task
from arkway.http.admin.api import AdminApi
from arkway.http.admin.form import HEADERS as ADMIN_HEADERS
from arkway.http.pulse import Beat, Pulse
from arkway.http.surface import Route, Surface
from arkway.ports import (
    Action,
    Adjustment,
    CallRecord,
    Certifying,
    Classifying,
    Control,
    Controlling,
    Dialect,
    Listing,
    Observer,
    Outcome,
    Refusing,
    StreamEncoder,
    Tokenizing,
)

log = logging.getLogger("arkway")

JSON = ("content-type", "application/json; charset=utf-8")
STREAM = ("content-type", "text/event-stream; charset=utf-8")
NO_CACHE = ("cache-control", "no-cache, no-store")
NO_BUFFER = ("x-accel-buffering", "no")
ADJUSTED_SHOWN = 32
# How much of a stranger's body is read to learn whether a stream was asked for, and for how long.
STRANGER_MAX_BYTES = 1 << 20
STRANGER_MAX_S = 2.0

AnyCall = TypeVar("AnyCall", bound=ChatCall | Task[Any])
Page = Callable[[], Awaitable[tuple[int, str, bytes]]]


class Visit:
    """One request while it is being served: what has become known of it so far."""

    __slots__ = (
        "adjusted",
        "caller",
        "deployment",
        "dialect",
        "error",
        "first_token_s",
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
        self.started_s = monotonic()

    def note(self, error: Exception) -> None:
        """What went wrong, for observers: an error that is not of the tree is an internal one."""
        failure = error if isinstance(error, ArkwayError) else InternalError()
        self.error = type(failure).__name__
        self.status = self.dialect.encode_error(failure, self.raw.request_id).status

    def adjust(self, ignored: tuple[str, ...], clamped: tuple[str, ...] = ()) -> None:
        """Which of the caller's fields did not do what they say."""
        self.adjusted = (*((name, "ignored") for name in ignored), *((name, "clamped") for name in clamped))

    @contextmanager
    def of(self, call: AnyCall) -> Generator[AnyCall]:
        """What an admitted call is about, and in the end what the ledger has on record of it."""
        self.deployment = call.deployment
        try:
            yield call
        finally:
            self.settled = call.meter.outcome
            self.usage = call.meter.usage()
            self.first_token_s = call.meter.first_token_ms / 1000

    def head(self, *headers: tuple[str, str]) -> list[tuple[str, str]]:
        """The headers every answer carries: our request id, and the client's own echoed (protocol §0 rule 12)."""
        common = [("x-request-id", self.raw.request_id), ("x-tt-logid", self.raw.request_id)]
        client_id = self.raw.header("x-client-request-id")
        if client_id and len(client_id) <= 256 and client_id.isascii() and client_id.isprintable():
            common.append(("x-client-request-id", client_id))
        return [*common, *_told(self.adjusted), *headers]


class Server:
    """Serves every route of a surface. ``pages`` are the operator's routes (health, metrics), by operation."""

    def __init__(
        self,
        surface: Surface,
        identity: Identity,
        road: Road,
        control: Control,
        pages: Mapping[str, Page],
        observer: Observer,
        pulse: Pulse,
        admin: AdminApi | None = None,
    ) -> None:
        self._surface = surface
        self._identity = identity
        self._road = road
        self._control_plane = control
        self._admin_api = admin
        self._pages = pages
        self._observer = observer
        self._pulse = pulse
        self._operations: dict[str, Callable[[Visit, Origin, bytes, Writer], Awaitable[None]]] = {
            "chat": self._chat,
            "embeddings": self._embed,
            "tokenization": self._tokenize,
            "classification": self._classify,
            "cert": self._certify,
            "models": self._models,
            "model": self._model,
            "control": self._control,
            "admin": self._admin,
        }

    async def handle(self, raw: RawRequest, writer: Writer) -> None:
        """Answers one request, whatever happens; raises ClientGone once the client has left."""
        try:
            route = self._surface.pick(raw.method, raw.path)
        except ArkwayError as error:
            await self.refuse(raw, writer, error)
            return
        visit = Visit(raw, self._surface.dialect(route).suited(raw), route)
        try:
            await self._serve(visit, route, writer)
        except ArkwayError as error:
            await self._listen(visit, route)
            await self._refuse(visit, writer, error)
        except ClientGone:
            raise
        except Exception:
            log.exception("internal error", extra={"request_id": raw.request_id})
            await self._refuse(visit, writer, InternalError())

    async def refuse(self, raw: RawRequest, writer: Writer, error: ArkwayError) -> None:
        """Answers a request that has no route, or that the transport already found wanting: operation ``none``."""
        visit = Visit(raw, self._surface.dialect_at(raw.path).suited(raw))
        # The body is not read here, so that nobody knows: see `_body`.
        visit.stream = visit.dialect.deaf_to_status and raw.path.endswith("/chat")
        visit.note(error)
        self._observer.started(visit.dialect.name, "none")
        self._observer.ended(_record(visit, "none", "refused"))
        await self._refuse(visit, writer, error)

    async def _serve(self, visit: Visit, route: Route, writer: Writer) -> None:
        if route.auth == "none":
            await self._page(visit, route, writer)
            return
        self._observer.started(route.dialect, route.operation)
        outcome: Outcome = "client_abort"
        try:
            await self._call(visit, route, writer)
            outcome = "done" if not visit.error else "upstream_error"
        except ClientGone:
            raise
        except Exception as error:
            outcome = "refused" if isinstance(error, CallerError | Refused) else "upstream_error"
            visit.note(error)
            raise
        finally:
            # Where the ledger has settled the call, its word is the outcome: log and ledger never disagree.
            self._observer.ended(_record(visit, route.operation, visit.settled or outcome))

    async def _call(self, visit: Visit, route: Route, writer: Writer) -> None:
        raw = visit.raw
        assert route.auth != "none"
        proof = self._identity.begin(raw, route.auth)
        body = await self._body(visit, route, route.body_max_bytes, proof.tap)
        visit.caller = proof.caller()
        origin = Origin(raw, visit.caller, route.dialect, route.operation, route.dialect in self._surface.named)
        await self._operations[route.operation](visit, origin, body, writer)

    async def _listen(self, visit: Visit, route: Route) -> None:
        """For a client that sees no status: does the body that nobody has begun to read ask for a stream?"""
        if not visit.dialect.deaf_to_status or visit.listened or route.operation != "chat":
            return
        visit.stream = True  # until the body says otherwise: see `_body`
        if not visit.raw.header("expect"):
            with suppress(ArkwayError, TimeoutError):
                async with asyncio.timeout(STRANGER_MAX_S):
                    await self._body(visit, route, min(route.body_max_bytes, STRANGER_MAX_BYTES))

    async def _body(self, visit: Visit, route: Route, limit_bytes: int, tap: Tap | None = None) -> bytes:
        """The body; of a client that sees no status, what it asks for is noted, even where it cannot be decoded.

        Until the whole body is here, a stream: a frame is an error to a client that wants no stream, and nothing is an
        answer to one that does.
        """
        raw, visit.listened = visit.raw, True
        visit.stream = visit.dialect.deaf_to_status and route.operation == "chat"
        encoding = raw.header("content-encoding")
        if encoding and encoding.lower() != "identity":
            raise UnsupportedEncoding(encoding)
        length = raw.header("content-length")
        if limit_bytes and length.isdecimal() and int(length) > limit_bytes:
            raise TooLarge(limit_bytes)
        body = await raw.receive(limit_bytes, tap) if limit_bytes else b""
        visit.stream = visit.stream and visit.dialect.wants_stream(body)
        return body

    async def _refuse(self, visit: Visit, writer: Writer, error: ArkwayError) -> None:
        reply = visit.dialect.encode_error(error, visit.raw.request_id, stream=visit.stream)
        named = any(name == "content-type" for name, _ in reply.headers)
        await writer.reply(reply.status, visit.head(*(() if named else (JSON,)), *reply.headers), reply.body)

    async def _reply(self, visit: Visit, writer: Writer, body: bytes) -> None:
        visit.status = 200
        await writer.reply(200, visit.head(JSON), body)

    async def _page(self, visit: Visit, route: Route, writer: Writer) -> None:
        status, content_type, body = await self._pages[route.operation]()
        await writer.reply(status, visit.head(("content-type", content_type), NO_CACHE), body)

    async def _models(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        listing = cast(Listing, visit.dialect)
        await self._reply(visit, writer, listing.encode_models(self._road.deployments(origin.caller)))

    async def _model(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        listing = cast(Listing, visit.dialect)
        name = visit.raw.path.rpartition("/")[2]
        await self._reply(visit, writer, listing.encode_models(self._road.deployments(origin.caller), name))

    async def _embed(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Dialect, visit.dialect)
        request = dialect.decode_embed(origin.raw, body)
        visit.adjust(request.ignored)
        with visit.of(await self._road.open_embed(origin, request)) as task:
            reply = await self._road.result(task)
            await self._reply(visit, writer, dialect.encode_embed(reply, request, task.tag))

    async def _tokenize(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Tokenizing, visit.dialect)
        request = dialect.decode_tokenize(origin.raw, body)
        visit.adjust(request.ignored)
        with visit.of(await self._road.open_tokenize(origin, request)) as task:
            reply = await self._road.result(task)
            await self._reply(visit, writer, dialect.encode_tokenize(reply, request, task.tag))

    async def _classify(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Classifying, visit.dialect)
        request = dialect.decode_classify(origin.raw, body)
        visit.adjust(request.ignored)
        with visit.of(await self._road.open_classify(origin, request)) as task:
            reply = await self._road.result(task)
            await self._reply(visit, writer, dialect.encode_classify(reply, request, task.tag))

    async def _certify(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Certifying, visit.dialect)
        request = dialect.decode_cert(origin.raw, body)
        visit.deployment = self._road.certified(origin, request)
        await self._reply(visit, writer, dialect.encode_cert(visit.deployment, request, origin.tag(visit.deployment)))

    async def _control(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        raw, dialect = origin.raw, cast(Controlling, visit.dialect)
        action = Action(dialect.action, dialect.version, body, origin.caller, raw.request_id, raw.now_ms)
        done = await self._control_plane.perform(action)
        visit.adjust(done.ignored, done.clamped)
        await self._reply(visit, writer, dialect.encode_result(done.result, raw.request_id))

    async def _admin(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        assert self._admin_api is not None
        assert visit.route is not None
        status, answer = await self._admin_api.perform(visit.route, origin.raw, origin.caller, body)
        visit.status = status
        await writer.reply(status, visit.head(JSON, *ADMIN_HEADERS), answer)

    async def _chat(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Dialect, visit.dialect)
        request = dialect.decode_chat(origin.raw, body)
        visit.stream = request.stream
        with visit.of(await self._road.open_chat(origin, request)) as call:
            visit.adjust(call.request.ignored, call.request.clamped)
            if request.stream:
                await self._stream(visit, call, writer)
            else:
                reply = await self._road.reply(call)
                await self._reply(visit, writer, dialect.encode_chat(reply, request, call.tag))

    async def _stream(self, visit: Visit, call: ChatCall, writer: Writer) -> None:
        async with aclosing(self._road.events(call)) as events:
            first = await anext(events, None)
            if first is None:
                raise BackendFailed("the model gave no answer")
            visit.status = 200
            await writer.start(200, visit.head(STREAM, NO_CACHE, NO_BUFFER))
            encoder = cast(Dialect, visit.dialect).stream(call.request, call.tag)
            beat = Beat(writer, encoder.heartbeat)
            self._pulse.add(beat)
            try:
                end = await self._relay(visit, call, first, events, encoder, beat)
            finally:
                self._pulse.remove(beat)
            await writer.write(end)
            await writer.finish()

    async def _relay(
        self,
        visit: Visit,
        call: ChatCall,
        first: Event,
        events: AsyncGenerator[Event, None],
        encoder: StreamEncoder,
        beat: Beat,
    ) -> bytes:
        """Passes events on until they end; gives back the stream's last bytes, by then settled."""
        try:
            if data := encoder.feed(first):
                await beat.write(data)
            async for event in events:
                if data := encoder.feed(event):
                    await beat.write(data)
        except ArkwayError as error:
            visit.error = type(error).__name__
            return encoder.fail(error)
        except ClientGone:
            raise
        except Exception:
            log.exception("internal error in a stream", extra={"request_id": visit.raw.request_id})
            visit.error = InternalError.__name__
            return encoder.fail(InternalError())
        return encoder.close(call.meter.usage())


def _record(visit: Visit, operation: str, outcome: Outcome) -> CallRecord:
    deployment = visit.deployment
    return CallRecord(
        request_id=visit.raw.request_id,
        dialect=visit.dialect.name,
        operation=operation,
        endpoint_id=deployment.endpoint.id if deployment else "",
        model=deployment.card.served_name if deployment else "",
        status=visit.status,
        error=visit.error,
        outcome=outcome,
        usage=visit.usage,
        first_token_s=visit.first_token_s,
        duration_s=monotonic() - visit.started_s,
        stream=visit.stream,
        key_id=visit.caller.key_id if visit.caller else "",
        adjusted=visit.adjusted,
    )


def _told(adjusted: tuple[tuple[str, Adjustment], ...]) -> Iterator[tuple[str, str]]:
    """Headers that name the fields: those that a header can hold, as many as a reader looks at."""
    for how in dict.fromkeys(effect for _, effect in adjusted):
        names = (name for name, effect in adjusted if effect == how)
        plain = (name for name in names if name.isascii() and name.isprintable() and "," not in name)
        if shown := ", ".join(islice(plain, ADJUSTED_SHOWN)):
            yield f"x-arkway-{how}", shown
