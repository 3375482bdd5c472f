"""Starts `tests/security/edge_worker.py`, asks it about itself, and speaks raw bytes to it."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from arkway.testing import API_KEY, ENDPOINT_ID
from arkway.wire import json

WORKER = Path(__file__).with_name("edge_worker.py")
ROOT = WORKER.parents[2]
# Of what takes milliseconds on a machine at rest.
PATIENCE_S = 60.0
STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r]+\r\n")


class Figures(msgspec.Struct, frozen=True):
    """What the process says of itself."""

    tasks: int
    connections: int
    streams: int
    unsettled: int
    outcomes: list[str]


class Served:
    """A running server. ``host`` is what belongs into a Host header."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}"

    def connect(self, receive_bytes: int = 0) -> socket.socket:
        """A connection; ``receive_bytes``: how much the kernel takes for a client that does not read."""
        made = socket.socket()
        if receive_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.settimeout(PATIENCE_S)
        made.connect(("127.0.0.1", self.port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def figures(self) -> Figures:
        self.process.send_signal(signal.SIGUSR1)
        return msgspec.json.decode(self._line(), type=Figures)

    def hoard(self) -> None:
        """Takes every descriptor that is left, or gives them back."""
        self.process.send_signal(signal.SIGUSR2)

    def descriptors(self) -> int:
        return psutil.Process(self.process.pid).num_fds()

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def processor_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def chat(self, text: str, stream: bool = True) -> bytes:
        """A whole request."""
        body = json.dumps({"model": ENDPOINT_ID, "stream": stream, "messages": [{"role": "user", "content": text}]})
        head = (
            f"POST /api/v3/chat/completions HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {API_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def bystander_passes(self) -> None:
        """Somebody else is served: alive, and a call."""
        with self.connect() as client:
            client.sendall(self.chat("旁观", stream=False))
            answer = b""
            while not answer.endswith(b"}"):
                piece = client.recv(65536)
                assert piece, answer
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert "旁观".encode() in answer

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "the server does not answer"
        return self.process.stdout.readline()


@contextmanager
def served(descriptors: int = 0, drain_s: float = 1.0, **sections: Mapping[str, Any]) -> Generator[Served]:
    """A server with these sections of settings; told to stop at the end, which it has to do by itself, with 0."""
    given = {**sections, "server": {"drain_s": drain_s, **sections.get("server", {})}, "descriptors": descriptors}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ARKWAY")}
    command = [sys.executable, str(WORKER), msgspec.json.encode(given).decode()]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server did not start"
        yield Served(process, msgspec.json.decode(line)["port"])
        if process.poll() is None:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def until_closed(client: socket.socket) -> bytes:
    """All that comes, to the end. A connection that is reset has ended as well."""
    found = b""
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            found += piece
    return found


def is_closed(client: socket.socket, within_s: float = PATIENCE_S) -> bool:
    """Whether it has ended by then, whatever has come before."""
    deadline_s = time.monotonic() + within_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        if not select.select([client], [], [], left_s)[0]:
            break
        try:
            if not client.recv(65536):
                return True
        except ConnectionError:
            return True
    return False


def statuses(answer: bytes) -> list[int]:
    """The status of every answer, of those that came to be."""
    return [int(found) for found in STATUS.findall(answer)]
