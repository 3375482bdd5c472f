"""A TCP proxy that hands the server's bytes on one by one.

What a client sends goes through untouched, its Host header too (signatures cover it), so neither side knows of the
proxy: the client is given `DripProxy.url` where it would be given the server's.

::

    with DripProxy(server.url) as proxy:
        client = Ark(base_url=proxy.url + "/api/v3", api_key=server.api_key)
"""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from urllib.parse import urlsplit

PIECE_BYTES = 65536
# Long enough for the reader to wake up in between, or the kernel would hand it several bytes at once.
PAUSE_S = 0.0001


class DripProxy:
    """Listens on a free loopback port for as long as the block lasts; ``sent_bytes`` counts what dripped so far."""

    def __init__(self, upstream_url: str, *, pause_s: float = PAUSE_S) -> None:
        parts = urlsplit(upstream_url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{upstream_url!r} names no host and port: give it as http://127.0.0.1:8080")
        self.sent_bytes = 0
        self._scheme = parts.scheme
        self._upstream = (parts.hostname, parts.port)
        self._pause_s = pause_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> DripProxy:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._lock:
            for each in self._sockets:
                _shut(each, socket.SHUT_RDWR)
                each.close()

    def _start(self, work: object, *arguments: socket.socket) -> None:
        assert callable(work)
        threading.Thread(target=work, args=arguments, name="drip", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [client, server]
            self._start(self._pass_on, client, server)
            self._start(self._drip, server, client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while piece := client.recv(PIECE_BYTES):
                server.sendall(piece)
        except OSError:
            pass
        _shut(server, socket.SHUT_WR)

    def _drip(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while piece := server.recv(PIECE_BYTES):
                for octet in piece:
                    client.sendall(bytes((octet,)))
                    self.sent_bytes += 1
                    time.sleep(self._pause_s)
        except OSError:
            # The client has left: so must we, or the server would go on talking to nobody.
            _shut(server, socket.SHUT_RDWR)
        _shut(client, socket.SHUT_RDWR)


def _shut(side: socket.socket, how: int) -> None:
    try:
        side.shutdown(how)
    except OSError:
        return
