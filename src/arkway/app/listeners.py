"""Where the server listens: plain HTTP, and HTTPS beside it where that is wanted, both over one application."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
import time
from pathlib import Path

import uvicorn

from arkway.config import Settings
from arkway.core.errors import Misconfigured
from arkway.http.edge import Edge, raise_descriptors
from arkway.http.handshakes import Handshakes
from arkway.http.protocol import EdgeProtocol

log = logging.getLogger("arkway")

HANDSHAKE_S = 10.0
"""How long a client may take to agree on a key."""
GOODBYE_S = 2.0
"""How long a closed TLS connection waits for the client's own goodbye."""


UNSENT_BYTES = 128 * 1024
"""What the kernel keeps for one connection beyond what its client has room for."""


class Https:
    """A bound socket, and what to show there: a connection that begins is shown the newest certificate."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self.listener = listener
        self.context = self._shown = context
        # Called at the beginning of every handshake, with or without a name in it.
        context.sni_callback = self._show

    def show(self, context: ssl.SSLContext) -> None:
        """From now on."""
        self._shown = context

    def _show(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._shown


class TwoListeners(uvicorn.Server):
    """uvicorn's server with a second listener that speaks TLS.

    Both take connections into one server state: one lifespan, one drain, one count of connections.
    """

    def __init__(self, config: uvicorn.Config, https: Https | None = None) -> None:
        super().__init__(config)
        self._https = https
        self._handshakes: Handshakes | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        edge = _edge(self.config)
        raise_descriptors(edge.limits.connections)
        await super().startup(sockets)
        if not self.started:
            return
        for server in self.servers:
            for listener in server.sockets:
                _spare_the_kernel(listener, edge.limits.write_stall_s)
        if self._https is not None:
            _spare_the_kernel(self._https.listener, edge.limits.write_stall_s)
            self._handshakes = self._shake_hands(self._https)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Calls that are no tasks are not cancelled with the others when the time is over.
        patience_s = self.config.timeout_graceful_shutdown or 0
        cut = asyncio.get_running_loop().call_later(patience_s, self.cut)
        if self._handshakes is not None:
            self._handshakes.close()
        await super().shutdown(sockets)
        cut.cancel()

    def cut(self) -> None:
        """Ends what is being answered without a task: it is not waited for any longer."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, EdgeProtocol):
                try:
                    connection.cut()
                except Exception:
                    log.exception("internal error while the server stops")

    def _shake_hands(self, https: Https) -> Handshakes:
        https.listener.listen(self.config.backlog)
        taking = Handshakes(https.listener, https.context, self._protocol, handshake_s=HANDSHAKE_S, goodbye_s=GOODBYE_S)
        taking.begin()
        return taking

    def _protocol(self) -> EdgeProtocol:
        """One connection, made as uvicorn makes its own."""
        made = self.config.http_protocol_class
        assert issubclass(made, EdgeProtocol)
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _edge(config: uvicorn.Config) -> Edge:
    if not config.loaded:
        config.load()
    protocol = config.http_protocol_class
    assert issubclass(protocol, EdgeProtocol)
    return protocol.edge


def _spare_the_kernel(listener: socket.socket, patience_s: float) -> None:
    """For connections taken from here on: little is kept in the kernel for a client that does not read, and not long.

    Without it megabytes are, of which the process itself learns nothing (Linux, tcp(7)).
    """
    if listener.family in (socket.AF_INET, socket.AF_INET6) and sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(patience_s * 1000)))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """What the HTTPS listener shows: the files that the settings name, else those of ``arkway tls init``.

    Of the latter the certificate is renewed first where that is due. Raises Misconfigured.
    """
    # Loads cryptography, which a server without TLS can start without.
    from arkway.takeover.authority import files, renew
    from arkway.takeover.listening import server_context

    named = settings.tls
    if bool(named.certificate) != bool(named.key):
        raise Misconfigured("`tls.certificate` and `tls.key` belong together: set both, or neither")
    if named.certificate:
        return server_context(Path(named.certificate).expanduser(), Path(named.key).expanduser())
    renew(settings.home, int(time.time()))
    own = files(settings.home)
    return server_context(own.server, own.server_key)
