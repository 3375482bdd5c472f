"""One scripted server for the abuse of its edge; it keeps everything it would have logged."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from arkway.telemetry.log import to_stream
from arkway.testing import MemoryLedger, RunningServer, running_server
from tests.tools.client import Connection


@pytest.fixture(scope="package")
def log() -> Iterator[io.StringIO]:
    """Every line of every logger at debug level, as the server would write them."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    to_stream("debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="package")
def server(log: io.StringIO) -> Iterator[RunningServer]:
    settings = {"server": {"access_log": True, "port": 0, "drain_s": 1}, "surface": {"message_encryption": True}}
    with running_server(ledger=MemoryLedger(), settings=settings) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection
