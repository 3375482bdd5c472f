"""Where TLS connections come in: each has its place at the edge from the moment that it is taken.

The loops' own servers tell a protocol of a connection when its handshake is over, so that those who never end theirs
would be counted nowhere. Here they are taken from the listening socket one by one, and only so many may be at it:
beyond that the oldest gives way, which of all of them has had the most time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from arkway.http.protocol import EdgeProtocol

TAKEN_AT_ONCE = 64
"""Connections that are taken in one turn of the loop."""
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
REST_S = 1.0
"""After what the system refuses for other reasons, such as want of memory."""

log = logging.getLogger("arkway")


class Handshakes:
    """Takes connections from ``listener``, which listens already, and shakes hands. Belongs to one event loop.

    ``made`` makes the protocol of one connection. ``handshake_s`` until hands are shaken, ``goodbye_s`` until a closed
    connection has said goodbye.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        made: Callable[[], EdgeProtocol],
        *,
        handshake_s: float,
        goodbye_s: float,
    ) -> None:
        self._listener, self._context, self._made = listener, context, made
        self._handshake_s, self._goodbye_s = handshake_s, goodbye_s
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._spare = -1
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._resting: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on, on this event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._go_on()

    def close(self) -> None:
        """Takes no more, and ends the handshakes that are under way: nothing has been asked on those connections."""
        if self._listener.fileno() < 0:
            return
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._under_way:
            task.cancel()
        self._drop_spare()

    def _go_on(self) -> None:
        self._keep_spare()
        self._loop.add_reader(self._listener, self._take)

    def _keep_spare(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY) if self._spare < 0 else self._spare

    def _drop_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _take(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                self._refused(error)
                return
            self._greet(connection, address)

    def _greet(self, connection: socket.socket, address: Any) -> None:
        protocol = self._made()
        protocol.edge.watch(self._loop, protocol.server_state.connections)  # type: ignore[arg-type]
        if not protocol.enter(str(address[0]) if isinstance(address, tuple) else ""):
            protocol.leave()
            connection.close()
            return
        if len(self._under_way) >= protocol.edge.handshakes_max:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._shake(connection, protocol))
        self._under_way[task] = None
        # Not within the task: one that is cancelled before it has begun runs none of its own code.
        task.add_done_callback(partial(self._ended, connection, protocol))

    async def _shake(self, connection: socket.socket, protocol: EdgeProtocol) -> None:
        connection.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=self._goodbye_s,
            )
        except OSError as error:  # those of TLS among them
            log.debug("a TLS handshake failed: %s", error)

    def _ended(self, connection: socket.socket, protocol: EdgeProtocol, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not protocol.connected:  # which it is when hands are shaken; from then on it leaves by itself
            protocol.leave()
            connection.close()

    def _refused(self, error: OSError) -> None:
        """Without any descriptor left the next one is closed, so that its client does not hang."""
        if error.errno in NO_DESCRIPTOR and self._spare >= 0:
            self._drop_spare()
            with suppress(OSError):
                self._listener.accept()[0].close()
            self._keep_spare()
            return
        log.warning("connections cannot be taken for a moment: %s", error)
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(REST_S, self._go_on)
