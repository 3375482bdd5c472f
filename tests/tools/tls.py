"""The raw client inside TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from arkway.testing import API_KEY
from tests.tools.client import Connection


class SecureConnection(Connection):
    """One TLS connection to ``https://…``, whose certificate has to be for ``localhost``."""

    def __init__(self, url: str, context: ssl.SSLContext, key: str = API_KEY) -> None:
        self._context = context
        super().__init__(url, key)

    def _connect(self) -> None:
        super()._connect()
        self._file.close()
        self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")


def trusting(ca: Path) -> ssl.SSLContext:
    """As strict as Python can be, and trusting this authority alone."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
