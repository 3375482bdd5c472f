"""Server-sent events, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.errors import BackendFailed
from arkway.wire import sse

STREAM = (
    ': ping\n\nevent: message\nid: 7\ndata: {"a":"你😀"}\n\n'
    'data:{"b":1}\r\n\r\n\ndata: \n\ndata:\t[DONE]\n\ndata: cut off'
).encode()
PAYLOADS = ['{"a":"你😀"}'.encode(), b'{"b":1}', b"", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_same_payloads_come_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader, found = sse.Reader(), list[bytes]()
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(places):
        found += reader.feed(STREAM[start:end])
    assert found == PAYLOADS


def test_byte_by_byte() -> None:
    reader = sse.Reader()
    assert [payload for byte in STREAM for payload in reader.feed(bytes([byte]))] == PAYLOADS


def test_a_line_without_end_is_given_up() -> None:
    reader = sse.Reader()
    reader.feed(b"data: " + b"a" * (sse.LINE_MAX_BYTES - 6))
    with pytest.raises(BackendFailed, match="1 MiB"):
        reader.feed(b"a")


@given(st.binary(max_size=300))
def test_garbage_is_never_an_exception(data: bytes) -> None:
    for payload in sse.Reader().feed(data + b"\n"):
        assert b"\n" not in payload


def test_frames_have_exactly_one_space_and_one_empty_line() -> None:
    assert sse.spaced(b"{}") == b"data: {}\n\n"
    assert sse.SPACED_DONE == b"data: [DONE]\n\n"
