"""One connection, fed by hand: where the bytes are split never matters, and a read is told once."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.upstream.connection import HEAD_BYTES_MAX, HEADERS_MAX, Connection
from arkway.backends.upstream.exchange import Carried, Exchange
from arkway.core.errors import BackendFailed
from tests.tools.raw_upstream import HELLO, OK, Told

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False
        self.reading: list[str] = []
        self.unsent_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.reading.append("paused")

    def resume_reading(self) -> None:
        self.reading.append("resumed")


class Shelf:
    """A home that keeps what it is given."""

    first_byte_s = idle_s = idle_connection_s = 30.0

    def __init__(self) -> None:
        self.free: list[Connection] = []
        self.lost: list[Connection] = []
        self.repeats: list[Carried] = []
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def made(self, connection: Connection) -> None:
        self.lost = [each for each in self.lost if each is not connection]

    def send(self, transport: asyncio.Transport, request: tuple[bytes, ...]) -> None:
        transport.writelines(request)

    def put(self, connection: Connection) -> None:
        self.free.append(connection)

    def gone(self, connection: Connection) -> None:
        self.lost.append(connection)

    def repeat(self, exchange: Carried) -> None:
        self.repeats.append(exchange)


class Bench:
    """A connection with an exchange on it."""

    def __init__(self) -> None:
        self.home = Shelf()
        self.wire = Wire()
        self.connection = Connection(self.home)
        self.connection.connection_made(self.wire)
        self.told, self.exchange = self.send()

    def send(self) -> tuple[Told, Exchange]:
        told = Told()
        exchange = Exchange((b"GET / HTTP/1.1\r\n\r\n",), told)
        self.connection.carry(exchange)
        return told, exchange

    def hear(self, *pieces: bytes) -> Told:
        for piece in pieces:
            if not self.wire.is_aborted:
                self.connection.data_received(piece)
        return self.told

    @property
    def is_kept(self) -> bool:
        return self.home.free == [self.connection] and not self.wire.is_aborted


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    return CHUNKED + b"".join(b"%x;e=1\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n" + trailer + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(0, 10_000), max_size=30))
def test_a_chunked_answer_is_the_same_wherever_it_is_split(pieces: list[bytes], cuts: list[int]) -> None:
    bench = Bench()
    reads = split(chunked(pieces, b"x-trailer: 1\r\n"), cuts)
    told = bench.hear(*reads)
    assert (told.status, told.body, told.has_ended) == (200, b"".join(pieces), True)
    assert len(told.pieces) <= len(reads)
    assert told.headers == {"transfer-encoding": "chunked"}
    assert bench.is_kept
    assert not told.order_broken


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=30))
def test_an_answer_of_a_given_length_is_the_same_wherever_it_is_split(body: bytes, cuts: list[int]) -> None:
    bench = Bench()
    head = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 429 Slow\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: %d\r\n\r\n"
    told = bench.hear(*split(head % len(body) + body, cuts))
    assert (told.status, told.body, told.has_ended, bench.is_kept) == (429, body, True, True)
    assert told.headers == {"x-a": "1, 2", "content-length": str(len(body))}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=10), st.booleans())
def test_any_bytes_end_in_one_word(junk: bytes, cuts: list[int], begins_well: bool) -> None:
    bench = Bench()
    told = bench.hear(*split((CHUNKED if begins_well else b"") + junk + b"\n", cuts))
    if not bench.wire.is_aborted:
        bench.connection.eof_received()
    bench.connection.connection_lost(None)
    bench.home.repeats.clear()
    assert told.is_over
    assert not told.order_broken
    assert bench.home.lost == [bench.connection]


def test_the_pieces_of_one_read_are_joined() -> None:
    bench = Bench()
    data = chunked([b"a", b"b", b"c"])
    at = data.index(b"c\r\n0")
    bench.hear(data[:at], data[at:])
    assert bench.told.pieces == [b"ab", b"c"]


@pytest.mark.parametrize("beyond", [b"x", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP", HELLO])
@pytest.mark.parametrize("answer", [HELLO, chunked([b"hello"])])
def test_bytes_beyond_the_answer_spoil_the_connection_and_not_the_answer(answer: bytes, beyond: bytes) -> None:
    bench = Bench()
    bench.hear(answer + beyond)
    assert (bench.told.body, bench.told.has_ended) == (b"hello", True)
    assert bench.home.free == []
    assert bench.wire.is_aborted


def test_bytes_that_come_later_close_a_free_connection() -> None:
    bench = Bench()
    bench.hear(HELLO, b"HTTP/1.1 200 OK\r\n")
    assert bench.told.has_ended
    assert bench.wire.is_aborted
    assert not bench.connection.is_usable()


@pytest.mark.parametrize(
    "head",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
        OK + b"Connection: Keep-Alive, Close\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_an_answer_that_does_not_keep_the_connection_is_whole_and_closes_it(head: bytes) -> None:
    bench = Bench()
    bench.hear(head, b"hello")
    assert (bench.told.body, bench.told.has_ended, bench.is_kept) == (b"hello", True, False)
    assert bench.wire.is_aborted


def test_the_keep_alive_of_http_1_0_is_taken() -> None:
    bench = Bench()
    bench.hear(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n")
    assert bench.is_kept


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_an_answer_without_a_body_ends_with_its_head(status: bytes) -> None:
    bench = Bench()
    bench.hear(b"HTTP/1.1 " + status + b" X\r\n\r\n")
    assert (bench.told.status, bench.told.pieces, bench.told.has_ended, bench.is_kept) == (int(status), [], True, True)


def test_a_redirect_is_an_answer_like_another() -> None:
    bench = Bench()
    bench.hear(b"HTTP/1.1 307 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
    assert (bench.told.status, bench.told.has_ended) == (307, True)
    assert bench.told.headers["location"] == "http://169.254.169.254/"


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    bench = Bench()
    bench.hear(OK + b"\r\nhel", b"lo")
    assert not bench.told.is_over
    bench.connection.eof_received()
    assert (bench.told.body, bench.told.has_ended, bench.wire.is_aborted) == (b"hello", True, True)


def test_without_a_length_a_lost_connection_is_no_end() -> None:
    bench = Bench()
    bench.hear(OK + b"\r\nhel")
    bench.connection.connection_lost(ConnectionResetError())
    assert isinstance(bench.told.error, BackendFailed)


def test_a_request_that_is_not_sent_whole_leaves_no_free_connection() -> None:
    bench = Bench()
    bench.wire.unsent_bytes = 1
    bench.hear(HELLO)
    assert bench.told.has_ended
    assert bench.wire.is_aborted


def test_the_head_has_its_limits_to_the_byte() -> None:
    name, rest = b"x-large", len(b"content-length") + 1
    for value_bytes, fits in (
        (HEAD_BYTES_MAX - rest - len(name), True),
        (HEAD_BYTES_MAX - rest - len(name) + 1, False),
    ):
        bench = Bench()
        bench.hear(OK + name + b": " + b"v" * value_bytes + b"\r\ncontent-length: 0\r\n\r\n")
        assert bench.told.has_ended is fits
    for count in (HEADERS_MAX - 1, HEADERS_MAX):
        bench = Bench()
        bench.hear(OK + b"a: b\r\n" * count + b"content-length: 0\r\n\r\n")
        assert bench.told.has_ended is (count < HEADERS_MAX)


@pytest.mark.parametrize(
    "before", [OK + b"x: ", b"HTTP/1.1 100 C\r\nx: ", CHUNKED + b"1\r\na\r\n1;", CHUNKED + b"0\r\nx: "]
)
def test_what_has_no_end_is_cut(before: bytes) -> None:
    bench = Bench()
    bench.hear(before)
    for _ in range(HEAD_BYTES_MAX // 4096 + 2):
        bench.hear(b"v" * 4096)
    assert isinstance(bench.told.error, BackendFailed)
    assert bench.wire.is_aborted


def test_endless_1xx_answers_are_cut() -> None:
    bench = Bench()
    for _ in range(HEADERS_MAX + 1):
        bench.hear(b"HTTP/1.1 103 E\r\nlink: x\r\n\r\n")
    assert isinstance(bench.told.error, BackendFailed)


def test_pausing_reaches_the_transport_and_ends_with_the_answer() -> None:
    bench = Bench()
    bench.exchange.pause()
    bench.exchange.pause()
    assert bench.wire.reading == ["paused"]
    bench.exchange.resume()
    bench.exchange.pause()
    bench.hear(HELLO)
    assert (bench.told.has_ended, bench.is_kept) == (True, True)
    bench.exchange.pause()
    assert bench.wire.reading == ["paused", "resumed", "paused", "resumed"]


def test_a_request_that_was_paused_before_it_was_sent_is_not_read_for() -> None:
    bench = Bench()
    bench.hear(HELLO)
    exchange = Exchange((b"x",), Told())
    exchange.pause()
    bench.connection.carry(exchange)
    assert bench.wire.reading == ["paused"]


@pytest.mark.parametrize("at", ["head", "body"])
def test_an_abort_from_a_callback_ends_all_of_it_at_once(at: str) -> None:
    bench = Bench()
    bench.told.act = lambda when: bench.exchange.abort() if when == at else None
    bench.hear(CHUNKED + b"5\r\nhello\r\n")
    assert bench.wire.is_aborted
    bench.exchange.abort()
    bench.connection.connection_lost(None)
    assert not bench.told.is_over
    assert bench.told.pieces == ([b"hello"] if at == "body" else [])


@pytest.mark.parametrize("at", ["head", "body"])
def test_an_abort_of_an_answer_that_is_whole_keeps_the_connection(at: str) -> None:
    bench = Bench()
    bench.told.act = lambda when: bench.exchange.abort() if when == at else None
    bench.hear(HELLO)
    assert bench.is_kept
    assert not bench.told.is_over
    told, _ = bench.send()
    bench.hear(HELLO)
    assert (told.body, told.has_ended) == (b"hello", True)


def test_an_abort_after_the_end_touches_nobody_else() -> None:
    bench = Bench()
    bench.hear(HELLO)
    told, _ = bench.send()
    bench.exchange.abort()
    bench.exchange.pause()
    bench.hear(HELLO)
    assert told.has_ended
    assert not bench.wire.is_aborted
    assert bench.wire.reading == []


def test_the_connection_is_free_when_the_end_is_told() -> None:
    bench = Bench()
    seen: list[bool] = []
    bench.told.act = lambda when: seen.append(bench.is_kept)
    bench.hear(HELLO)
    assert seen == [False, False, True]


def test_only_what_died_young_is_taken_for_stale() -> None:
    for waited_s, repeats in ((4.0, 1), (6.0, 0)):
        bench = Bench()
        bench.hear(HELLO)
        told, _ = bench.send()
        bench.connection.sweep(0.0)
        bench.home.now_s = waited_s
        bench.connection.connection_lost(None)
        assert len(bench.home.repeats) == repeats
        assert (told.error is None) is (repeats == 1)
