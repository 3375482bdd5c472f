"""The connection class over a scripted transport and a clock that the test moves: order, state, deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from msgspec import structs
from uvicorn.server import ServerState

from arkway.core.errors import ArkwayError
from arkway.core.raw import ErrorReply
from arkway.http.edge import EdgeLimits, Fields
from arkway.http.edge_exchange import HotExchange
from arkway.http.protocol import EdgeProtocol, edge_protocol
from tests.tools.scripted_transport import ScriptedTransport

LIMITS = EdgeLimits(
    first_byte_s=10, head_s=10, body_s=100, body_window_s=10, body_bytes_per_s=10, keep_alive_s=50, pipelined=4
)
GET = b"GET /hot HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Clock:
    """A loop's clock, and the one timer that is set on it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.soon: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        """The turn is over."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> object:
        self.timers.append((self.now_s + delay_s, lambda: callback(*arguments)))
        return object()

    def go_on(self, seconds: float) -> None:
        """Time passes, and the timer is called as it falls due."""
        end_s = self.now_s + seconds
        while self.timers and self.timers[0][0] <= end_s:
            due_s, callback = self.timers.pop(0)
            self.now_s = max(self.now_s, due_s)
            callback()
        self.now_s = end_s


class Talk:
    """A hot exchange that keeps what it is told."""

    def __init__(self, protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields) -> None:
        self.protocol, self.asked = protocol, (method, target, headers)
        self.told: list[str] = []
        self.body = b""

    def answer(self) -> None:
        self.protocol.send(ANSWER)
        self.protocol.finished()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.told.append("complete")

    def on_refused(self, error: ArkwayError) -> None:
        self.told.append(type(error).__name__)

    def on_disconnect(self) -> None:
        self.told.append("gone")

    def on_stop(self) -> None:
        self.told.append("stop")

    def on_pause(self) -> None:
        self.told.append("pause")

    def on_writable(self) -> None:
        self.told.append("writable")


class Bench:
    """One connection, and every exchange that began on it."""

    def __init__(self, limits: EdgeLimits = LIMITS, *, at_once: bool = False) -> None:
        self.talks: list[Talk] = []
        self.refusals: list[tuple[bytes, bytes, str]] = []
        self.statuses: list[int] = []
        self.clock = Clock()
        self.state = ServerState()
        self.transport = ScriptedTransport()

        def hot(protocol: EdgeProtocol, method: bytes, target: bytes, headers: Fields) -> HotExchange:
            talk = Talk(protocol, method, target, headers)
            self.talks.append(talk)
            if at_once:
                talk.answer()
            return talk

        def refuse(
            method: bytes, target: bytes, fields: Fields, peer: str, error: ArkwayError, status: int
        ) -> ErrorReply:
            self.refusals.append((method, target, error.message))
            self.statuses.append(status)
            return ErrorReply(0, b"{}", (("x-peer", peer),))

        kind = edge_protocol(limits, refuse, hot)
        config = uvicorn.Config("unused:app", http=kind, log_config=None)
        self.protocol = kind(config, self.state, {}, cast(asyncio.AbstractEventLoop, self.clock))
        self.protocol.connection_made(self.transport)

    @property
    def written(self) -> bytes:
        """All that has left by the end of this turn of the loop."""
        self.clock.turn()
        return self.transport.written

    def refused(self) -> list[int]:
        """The status of each refusal as the edge tells it."""
        return self.statuses

    def says(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.data_received(piece)


def test_a_request_and_its_body_arrive_in_order() -> None:
    bench = Bench()
    bench.says(POST + b"he", b"l", b"lo")
    (talk,) = bench.talks
    assert talk.asked == (b"POST", b"/hot", [(b"host", b"a"), (b"content-length", b"5")])
    assert (talk.body, talk.told) == (b"hello", ["complete"])
    talk.answer()
    assert bench.written == ANSWER
    assert not bench.transport.done
    assert bench.state.total_requests == 1


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pieces_make_no_difference(size: int) -> None:
    bench = Bench()
    data = POST + b"hello" + GET
    bench.says(*(data[start : start + size] for start in range(0, len(data), size)))
    bench.talks[0].answer()
    assert [talk.asked[0] for talk in bench.talks] == [b"POST", b"GET"]
    assert bench.talks[0].body == b"hello"


def test_pipelined_requests_wait_for_their_turn_and_for_their_bodies() -> None:
    bench = Bench()
    bench.says(GET + POST + b"he")
    assert len(bench.talks) == 1
    bench.talks[0].answer()
    assert bench.transport.done == ["pause", "resume"]
    assert (bench.talks[1].body, bench.talks[1].told) == (b"he", [])
    bench.says(b"llo")
    assert (bench.talks[1].body, bench.talks[1].told) == (b"hello", ["complete"])


def test_an_answer_at_once_lets_the_next_begin_at_once() -> None:
    bench = Bench(at_once=True)
    bench.says(GET * 3)
    assert len(bench.talks) == 3
    assert bench.written == ANSWER * 3
    assert not any(talk.told for talk in bench.talks)
    assert not bench.transport.closing


def test_more_pipelined_requests_than_may_wait_are_not_read() -> None:
    bench = Bench()
    bench.says(GET * 100)
    for place in range(LIMITS.pipelined + 1):
        assert len(bench.talks) == place + 1
        assert bench.protocol.closing == (place == LIMITS.pipelined)
        bench.talks[place].answer()
    assert bench.transport.done[-1] == "eof"
    bench.says(GET)
    assert len(bench.talks) == LIMITS.pipelined + 1


def test_an_answer_before_the_body_was_read_ends_the_connection_gently() -> None:
    bench = Bench()
    bench.says(POST)
    bench.talks[0].answer()
    assert bench.transport.done == ["eof"]
    bench.says(b"hello", GET)
    assert len(bench.talks) == 1
    bench.clock.go_on(10)
    assert bench.transport.done == ["eof", "abort"]


def test_a_broken_body_is_told_to_who_answers_it() -> None:
    bench = Bench()
    bench.says(b"POST /hot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nnonsense")
    (talk,) = bench.talks
    assert talk.told == ["BadRequest"]
    assert bench.protocol.closing
    talk.answer()
    assert bench.written == ANSWER
    assert bench.refusals == []


def test_a_broken_request_behind_one_is_refused_after_its_answer() -> None:
    bench = Bench()
    bench.says(GET + b"GET /other HTTP/1.1\r\nHost: a b\r\n\r\n" + GET)
    assert bench.refusals == []
    bench.talks[0].answer()
    assert [(method, target) for method, target, _ in bench.refusals] == [(b"GET", b"/other")]
    assert bench.written.startswith(ANSWER + b"HTTP/1.1 400 Bad Request\r\nx-peer: 192.0.2.1\r\n")
    assert len(bench.talks) == 1


def test_leaving_is_told_once_and_last() -> None:
    bench = Bench()
    bench.says(POST)
    bench.protocol.pause_writing()
    bench.protocol.resume_writing()
    bench.protocol.connection_lost(None)
    assert bench.talks[0].told == ["pause", "writable", "gone"]
    assert not bench.state.connections
    assert bench.protocol.edge.open == 0


def test_a_stop_lets_the_answer_end_and_takes_nothing_more() -> None:
    bench = Bench()
    bench.says(GET + GET)
    bench.protocol.shutdown()
    assert bench.protocol.closing
    bench.protocol.cut()
    assert bench.talks[0].told == ["complete", "stop"]
    bench.talks[0].answer()
    assert bench.transport.closing
    assert len(bench.talks) == 1


def test_a_stop_closes_who_waits() -> None:
    bench = Bench()
    bench.protocol.shutdown()
    assert bench.transport.done == ["close"]


@pytest.mark.parametrize(
    "said, after_s, status",
    [
        (b"", 13, b""),
        (b"GET /hot HT", 13, b"HTTP/1.1 408 "),
        (GET, 400, b""),
    ],
    ids=["nothing", "part of a head", "a whole request, unanswered"],
)
def test_deadlines(said: bytes, after_s: float, status: bytes) -> None:
    bench = Bench()
    bench.says(*([said] if said else []))
    bench.clock.go_on(9)
    assert not bench.transport.done
    bench.clock.go_on(after_s - 9)
    assert bench.written.startswith(status)
    assert bool(bench.transport.done) == (said != GET)


def test_a_body_is_judged_by_what_comes_while_the_server_reads() -> None:
    bench = Bench()
    bench.says(b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(3):
        bench.says(b"a" * 150)
        bench.clock.go_on(10)
    bench.protocol.pause_reading()
    bench.clock.go_on(60)
    bench.protocol.resume_reading()
    assert bench.talks[0].told == []
    bench.clock.go_on(30)
    assert bench.talks[0].told == ["RequestTimeout"]


def test_a_body_has_an_end_even_if_it_is_quick_enough() -> None:
    bench = Bench()
    bench.says(b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(21):
        bench.says(b"a" * 100)
        bench.clock.go_on(5)
    assert bench.talks[0].told == ["RequestTimeout"]


def test_a_client_that_waits_to_be_asked_has_time() -> None:
    bench = Bench()
    bench.says(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    bench.clock.go_on(60)
    assert bench.talks[0].told == []
    bench.protocol.go_on()
    assert bench.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.clock.go_on(30)
    assert bench.talks[0].told == ["RequestTimeout"]


def test_a_reader_that_stalls_is_dropped() -> None:
    bench = Bench()
    bench.says(GET)
    bench.protocol.pause_writing()
    bench.clock.go_on(LIMITS.write_stall_s - 1)
    assert bench.transport.done == []
    bench.protocol.resume_writing()
    bench.clock.go_on(2 * LIMITS.write_stall_s)
    assert bench.transport.done == []
    bench.protocol.pause_writing()
    bench.clock.go_on(LIMITS.write_stall_s + 5)
    assert bench.transport.done == ["abort"]


def test_time_in_which_the_process_stood_still_is_not_the_clients() -> None:
    bench = Bench()
    bench.says(b"GET /hot HT")
    bench.clock.now_s += 7200  # stopped, or asleep, for two hours; the timer comes late, once
    bench.clock.go_on(0)
    assert bench.transport.done == []
    bench.clock.go_on(13)
    assert bench.written.startswith(b"HTTP/1.1 408 ")


def test_the_timer_ends_with_the_last_connection() -> None:
    bench = Bench()
    assert len(bench.clock.timers) == 1
    bench.protocol.connection_lost(None)
    bench.clock.go_on(5)
    assert bench.clock.timers == []


def test_bodies_have_a_limit_together() -> None:
    bench = Bench(structs.replace(LIMITS, bodies_max_bytes=12))
    bench.says(POST.replace(b"5", b"18") + b"quite enough")
    assert (bench.talks[0].told, bench.protocol.edge.bodies_bytes) == ([], 12)
    bench.says(b" more!")
    assert bench.talks[0].told == ["BackendUnavailable"]
    bench.talks[0].answer()
    assert (bench.protocol.edge.bodies_bytes, bench.protocol.closing) == (0, True)


def test_a_body_that_waits_for_its_turn_has_to_have_room() -> None:
    bench = Bench(structs.replace(LIMITS, bodies_max_bytes=8))
    bench.says(POST + b"hello", POST + b"hello")
    assert bench.protocol.edge.bodies_bytes == 5
    bench.talks[0].answer()
    assert (len(bench.talks), bench.refused()) == (1, [503])
    bench.protocol.connection_lost(None)
    assert bench.protocol.edge.bodies_bytes == 0


def test_room_for_bodies_is_given_back_with_the_answer() -> None:
    bench = Bench(structs.replace(LIMITS, bodies_max_bytes=5))
    for count in range(3):
        bench.says(POST + b"hello")
        bench.talks[count].answer()
    assert [talk.told for talk in bench.talks] == [["complete"]] * 3
    assert bench.protocol.edge.bodies_bytes == 0


def test_limits_change_for_connections_that_are_open() -> None:
    bench = Bench()
    other = structs.replace(LIMITS, header_count=1, head_s=1, keep_alive_s=2, connections=0)
    type(bench.protocol).limit(other)
    assert not bench.protocol.edge.admit("192.0.2.2")
    bench.says(GET)
    bench.talks[0].answer()
    bench.says(GET[:-2] + b"A: b\r\n\r\n")
    assert bench.refused() == [431]


def test_addresses_are_counted_before_they_are_limited() -> None:
    bench = Bench()
    type(bench.protocol).limit(structs.replace(LIMITS, per_address=2))
    edge = bench.protocol.edge
    assert [edge.admit("192.0.2.1"), edge.admit("192.0.2.1")] == [True, False]
    edge.leave("192.0.2.1")
    bench.protocol.connection_lost(None)
    assert edge.open == 0


@pytest.mark.parametrize(
    "said, status",
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_what_is_told_of_a_refusal_is_what_was_sent(said: bytes, status: int) -> None:
    bench = Bench()
    bench.says(said)
    assert bench.refused() == [status]
    assert bench.written.startswith(b"HTTP/1.1 %d " % status)


def test_the_head_of_the_next_request_is_no_framing_of_the_last_body() -> None:
    bench = Bench(structs.replace(LIMITS, extension_bytes=64))
    chunked = b"POST /hot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    bench.says(chunked + b"\r\n")
    bench.says(b"2\r\nok\r\n0\r\n\r\n" + chunked + b"x: " + b"y" * 200 + b"\r\n\r\n2\r\n")
    bench.talks[0].answer()
    bench.says(b"ok\r\n0\r\n\r\n")
    assert bench.refused() == []
    assert [(talk.body, talk.told) for talk in bench.talks] == [(b"ok", ["complete"])] * 2
