"""JSON at its limits. Bombs are judged by work done on growing input, not by the clock alone."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.errors import BadRequest
from arkway.wire import json

# 64 KiB took 17 s when strings were found by a regular expression; a second is generous for sixteen times that.
BOMB_BYTES = 1 << 20
BOMB_SECONDS = 5.0

OPENERS = b"[" * (json.DEPTH_MAX + 1)
BOMBS = {
    "arrays": b"[" * BOMB_BYTES,
    "objects": b'{"a":' * (BOMB_BYTES // 5),
    "closed arrays": b"[" * (BOMB_BYTES // 2) + b"]" * (BOMB_BYTES // 2),
    "escaped quotes outside strings": OPENERS + b'\\"' * (BOMB_BYTES // 2),
    "backslashes": OPENERS + b"\\" * BOMB_BYTES,
    "an unterminated string of escapes": OPENERS + b'"' + b"\\n" * (BOMB_BYTES // 2),
    "an unterminated string": OPENERS + b'"' + b"a" * BOMB_BYTES,
    "empty strings": OPENERS + b'"",' * (BOMB_BYTES // 3),
    "quotes": OPENERS + b'"' * BOMB_BYTES,
    "numbers": b"[" + b"1," * (BOMB_BYTES // 2) + b"1]",
    "empty arrays": b"[" + b"[]," * (BOMB_BYTES // 3) + b"[]]",
    "empty objects": b"[" + b"{}," * (BOMB_BYTES // 3) + b"{}]",
    "closers first": b"]" * (BOMB_BYTES // 2) + b"[" * (BOMB_BYTES // 2),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_for_little(name: str) -> None:
    start = process_time()
    with pytest.raises(BadRequest):
        json.loads(BOMBS[name])
    assert process_time() - start < BOMB_SECONDS


def test_depth_is_taken_up_to_its_limit() -> None:
    def nested(depth: int, innermost: bytes = b"1") -> bytes:
        return b'{"a":' + b"[" * (depth - 1) + innermost + b"]" * (depth - 1) + b"}"

    for fits in (json.DEPTH_MAX - 1, json.DEPTH_MAX):
        json.loads(nested(fits))
        json.loads(nested(fits, b'"' + b"[{" * 1000 + b'\\"[[[[\\\\"'))
    with pytest.raises(BadRequest, match="nested deeper than 64 levels"):
        json.loads(nested(json.DEPTH_MAX + 1))


def test_values_are_taken_up_to_their_limit() -> None:
    def filled(count: int) -> bytes:
        return b"[" + b",".join([b'"a,[\\","'] * count) + b"]"

    assert len(json.loads(filled(json.VALUES_MAX))) == json.VALUES_MAX
    with pytest.raises(BadRequest, match="more than 200000 values"):
        json.loads(filled(json.VALUES_MAX + 1))


def test_brackets_and_commas_in_text_are_text() -> None:
    for text in ("[" * 300_000, "," * 300_000, '\\"[{,' * 60_000, "\\" * 300_001 + '"['):
        assert json.loads(json.dumps([[], {}, text])) == [[], {}, text]


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=50))
def test_what_is_written_is_read_back(value: object) -> None:
    assert json.loads(json.dumps(value)) == value


@given(st.text())
def test_lone_surrogates_never_leave(text: str) -> None:
    spoilt = {"\ud800" + text: [text + "\udfff", (text,)]}
    said = json.dumps(spoilt)
    said.decode("utf-8")
    assert list(json.loads(said)) == ["\ufffd" + text]


def test_surrogate_pairs_become_their_character() -> None:
    assert json.loads(json.dumps("\ud83d\ude00\ude00")) == "😀\ufffd"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"a"',
        b"{}x",
        b"{",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
    ],
)
def test_a_body_that_is_no_object_is_a_bad_request_without_a_path(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        json.load_object(body)
    assert caught.value.field == ""


def test_a_syntax_error_says_where_and_quotes_nothing() -> None:
    with pytest.raises(BadRequest) as caught:
        json.loads(b'{"secret":\n "CANARY" "b"}')
    assert "line 2, column 11" in caught.value.message
    assert "CANARY" not in caught.value.message
