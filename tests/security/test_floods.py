"""More connections than there is room for, and storms of them: nobody is left hanging (W8, M4, M5, M6)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from arkway.testing import API_KEY
from tests.security.served import Served, is_closed, served, statuses, until_closed
from tests.tools.waiting import until

LIVE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
ROOM = 20
DESCRIPTORS = 256
CROWD = 400
ABORTS = 1_500
AMPLIFICATION_MAX = 20
AT_ONCE = 24
INPUT_BYTES = 64 * 1024
# What the process takes once for having served this many at a time, whatever they send.
CONNECTION_BYTES = 48 * 1024
SLACK_BYTES = 4 * 1024 * 1024


def answered(client: socket.socket) -> bytes:
    """One answer, or what there is of it."""
    found = b""
    with suppress(ConnectionError):
        while b"}" not in found and (piece := client.recv(65536)):
            found += piece
    return found


def leave_rudely(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("limit", ["connections", "per_address"])
def test_one_connection_too_many_is_told_so_at_once(limit: str) -> None:
    with served(edge={limit: ROOM, "linger_s": 0.2}) as server, ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(ROOM)]
        for client in held:
            client.sendall(LIVE)
            assert statuses(answered(client)) == [200]
        with server.connect() as surplus:
            surplus.sendall(b"POST /api/v2/endpoint/ep-1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            answer = until_closed(surplus)
        assert statuses(answer) == [503]
        assert b"connection: close\r\n" in answer
        assert b'"code_n"' in answer  # as v2 says it
        with server.connect() as silent:
            assert statuses(until_closed(silent)) == [503]
        held[0].close()
        until(lambda: server.figures().connections < ROOM)
        with server.connect() as client:
            client.sendall(LIVE)
            assert statuses(answered(client)) == [200]


def test_with_few_descriptors_the_rest_is_refused_and_it_recovers() -> None:
    with served(descriptors=DESCRIPTORS) as server:
        before = server.descriptors()
        with ExitStack() as stack:
            crowd = [stack.enter_context(server.connect()) for _ in range(CROWD)]
            for client in crowd:
                with suppress(ConnectionError):
                    client.sendall(LIVE)
            found = [statuses(answered(client)) for client in crowd]
            served_ones = found.count([200])
            assert 100 < served_ones < DESCRIPTORS
            assert found.count([503]) > 0
            assert served_ones + found.count([503]) + found.count([]) == CROWD
        until(lambda: server.descriptors() <= before)
        server.bystander_passes()


def test_without_any_descriptor_nobody_hangs_and_it_recovers() -> None:
    with served(descriptors=DESCRIPTORS) as server:
        server.bystander_passes()
        server.hoard()
        until(lambda: server.descriptors() >= DESCRIPTORS)
        spent_s = server.processor_s()
        with ExitStack() as stack:
            crowd = [stack.enter_context(server.connect()) for _ in range(ROOM)]
            assert all(is_closed(client) for client in crowd)
        assert server.figures().connections == 0
        assert server.processor_s() - spent_s < 2  # it does not spin
        server.hoard()
        until(lambda: server.descriptors() < DESCRIPTORS // 2)
        server.bystander_passes()


def stages(server: Served) -> Iterator[bytes]:
    """What a client has said when it leaves: nothing, part of a head, of a body, all of a call of each kind."""
    whole = server.chat("count 1000 0.01")
    while True:
        yield b""
        yield whole[:40]
        yield whole[:-5]
        yield whole
        yield server.chat("count 1000 0.01", stream=False)
        yield b"POST /api/v3/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"
        yield LIVE


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "asgi"])
def test_after_a_storm_of_aborts_nothing_is_left(hot: bool) -> None:
    with served(server={"hot_path": hot}) as server:
        server.bystander_passes()
        until(lambda: server.figures().connections == 0)
        before, descriptors = server.figures().tasks, server.descriptors()
        said = stages(server)
        for number in range(ABORTS):
            client = server.connect()
            client.sendall(next(said))
            if number % 3 == 0:
                client.close()
            else:
                leave_rudely(client)
        until(lambda: server.figures().connections == 0)
        until(lambda: server.figures().streams == 0)
        until(lambda: server.figures().tasks <= before)
        assert server.figures().unsettled == 0
        assert server.descriptors() <= descriptors
        server.bystander_passes()


def expensive(server: Served) -> dict[str, bytes]:
    """Inputs of 64 KiB at most that make a server hold or do much."""
    chat = b"POST /api/v3/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + API_KEY.encode() + b"\r\n"
    size = INPUT_BYTES - 1024

    def sized(body: bytes) -> bytes:
        return chat + b"Content-Length: %d\r\n\r\n" % len(body) + body

    return {
        "pipelined": LIVE * (size // len(LIVE)),
        "pipelined behind a stream": server.chat("count 3 0.1") + LIVE * (size // len(LIVE)),
        "headers": b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * (size // 6),
        "a header": b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * size,
        "chunks": chat + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * (size // 6) + b"0\r\n\r\n",
        "depth": sized(b"[" * size),
        "objects": sized(b'{"a":[' + b"{}," * (size // 3) + b"{}]}"),
        "messages": sized(b'{"model":"x","messages":[' + b"{}," * (size // 3) + b"{}]}"),
        "numbers": sized(b'{"model":"x","stop":[' + b"1," * (size // 2) + b"1]}"),
        "query": b"GET /livez?" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    }


def peak_reset(server: Served) -> None:
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def peak_bytes(server: Served) -> int:
    """The most memory that the process has held since `peak_reset`."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def test_small_inputs_make_no_large_memory() -> None:
    with served(edge={"linger_s": 0.2, "keep_alive_s": 0.5, "head_s": 0.5}) as server:
        for name, data in expensive(server).items():
            assert len(data) <= INPUT_BYTES, name
            server.bystander_passes()
            peak_reset(server)
            before = server.memory_bytes()
            with ExitStack() as stack:
                clients = [stack.enter_context(server.connect()) for _ in range(AT_ONCE)]
                for client in clients:
                    with suppress(ConnectionError):
                        client.sendall(data)
                for client in clients:
                    until_closed(client)
            grown = peak_bytes(server) - before - SLACK_BYTES - AT_ONCE * CONNECTION_BYTES
            assert grown <= AMPLIFICATION_MAX * AT_ONCE * len(data), name


def test_a_large_header_is_refused_without_being_gathered() -> None:
    """Refused at 32 KiB and then thrown away: neither memory nor time grows with what follows."""
    with served(edge={"linger_s": 0.2}) as server:
        server.bystander_passes()
        before, spent_s = server.memory_bytes(), server.processor_s()
        for _ in range(10):
            with server.connect() as client:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX: ")
                with suppress(OSError):
                    for _ in range(64):
                        client.sendall(b"a" * 65536)
                assert statuses(until_closed(client)) in ([431], [])
        assert server.memory_bytes() - before < SLACK_BYTES
        assert server.processor_s() - spent_s < 1
