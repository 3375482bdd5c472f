"""Ordinary answers, which are read without the parser: what the parser says of them is the same, always."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from arkway.backends.upstream.exchange import Carried
from arkway.backends.upstream.plain import CHUNKED, PLAIN_BYTES_MAX, plain_head
from arkway.core.errors import ArkwayError
from tests.tools.raw_upstream import HELLO, OK
from tests.unit.upstream.test_client_connection import Bench

ORDINARY = OK + (
    b"date: Sun, 22 Nov 2026 08:40:24 GMT\r\nServer: uvicorn\r\nContent-Length: 5\r\n"
    b"content-type: application/json\r\nConnection: keep-alive\r\n\r\n"
)
STREAM = OK + b"content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

Outcome = tuple[int, Mapping[str, str], bytes, bool, type[ArkwayError] | None, bool]


class AtOnce(Carried):
    """Keeps what it is told, as a chat call is told it."""

    __slots__ = ("bench", "body", "error", "free", "headers", "status", "told")

    at_once = True

    def __init__(self, bench: Bench) -> None:
        super().__init__((b"GET / HTTP/1.1\r\n\r\n",))
        self.bench = bench
        self.told: list[str] = []
        self.headers: Mapping[str, str] = {}
        self.body, self.status, self.free = b"", 0, False
        self.error: ArkwayError | None = None

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.told.append("head")
        self.status, self.headers = status, headers

    def on_body(self, data: bytes) -> None:
        self.told.append("body")
        self.body += data

    def on_end(self) -> None:
        self.told.append("end")

    def on_failed(self, error: ArkwayError) -> None:
        self.told.append("failed")
        self.error = error

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self.told.append("whole")
        self.status, self.headers, self.body, self.free = 200, headers, body, self.bench.is_kept


def at_once(*reads: bytes, unsent_bytes: int = 0) -> tuple[AtOnce, Bench]:
    bench = Bench()
    bench.hear(HELLO)
    bench.home.free.clear()
    bench.wire.unsent_bytes = unsent_bytes
    call = AtOnce(bench)
    assert bench.connection.carry(call)
    bench.hear(*reads)
    return call, bench


def outcome(*reads: bytes) -> Outcome:
    bench = Bench()
    told = bench.hear(*reads)
    error = None if told.error is None else type(told.error)
    return told.status, dict(told.headers), told.body, told.has_ended, error, bench.is_kept


def by_the_parser(data: bytes) -> Outcome:
    """A head that comes in two reads is the parser's."""
    return outcome(data[:1], data[1:])


def assert_same(data: bytes) -> None:
    """In one read as in two, and told at once or not."""
    expected = by_the_parser(data)
    assert outcome(data) == expected
    call, bench = at_once(data)
    ended = call.told in (["whole"], ["head", "body", "end"], ["head", "end"])
    error = None if call.error is None else type(call.error)
    assert (call.status, dict(call.headers), call.body, ended, error, bench.is_kept) == expected
    assert ("whole" in call.told) <= call.free


LINES = st.sampled_from(
    [
        b"content-length: 5", b"content-length: 05", b"Content-Length: 4", b"content-length: 6", b"content-length:5",
        b"content-length: 5,5", b"content-length: +5", b"content-length: 5 ", b"content-length:  5",
        b"content-length: 99999999999999999999", b"content-length: 0x5", b"content-length: -1", b"content-length:",
        b"transfer-encoding: chunked", b"transfer-encoding: Chunked", b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: identity", b"transfer-encoding:chunked", b"transfer-encoding: chunked;a=b",
        b"connection: keep-alive", b"connection: Keep-Alive", b"connection: close", b"connection: upgrade",
        b"connection: keep-alive, close", b"proxy-connection: close", b"upgrade: h2c", b"content-encoding: gzip",
        b"content-encoding: identity", b"trailer: x", b"x: \xe9", b"x: a\tb", b"x: a\rb", b"x: a\nb", b"x: a\0b",
        b" x: folded", b"\tx: folded", b"x : y", b"x", b":", b": x", b"x y: z", b"x_y: z", b"x: y", b"X: z",
        b"retry-after: 7", b"date: Sun, 22 Nov 2026 08:40:24 GMT", b"",
    ]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6), st.sampled_from([b"hello", b"", b"5\r\nhello\r\n0\r\n\r\n", b"hello!"]))
@example([b"content-length: 5", b"content-length: 5"], b"hello")
@example([b"transfer-encoding: chunked", b"content-length: 5"], b"hello")
def test_lines_of_all_kinds_are_taken_as_the_parser_takes_them(lines: list[bytes], body: bytes) -> None:
    assert_same(OK + b"\r\n".join(lines) + b"\r\n\r\n" + body)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from([ORDINARY + b"hello", STREAM + b"5\r\nhello\r\n0\r\n\r\n"]),
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from("ird"), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_few_wrong_bytes_are_taken_as_the_parser_takes_them(data: bytes, changes: list[tuple[int, str, int]]) -> None:
    for place, how, byte in changes:
        at = place % len(data)
        data = data[:at] + (b"" if how == "d" else bytes([byte])) + data[at + (how != "i") :]
    assume(len(data) > 1)
    assert_same(data)


def test_an_ordinary_head_is_read() -> None:
    found = plain_head(ORDINARY + b"hello")
    assert found is not None
    assert found[:2] == (len(ORDINARY), 5)
    assert found[2] == {
        "date": "Sun, 22 Nov 2026 08:40:24 GMT",
        "server": "uvicorn",
        "content-length": "5",
        "content-type": "application/json",
        "connection": "keep-alive",
    }
    stream = plain_head(STREAM)
    assert stream is not None
    assert stream[:2] == (len(STREAM), CHUNKED)


@pytest.mark.parametrize(
    "head",
    [
        ORDINARY[:-1],
        ORDINARY.replace(b"200 OK", b"200 Fine"),
        ORDINARY.replace(b"200", b"429"),
        ORDINARY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ORDINARY.replace(b"keep-alive", b"close"),
        ORDINARY.replace(b"Content-Length: 5", b"X-Length: 5"),
        ORDINARY.replace(b"Server: ", b"Server:"),
        ORDINARY.replace(b"date", b"server"),
        ORDINARY.replace(b"\r\nServer", b"\nServer"),
        ORDINARY.replace(b"uvicorn", b"\xc3\xa9"),
        ORDINARY.replace(b"uvicorn", b"v" * PLAIN_BYTES_MAX),
        OK + b"\r\n",
        OK + b"\r\n".join(b"x-%d: y" % number for number in range(40)) + b"\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_whatever_differs_is_the_parsers(head: bytes) -> None:
    assert plain_head(head + b"hello") is None


def test_an_ordinary_answer_is_told_at_once_over_a_connection_that_is_free_by_then() -> None:
    call, bench = at_once(ORDINARY + b"hello")
    assert (call.told, call.body, call.free) == (["whole"], b"hello", True)
    told, _ = bench.send()
    bench.hear(HELLO)
    assert told.has_ended


def test_after_one_that_was_told_at_once_the_parser_reads_the_next_one() -> None:
    call, bench = at_once(ORDINARY + b"hello")
    second = AtOnce(bench)
    bench.connection.carry(second)
    bench.hear(STREAM, b"5\r\nhello\r\n", b"0\r\n\r\n")
    assert second.told == ["head", "body", "end"]
    third = AtOnce(bench)
    bench.connection.carry(third)
    bench.hear(ORDINARY + b"hello")
    assert (call.told, third.told) == (["whole"], ["whole"])


def test_a_request_that_is_not_sent_whole_closes_the_connection() -> None:
    call, bench = at_once(ORDINARY + b"hello", unsent_bytes=1)
    assert call.told == ["whole"]
    assert bench.wire.is_aborted


def test_one_that_is_waited_for_longer_is_told_piece_by_piece() -> None:
    call, bench = at_once(ORDINARY + b"hel", b"lo")
    assert (call.told, call.body, bench.is_kept) == (["head", "body", "body", "end"], b"hello", True)


def test_deadlines_are_those_of_what_is_waited_for() -> None:
    """A head that comes slowly gains nothing by that; every piece of a body does; a free connection rests."""
    call, bench = at_once()
    home, connection = bench.home, bench.connection
    home.first_byte_s, home.idle_s, home.idle_connection_s = 10.0, 5.0, 30.0
    connection.sweep(0.0)
    bench.hear(STREAM[:30])
    connection.sweep(9.0)
    bench.hear(STREAM[30:])
    connection.sweep(9.5)
    connection.sweep(14.0)
    bench.hear(b"1\r\na\r\n")
    connection.sweep(14.4)
    connection.sweep(19.3)
    assert not connection.closed
    bench.hear(b"0\r\n\r\n")
    assert call.told[-1] == "end"
    connection.sweep(20.0)
    connection.sweep(49.0)
    assert not connection.closed
    late = AtOnce(bench)
    connection.carry(late)
    connection.sweep(49.5)
    connection.sweep(59.0)
    assert late.told == []
    connection.sweep(59.5)
    assert late.told == ["failed"]
