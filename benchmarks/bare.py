"""The floor of every comparison: ``python -m benchmarks.bare ANSWER_BYTES FRAME_BYTES [CPU]``.

An HTTP responder that understands nothing: whatever arrives in one piece is one request. A request with
``"stream":true`` gets 128 chunks, one every 20 ms, each with the time it was due; any other a fixed answer. It is no
server, and it is as little work as an event loop in Python can do for an answer.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import cast

import msgspec
import uvloop

from benchmarks.machine import pin

FRAMES = 128
FRAME_GAP_S = 0.02
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STAMP = '{{"content":"{:020d}"'


class Responder(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes, frame_bytes: int) -> None:
        self._answer = answer
        self._padding = "x" * max(0, frame_bytes - len("data: \n\n") - len(STAMP.format(0)) - len(',"x":""}'))
        self._start_s = 0.0
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if b'"stream":true' not in data:
            self._transport.write(self._answer)
            return
        self._transport.write(HEAD)
        self._start_s, self._sent = time.monotonic(), 0
        self._later()

    def _later(self) -> None:
        due_s = self._start_s + (self._sent + 1) * FRAME_GAP_S
        self._loop.call_later(max(0.0, due_s - time.monotonic()), self._frame, due_s)

    def _frame(self, due_s: float) -> None:
        if self._transport.is_closing():
            return
        self._sent += 1
        frame = f'data: {STAMP.format(round(due_s * 1e9))},"x":"{self._padding}"}}\n\n'.encode()
        last = b"0\r\n\r\n" if self._sent == FRAMES else b""
        self._transport.write(b"%x\r\n%b\r\n%b" % (len(frame), frame, last))
        if not last:
            self._later()


async def serve(listener: socket.socket, answer_bytes: int, frame_bytes: int) -> None:
    body = b"x" * answer_bytes
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Responder(answer, frame_bytes), sock=listener, backlog=2048)
    await server.serve_forever()


def main() -> None:
    """Serves until it is told to stop."""
    answer_bytes, frame_bytes, *cpu = sys.argv[1:]
    if cpu and cpu[0]:
        pin(int(cpu[0]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    said = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.flush()
    uvloop.run(serve(listener, int(answer_bytes), int(frame_bytes)))


if __name__ == "__main__":
    main()
