"""One handler for every request, written against the transport seam: ``handle(RawRequest, Writer)``.

The order is fixed (``docs/internals.md``): pick, identify, read, decode, route, admit, run, encode. The first event is
pulled before the status line leaves, so that everything that can be an HTTP error is one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, cast

from arkway.core.caller import Caller
from arkway.core.errors import (
    ArkwayError,
    CallerError,
    InternalError,
    Refused,
    TooLarge,
    UnsupportedEncoding,
)
from arkway.core.raw import ClientGone, RawRequest, Tap, Writer
from arkway.flow.identify import Identity, Proof
from arkway.flow.road import Asked, ChatCall, Origin, Road
from arkway.http.admin.api import AdminApi
from arkway.http.admin.form import HEADERS as ADMIN_HEADERS
from arkway.http.answering import NO_CACHE, Answering, Over, StreamAnswer, WholeAnswer
from arkway.http.outlet import Outlet, QueuedOutlet, Source
from arkway.http.pulse import Pulse
from arkway.http.surface import Route, Surface
from arkway.http.visit import JSON, Visit
from arkway.ports import (
    Action,
    Certifying,
    Classifying,
    Control,
    Controlling,
    Dialect,
    Listing,
    Observer,
    Outcome,
    Refusing,
    Tokenizing,
)

log = logging.getLogger("arkway")

# How much of a stranger's body is read to learn whether a stream was asked for, and for how long.
STRANGER_MAX_BYTES = 1 << 20
STRANGER_MAX_S = 2.0

Page = Callable[[], Awaitable[tuple[int, str, bytes]]]


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
        *,
        told_overhead: bool = False,
    ) -> None:
        self._surface = surface
        self._identity = identity
        self._road = road
        self._control_plane = control
        self._admin_api = admin
        self._pages = pages
        self._observer = observer
        self._pulse = pulse
        self._told_overhead = told_overhead
        self._chat_routes = {
            route.path.encode(): route
            for route in surface.routes
            if route.operation == "chat" and "{}" not in route.path
        }
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

    async def refuse(self, raw: RawRequest, writer: Writer, error: ArkwayError, status: int = 0) -> None:
        """Answers a request that has no route, or that the transport already found wanting: operation ``none``.

        ``status``: what the transport sends in place of the dialect's own; 0 = that.
        """
        visit = Visit(raw, self._surface.dialect_at(raw.path).suited(raw))
        # The body is not read here, so that nobody knows: see `_body`.
        visit.stream = visit.dialect.deaf_to_status and raw.path.endswith("/chat")
        visit.note(error)
        visit.status = status or visit.status
        self._observer.started(visit.dialect.name, "none")
        self._observer.ended(visit.record("none", "refused"))
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
            self._observer.ended(visit.record(route.operation, outcome))

    async def _call(self, visit: Visit, route: Route, writer: Writer) -> None:
        raw = visit.raw
        assert route.auth != "none"
        proof = self._identity.begin(raw, route.auth)
        body = await self._body(visit, route, route.body_max_bytes, proof.tap)
        visit.heard_s = monotonic()
        visit.caller = proof.caller()
        await self._operations[route.operation](visit, self._origin(visit, visit.caller, route), body, writer)

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
        await writer.reply(*visit.refusal(error))

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
        task = await self._road.open_embed(origin, request)
        visit.meter = task.meter
        reply = await self._road.result(task)
        await self._reply(visit, writer, dialect.encode_embed(reply, request, task.tag))

    async def _tokenize(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Tokenizing, visit.dialect)
        request = dialect.decode_tokenize(origin.raw, body)
        visit.adjust(request.ignored)
        task = await self._road.open_tokenize(origin, request)
        visit.meter = task.meter
        reply = await self._road.result(task)
        await self._reply(visit, writer, dialect.encode_tokenize(reply, request, task.tag))

    async def _classify(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Classifying, visit.dialect)
        request = dialect.decode_classify(origin.raw, body)
        visit.adjust(request.ignored)
        task = await self._road.open_classify(origin, request)
        visit.meter = task.meter
        reply = await self._road.result(task)
        await self._reply(visit, writer, dialect.encode_classify(reply, request, task.tag))

    async def _certify(self, visit: Visit, origin: Origin, body: bytes, writer: Writer) -> None:
        dialect = cast(Certifying, visit.dialect)
        request = dialect.decode_cert(origin.raw, body)
        visit.deployment = self._road.certified(origin, request)
        await self._reply(
            visit, writer, dialect.encode_cert(visit.deployment, request, origin.tag(visit.deployment.card.served_name))
        )

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
        asked = self._asked(visit, origin, body)
        outlet = QueuedOutlet(writer)
        answer = self._answer(visit, await self._road.open_chat(asked), outlet, _nobody)
        await outlet.pump(answer)

    # Chat without coroutines: the same steps, for a transport that pushes

    def chat_route(self, method: bytes, target: bytes) -> Route | None:
        """The chat route that is meant, if one is and its path needs no decoding."""
        path = target.partition(b"?")[0]
        if method != b"POST" or b"%" in path:
            return None
        known = self._chat_routes.get(path)
        if known is None:
            known = self._chat_route(path)
        return known

    def _chat_route(self, path: bytes) -> Route | None:
        if not path.endswith(b"/chat"):
            return None
        try:
            route = self._surface.pick("POST", path.decode("ascii"))
        except (ArkwayError, UnicodeDecodeError):
            return None
        return route if route.operation == "chat" else None

    def begin(
        self, raw: RawRequest, route: Route, dialect: Refusing | None = None, before: Proof | None = None
    ) -> tuple[Visit, Proof]:
        """Whom a request claims to be from, before its body is read. Raises Unauthenticated, BadRequest.

        ``dialect`` and ``before`` are what came of an earlier request with such a head (`Identity.again`).
        """
        assert route.auth != "none"
        visit = Visit(raw, dialect or self._surface.dialect(route).suited(raw), route)
        if before is None:
            proof = self._identity.begin(raw, route.auth)
        else:
            proof = self._identity.again(before, raw, route.auth)
        self._observer.started(route.dialect, route.operation)
        return visit, proof

    def answer(self, visit: Visit, proof: Proof, body: bytes, outlet: Outlet) -> Source | None:
        """Answers a chat request that is all here; None = it is answered already, by an error.

        Does not wait. What a limiter has to be asked for is asked in a task.
        """
        visit.heard_s = monotonic()
        route, dialect = visit.route, visit.dialect
        assert route is not None
        try:
            visit.stream = dialect.deaf_to_status and dialect.wants_stream(body)
            visit.caller = proof.caller()
            asked = self._asked(visit, self._origin(visit, visit.caller, route), body)
            call = self._road.open_chat_nowait(asked)
            if call is None:
                return Waiting(self._opened(visit, asked, outlet))
            return self._answer(visit, call, outlet, self._over)
        except Exception as error:
            self._failed(visit, outlet, error)
            return None

    async def _opened(self, visit: Visit, asked: Asked, outlet: Outlet) -> Source | None:
        try:
            return self._answer(visit, await self._road.open_chat(asked), outlet, self._over)
        except Exception as error:
            self._failed(visit, outlet, error)
            return None

    def _asked(self, visit: Visit, origin: Origin, body: bytes) -> Asked:
        dialect: Dialect = visit.dialect  # type: ignore[assignment] # that of a route for chat
        request = dialect.decode_chat(origin.raw, body)
        visit.stream = request.stream
        asked = self._road.ask_chat(origin, request)
        request = asked.request
        if request.ignored or request.clamped:
            visit.adjust(request.ignored, request.clamped)
        return asked

    def _answer(self, visit: Visit, call: ChatCall, outlet: Outlet, over: Over) -> Answering:
        visit.meter = call.meter
        dialect: Dialect = visit.dialect  # type: ignore[assignment] # that of a route for chat
        told = self._told_overhead
        answer: Answering
        if call.request.stream:
            answer = StreamAnswer(visit, call, dialect, outlet, over, told, _pulse=self._pulse)
        else:
            answer = WholeAnswer(visit, call, dialect, outlet, over, told)
        answer.run()
        return answer

    def turn_away(self, visit: Visit, error: ArkwayError, outlet: Outlet) -> None:
        """Answers a request whose body will not come."""
        visit.stream = visit.dialect.deaf_to_status
        self._failed(visit, outlet, error)

    def left(self, visit: Visit) -> None:
        """The client left before its request was here."""
        visit.settled = "client_abort"
        self._over(visit)

    def _failed(self, visit: Visit, outlet: Outlet, error: Exception) -> None:
        """The answer to a request that came to no call."""
        if not isinstance(error, ArkwayError):
            log.exception("internal error", extra={"request_id": visit.raw.request_id})
            error = InternalError()
        visit.note(error)
        visit.settled = "refused" if isinstance(error, CallerError | Refused) else "upstream_error"
        outlet.reply(*visit.refusal(error))
        self._over(visit)

    def _over(self, visit: Visit) -> None:
        assert visit.route is not None
        self._observer.ended(visit.record(visit.route.operation, "done" if not visit.error else "upstream_error"))

    def _origin(self, visit: Visit, caller: Caller, route: Route) -> Origin:
        return Origin(visit.raw, caller, route.dialect, route.operation, route.dialect in self._surface.named)


class Waiting:
    """A call that waits for its limiter; implements `arkway.http.outlet.Source`."""

    def __init__(self, opening: Coroutine[Any, Any, Source | None]) -> None:
        self._opened: Source | None = None
        self._gone = self._stopped = self._paused = False
        self._task = asyncio.get_running_loop().create_task(self._wait(opening))

    def pause(self) -> None:
        self._paused = True
        if self._opened is not None:
            self._opened.pause()

    def resume(self) -> None:
        self._paused = False
        if self._opened is not None:
            self._opened.resume()

    def leave(self) -> None:
        """A limiter that is being asked is heard out: what it has taken has to be given back."""
        if self._opened is not None:
            self._opened.leave()
        self._gone = True

    def cut(self) -> None:
        if self._opened is not None:
            self._opened.cut()
        self._stopped = True

    async def _wait(self, opening: Coroutine[Any, Any, Source | None]) -> None:
        self._opened = await opening
        if self._opened is None:
            return
        if self._gone:
            self._opened.leave()
        elif self._stopped:
            self._opened.cut()
        elif self._paused:
            self._opened.pause()


def _nobody(visit: Visit) -> None:
    """The coroutine that serves the request tells the observers itself."""
