"""The load generator and the mock upstream of the benchmarks: what they count is what happened."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.gateways.gateway import ANSWER_BYTES, FRAMES, asked, post
from benchmarks.native import compiled
from benchmarks.report import Unmeasured

PATH = "/v1/chat/completions"


class Upstream:
    """A running mock upstream and files of requests for it."""

    def __init__(self, folder: Path) -> None:
        try:
            self._load = compiled("load", folder)
            program = compiled("upstream", folder)
        except Unmeasured as missing:
            pytest.skip(str(missing))
        self.process = subprocess.Popen([program, "0"], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(msgspec.json.decode(self.process.stdout.readline())["port"])
        self.question = post(self.port, PATH, {"model": "mock"}, {})
        self.stream = post(self.port, PATH, {"model": "mock", "stream": True}, {})
        self._file = folder / "requests"

    def load(self, request: bytes, *words: str, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
        """What the load generator counted."""
        self._file.write_bytes(b"%d\n%b" % (len(request), request))
        command = [str(self._load), str(self.port), str(self._file), *words]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"begin\n"
        if meanwhile:
            meanwhile()
        assert child.stdout.readline() == b"end\n"
        out, _ = child.communicate(b"\n", timeout=60)
        found = msgspec.json.decode(out)
        assert isinstance(found, dict)
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture
def upstream(folder: Path) -> Iterator[Upstream]:
    found = Upstream(folder)
    yield found
    found.stop()


def test_the_upstream_answers_and_streams(upstream: Upstream) -> None:
    status, answer = asked(upstream.port, upstream.question)
    assert (status, len(answer)) == (200, ANSWER_BYTES)
    assert msgspec.json.decode(answer)["usage"]["total_tokens"] == 102

    status, body = asked(upstream.port, upstream.stream)
    *frames, usage, end, rest = body.split(b"\n\n")
    assert (status, len(frames), end, rest) == (200, FRAMES, b"data: [DONE]", b"")
    stamps = [
        int(msgspec.json.decode(frame[6:])["choices"][0]["delta"]["content"].removeprefix("@@")) for frame in frames
    ]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= time.monotonic_ns()
    assert msgspec.json.decode(usage[6:])["usage"]["completion_tokens"] == FRAMES


def test_the_upstream_takes_a_chunked_request(upstream: Upstream) -> None:
    head, _, body = upstream.stream.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, octet) for octet in body) + b"0\r\n\r\n"
    status, answer = asked(upstream.port, b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks]))
    assert (status, answer.count(b"@@0")) == (200, FRAMES)


def test_right_answers_are_counted_as_such(upstream: Upstream) -> None:
    found = upstream.load(upstream.question, "closed", "connections=8", "seconds=0.3", f"length={ANSWER_BYTES}")
    assert found["answers"] > 0
    assert found["failures"] == {}
    assert found["latency_ns"]["count"] == found["answers"] == sum(n for _, n in found["latency_ns"]["buckets"])
    assert found["bytes"] == found["answers"] * ANSWER_BYTES


@pytest.mark.parametrize(("said", "failure"), [("status=201", "status"), ("length=564", "length")])
def test_wrong_answers_are_failures(upstream: Upstream, said: str, failure: str) -> None:
    found = upstream.load(upstream.question, "closed", "connections=4", "seconds=0.2", said)
    assert found["answers"] == 0
    assert list(found["failures"]) == [failure]


@pytest.mark.parametrize(("said", "failure"), [("frames=127", "frames"), ("tail=[OVER]", "tail")])
def test_wrong_streams_are_failures(upstream: Upstream, said: str, failure: str) -> None:
    found = upstream.load(upstream.stream, "streams", "connections=3", "warm=0", "seconds=5", said)
    assert found["answers"] == 0
    assert list(found["failures"]) == [failure]


def test_frames_are_timed(upstream: Upstream) -> None:
    found = upstream.load(upstream.stream, "streams", "connections=3", "warm=0", "seconds=5", "tail=[DONE]")
    assert found["failures"] == {}
    assert found["answers"] > 0
    assert found["frames"] >= found["answers"] * FRAMES
    assert found["transit_ns"]["count"] == found["frames"]


def test_what_waits_for_a_stalled_server_counts(upstream: Upstream) -> None:
    """A closed loop would hide it: four requests would be slow, not the hundreds that were due."""

    def stall() -> None:
        upstream.process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        upstream.process.send_signal(signal.SIGCONT)

    words = ("connections=4", "rate=200", "warm=0", "seconds=2")
    found = upstream.load(upstream.question, "open", *words, meanwhile=stall)
    slow = sum(count for top, count in found["latency_ns"]["buckets"] if top > 100_000_000)
    assert found["latency_ns"]["count"] >= found["offered"] > 300
    assert slow > 100
    assert found["latency_ns"]["max"] > 900_000_000


def test_what_never_gets_an_answer_counts(upstream: Upstream) -> None:
    stop = lambda: upstream.process.send_signal(signal.SIGSTOP)  # noqa: E731
    words = ("connections=4", "rate=200", "warm=0", "seconds=1")
    found = upstream.load(upstream.question, "open", *words, meanwhile=stop)
    assert found["unanswered"] > 0
    assert found["latency_ns"]["count"] >= found["offered"]
    assert found["latency_ns"]["max"] > 1_500_000_000  # a second of load, two of waiting for the rest


def test_a_broken_connection_is_a_failure(upstream: Upstream) -> None:
    words = ("connections=5", "warm=0", "seconds=1")
    found = upstream.load(upstream.stream, "streams", *words, meanwhile=upstream.process.kill)
    # One that connects again while the process is dying is broken once more.
    assert set(found["failures"]) == {"broken", "connect"}
    assert min(found["failures"].values()) >= 5
