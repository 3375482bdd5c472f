"""Clients that are slow on purpose are dropped by their deadlines, and nobody else notices (A14, A15, W4, W7)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from arkway.testing import API_KEY
from tests.security.served import Served, is_closed, served, statuses, until_closed
from tests.tools.waiting import until

HASTE = {
    "first_byte_s": 0.4,
    "head_s": 0.4,
    "body_window_s": 0.4,
    "body_bytes_per_s": 1000,
    "keep_alive_s": 0.4,
    "write_stall_s": 0.6,
    "linger_s": 0.2,
}
DRIP_S = 0.05
RECEIVE_BYTES = 4096
STUCK = 100
STUCK_MAX_BYTES = 300 * 1024
SLOW = 500

Pattern = Callable[[Served, socket.socket], None]


@pytest.fixture(scope="module", params=[True, False], ids=["hot", "asgi"])
def hasty(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(edge=HASTE, server={"hot_path": request.param}) as running:
        yield running


def drip(client: socket.socket, pieces: Iterator[bytes]) -> None:
    """Until the server has had enough."""
    with suppress(OSError):
        for piece in pieces:
            client.sendall(piece)
            threading.Event().wait(DRIP_S)


def endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def head(server: Served, *fields: str) -> bytes:
    lines = ["POST /api/v3/chat/completions HTTP/1.1", f"Host: {server.host}", f"Authorization: Bearer {API_KEY}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


def says_nothing(server: Served, client: socket.socket) -> None:
    """Connects, and that is all."""


def slow_headers(server: Served, client: socket.socket) -> None:
    client.sendall(b"GET /livez HTTP/1.1\r\n")
    drip(client, endless(b"X: a\r\n"))


def slow_line(server: Served, client: socket.socket) -> None:
    drip(client, iter([b"G", *([b"E"] * 200)]))


def slow_body(server: Served, client: socket.socket) -> None:
    client.sendall(head(server, "Content-Length: 100000"))
    drip(client, endless(b"a"))


def no_body(server: Served, client: socket.socket) -> None:
    client.sendall(head(server, "Content-Length: 100000"))


def slow_chunks(server: Served, client: socket.socket) -> None:
    client.sendall(head(server, "Transfer-Encoding: chunked"))
    drip(client, endless(b"1\r\na\r\n"))


def slow_chunk_size(server: Served, client: socket.socket) -> None:
    client.sendall(head(server, "Transfer-Encoding: chunked"))
    drip(client, endless(b"0"))


def never_reads(server: Served, client: socket.socket) -> None:
    client.sendall(server.chat("flood"))


def idle_after_an_answer(server: Served, client: socket.socket) -> None:
    client.sendall(f"GET /livez HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())


PATTERNS: dict[Pattern, list[int]] = {
    says_nothing: [],
    slow_headers: [408],
    slow_line: [400],
    slow_body: [408],
    no_body: [408],
    slow_chunks: [408],
    slow_chunk_size: [408],
    idle_after_an_answer: [200],
}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_who_is_too_slow_is_told_and_dropped(hasty: Served, pattern: Pattern) -> None:
    with hasty.connect() as client:
        sender = threading.Thread(target=pattern, args=(hasty, client))
        sender.start()
        answer = until_closed(client)
        sender.join()
    assert statuses(answer) == PATTERNS[pattern]
    if 408 in PATTERNS[pattern]:
        assert b"connection: close\r\n" in answer
        assert b'"RequestTimeout"' in answer
    hasty.bystander_passes()


def test_who_does_not_read_is_dropped_and_settled(hasty: Served) -> None:
    with hasty.connect(RECEIVE_BYTES) as client:
        never_reads(hasty, client)
        until(lambda: hasty.figures().streams == 1)
        until(lambda: hasty.figures().connections == 0)
        figures = hasty.figures()
        assert (figures.streams, figures.unsettled) == (0, 0)
        assert figures.outcomes[-1] == "client_abort"
        assert b"[DONE]" not in until_closed(client)
    hasty.bystander_passes()


def test_stuck_readers_cost_little_while_they_last() -> None:
    edge = {"write_stall_s": 3.0}
    with served(edge=edge) as server, ExitStack() as stack:
        server.bystander_passes()
        before = server.memory_bytes()
        for _ in range(STUCK):
            client = stack.enter_context(server.connect(RECEIVE_BYTES))
            never_reads(server, client)
        until(lambda: server.figures().streams == STUCK)
        peak = before
        while server.figures().connections:
            peak = max(peak, server.memory_bytes())
        assert (peak - before) / STUCK <= STUCK_MAX_BYTES
        figures = server.figures()
        assert (figures.streams, figures.unsettled) == (0, 0)
        assert figures.outcomes.count("client_abort") == STUCK
        server.bystander_passes()


def test_hundreds_of_slow_clients_leave_a_bystander_served() -> None:
    edge = {"head_s": 5.0, "first_byte_s": 5.0, "linger_s": 0.2}
    with served(edge=edge) as server, ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(SLOW)]
        for client in slow:
            client.sendall(b"GET /livez HTTP/1.1\r\nX")
        for _ in range(50):
            server.bystander_passes()
        assert server.figures().connections >= SLOW
        assert all(is_closed(client) for client in slow)
        until(lambda: server.figures().connections == 0)
        server.bystander_passes()
