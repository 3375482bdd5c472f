"""The ordinary way of a request: an ASGI call by uvicorn's own cycle, over our connection."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, is_ssl

from arkway.core.errors import ArkwayError
from arkway.http.asgi import FAILED
from arkway.http.edge import Fields

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, HTTPScope

    from arkway.http.protocol import EdgeProtocol

log = logging.getLogger("uvicorn.error")


def asgi_exchange(
    protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields, version: str, expects: bool
) -> AsgiExchange:
    """Begins the ASGI call of a request."""
    exchange = AsgiExchange(protocol, _scope(protocol, method, target, headers, version), expects)
    task = protocol.loop.create_task(exchange.run_asgi(protocol.config.loaded_app))
    tasks = protocol.server_state.tasks
    task.add_done_callback(tasks.discard)
    tasks.add(task)
    return exchange


class AsgiExchange(RequestResponseCycle):
    """uvicorn's cycle as an `arkway.http.edge_exchange.HotExchange`."""

    def __init__(self, protocol: EdgeProtocol, scope: HTTPScope, expects: bool) -> None:
        self._protocol = protocol
        self._failure: ArkwayError | None = None
        super().__init__(
            scope=scope,
            transport=protocol.transport,
            flow=cast(FlowControl, Flow(protocol)),
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=not protocol.closing,
            on_response=protocol.finished,
        )

    @property
    def keep_alive(self) -> bool:
        return not self._protocol.closing

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        if not value:
            self._protocol.closing = True

    async def receive(self) -> ASGIReceiveEvent:
        if self._failure is not None and not self.disconnected:
            return cast("ASGIReceiveEvent", {"type": "http.disconnect", FAILED: self._failure})
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            self._protocol.go_on()
        message = await super().receive()
        if self._failure is not None and message["type"] == "http.request":
            return await self.receive()
        return message

    def on_body(self, data: bytes) -> None:
        if self.response_complete:
            return
        self.body += data
        if len(self.body) > HIGH_WATER_LIMIT:
            self._protocol.pause_reading()
        self.message_event.set()

    def on_complete(self) -> None:
        self.more_body = False
        self.message_event.set()

    def on_refused(self, error: ArkwayError) -> None:
        self._failure = error
        self.message_event.set()

    def on_disconnect(self) -> None:
        self.disconnected = True
        self.message_event.set()
        self.on_writable()

    def on_stop(self) -> None:
        """The server cancels the task of the call."""

    def on_pause(self) -> None:
        self.flow.pause_writing()

    def on_writable(self) -> None:
        self.flow.resume_writing()


class Flow:
    """What a cycle of uvicorn asks of its flow control, by our connection's own state."""

    __slots__ = ("_protocol", "_writable")

    def __init__(self, protocol: EdgeProtocol) -> None:
        self._protocol = protocol
        self._writable: asyncio.Event | None = None

    @property
    def write_paused(self) -> bool:
        return self._protocol.paused

    async def drain(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()
        await self._writable.wait()

    def pause_writing(self) -> None:
        if self._writable is not None:
            self._writable.clear()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()

    def pause_reading(self) -> None:
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        self._protocol.resume_reading()


def _scope(protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields, version: str) -> HTTPScope:
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": protocol.config.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "server": get_local_addr(protocol.transport),
        "client": protocol.client,
        "scheme": "https" if is_ssl(protocol.transport) else "http",
        "root_path": "",
        "headers": headers,
        "state": protocol.app_state.copy(),
        "method": method.decode("ascii"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
    }
    return cast("HTTPScope", scope)
