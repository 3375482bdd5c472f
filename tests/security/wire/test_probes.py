"""Requests that servers read differently, byte by byte: what is ambiguous is refused, and nothing follows it.

Each ``.probe`` says what is wrong, then the bytes (escapes as in Python, ends of lines in the file count for nothing,
``{text*count}`` repeats, ``{host}`` and ``{key}`` stand for what they say), then, below a line of dashes, every status
that may come back, in order, and whether the connection is then closed or open. More answers than that would be a
request that somebody else has smuggled in.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from arkway.testing import API_KEY
from tests.security.served import PATIENCE_S, Served, is_closed, served, statuses, until_closed

PROBES = sorted(Path(__file__).parent.glob("*.probe"))
REPEATED = re.compile(r"\{([^{}]+)\*([0-9]+)\}")
ESCAPED = re.compile(rb"\\(?:x([0-9a-f]{2})|([rnt0\\]))")
PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
FOLLOWING = "GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
BYTEWISE_MAX = 2_000
PIECE_BYTES = 997
# Short enough to see that nothing more comes; nothing is judged by its length but what has come before.
QUIET_S = 0.05


class Probe(msgspec.Struct, frozen=True):
    """``raw`` are the bytes, in which ``{host}`` stands for the server's."""

    raw: str
    statuses: list[int]
    closed: bool

    def data(self, host: str) -> bytes:
        text = REPEATED.sub(lambda found: found[1] * int(found[2]), self.raw)
        text = text.replace("{host}", host).replace("{key}", API_KEY)
        return ESCAPED.sub(_meant, text.encode())


def _meant(escaped: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escaped[1].decode()) if escaped[1] else PLAIN[escaped[2]]


def read(path: Path) -> Probe:
    raw, verdict = path.read_text(encoding="utf-8").split("\n----\n")
    lines = [line for line in raw.splitlines() if not line.startswith("# ")]
    *codes, end = verdict.split()
    assert end in ("close", "open")
    return Probe("".join(lines), [int(code) for code in codes], end == "close")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def without_hot_path() -> Iterator[Served]:
    with served(server={"hot_path": False}) as running:
        yield running


def cut(data: bytes) -> Iterator[bytes]:
    """Byte by byte where that is not too many."""
    size = 1 if len(data) <= BYTEWISE_MAX else PIECE_BYTES
    return (data[start : start + size] for start in range(0, len(data), size))


def send(client: socket.socket, data: bytes, whole: bool) -> None:
    """A server that refuses need not read to the end."""
    with suppress(ConnectionError):
        if whole:
            client.sendall(data)
            return
        for piece in cut(data):
            client.sendall(piece)
            if len(piece) == 1:
                time.sleep(0)  # lets the server read, most of the time


def answers(client: socket.socket, count: int) -> bytes:
    """What comes until so many answers have, and then until it is quiet."""
    found = b""
    while select.select([client], [], [], QUIET_S if len(statuses(found)) >= count else PATIENCE_S)[0]:
        try:
            piece = client.recv(65536)
        except ConnectionError:
            break
        if not piece:
            break
        found += piece
    return found


def test_there_are_enough() -> None:
    assert len(PROBES) > 120


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_probe(server: Served, path: Path, whole: bool) -> None:
    assert_safe(server, read(path), whole)


@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_without_the_hot_path_it_is_the_same(without_hot_path: Served, path: Path) -> None:
    assert_safe(without_hot_path, read(path), True)


def assert_safe(server: Served, probe: Probe, whole: bool) -> None:
    with server.connect() as client:
        send(client, probe.data(server.host), whole)
        found = answers(client, len(probe.statuses))
        if probe.closed:
            assert is_closed(client)
        else:
            client.sendall(FOLLOWING.replace("{host}", server.host).encode())
            assert statuses(until_closed(client)) == [200]
    assert statuses(found) == probe.statuses
    assert found.lower().count(b"connection: close") == int(probe.closed)
    with server.connect() as bystander:
        bystander.sendall(FOLLOWING.replace("{host}", server.host).encode())
        assert statuses(until_closed(bystander)) == [200]
