"""Where the server listens: plain HTTP, and HTTPS beside it where that is wanted, both over one application."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import uvicorn

from arkway.config import Settings
from arkway.core.errors import Misconfigured

HANDSHAKE_S = 10.0
"""How long a client may take to agree on a key."""
GOODBYE_S = 2.0
"""How long a closed TLS connection waits for the client's own goodbye."""


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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._https is not None:
            self.servers.append(await self._listen(self._https))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._https is not None:
            self._https.listener.close()

    async def _listen(self, https: Https) -> asyncio.base_events.Server:
        return await asyncio.get_running_loop().create_server(
            self._protocol,
            sock=https.listener,
            ssl=https.context,
            backlog=self.config.backlog,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )

    def _protocol(self) -> asyncio.Protocol:
        """One connection, made as uvicorn makes its own."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


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
