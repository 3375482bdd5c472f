"""Answers of upstream servers to events: every recorded shape, cut anywhere, and whatever else may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import BackendFailed, BadRequest
from arkway.core.events import Delta, Event, Finished, Quoted, ToolDelta, UsageReport
from arkway.wire import json
from arkway.wire.openai_shape.incoming import CHOICES_MAX, FRAME_MAX_BYTES, Possible, StreamReader, reply_events
from tests.unit.wire.tails import expected, names, raw, read, seen

WHOLE = [name for name in names() if not expected(name)["failure"]]
HEAD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":'
TAIL = b'},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def frame(text: str) -> bytes:
    return HEAD + json.dumps(text) + TAIL


def said(events: list[Event]) -> str:
    """The text of choice 0."""
    deltas = [event.delta() if isinstance(event, Quoted) else event for event in events]
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta))


@pytest.mark.parametrize("name", names())
def test_a_recorded_stream_gives_its_events(name: str) -> None:
    wanted = expected(name)
    assert {"choices": wanted["choices"], **seen([raw(name)], wanted["choices"])} == wanted


@pytest.mark.parametrize("name", names())
def test_byte_by_byte_it_gives_the_same(name: str) -> None:
    data, choices = raw(name), expected(name)["choices"]
    assert read([bytes([byte]) for byte in data], choices)[0] == read([data], choices)[0]
    assert seen((bytes([byte]) for byte in data), choices)["failure"] == expected(name)["failure"]


@pytest.mark.parametrize("name", names())
def test_cut_in_two_anywhere_it_gives_the_same(name: str) -> None:
    data, choices = raw(name), expected(name)["choices"]
    wanted = seen([data], choices)
    assert all(seen([data[:at], data[at:]], choices) == wanted for at in range(1, len(data)))


@pytest.mark.parametrize("name", sorted({*WHOLE} - {"finish-twice"}))
def test_a_stream_that_ends_too_early_never_looks_complete(name: str) -> None:
    data, choices = raw(name), expected(name)["choices"]
    finished = max(data.rfind(b'"finish_reason":"'), data.rfind(b'"finish_reason": "'))
    for at in range(finished):
        _, failure = read([data[:at]], choices)
        assert isinstance(failure, BackendFailed), at


@pytest.mark.parametrize("name", WHOLE)
def test_finishes_and_usage_come_last(name: str) -> None:
    events, _ = read([raw(name)], expected(name)["choices"])
    kinds = [type(event) for event in events]
    first_end = kinds.index(Finished)
    assert not {Delta, Quoted, ToolDelta} & set(kinds[first_end:])
    assert kinds[first_end:].count(UsageReport) <= 1
    assert len({event.index for event in events if isinstance(event, Finished)}) == kinds.count(Finished)


@pytest.mark.parametrize(
    "name", ["vllm", "sglang", "llama-server", "ollama", "ark", "deepseek", "tgi", "crlf", "azure"]
)
def test_frames_of_one_kind_are_not_parsed_again(name: str) -> None:
    events, _ = read([raw(name)])
    assert any(isinstance(event, Quoted) for event in events)


@given(st.lists(st.text(), min_size=1), st.booleans())
def test_every_text_comes_through_whichever_way_it_is_read(texts: list[str], as_escapes: bool) -> None:
    frames = b"".join(frame(text) for text in ["first", *texts])
    data = json.escaped(frames) if as_escapes else frames
    events, failure = read([data, END])
    assert failure is None
    assert said(events) == "first" + "".join(texts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\'), min_size=1)))
def test_plain_texts_are_taken_as_they_stand(texts: list[str]) -> None:
    reader = StreamReader()
    reader.feed(frame("first"))
    literals = [event for text in texts for event in reader.feed(frame(text))]
    assert literals == [Quoted(b'"' + text.encode() + b'"') for text in texts]


@pytest.mark.parametrize(
    "literal", [b'"\xff"', b'"\xed\xa0\xbd"', b'"\xc0\xaf"', b'"a"b"', b'"a\\"', b'"a\x01"', b'"\\q"', b'"\\u12"', b"1"]
)
def test_what_is_no_string_is_not_taken_for_one(literal: bytes) -> None:
    reader = StreamReader()
    reader.feed(frame("first"))
    assert reader.feed(HEAD + literal + TAIL) == []
    assert isinstance(reader.failure, BackendFailed)


def test_a_literal_cannot_smuggle_a_field_in() -> None:
    reader = StreamReader()
    reader.feed(frame("first"))
    smuggled = HEAD + b'"a"},"finish_reason":"length"}],"x":[{"delta":{"content":"b"' + TAIL
    assert said(reader.feed(smuggled)) == "a"
    assert reader.feed(END)[0] == Finished("length")


PIECES = st.sampled_from(
    [
        HEAD, TAIL, END, frame("a"), frame("\n"), b"data: [DONE]\n\n", b"data:", b"\n", b"\r\n", b": x\n",
        b"event: error\n", b"event: x\n", b"{", b"}", b'"', b"\\", b"\xff", b'data: {"error":{}}\n',
        b'data: {"error":"x"}\n', b"[" * 2000,
        b'data: {"choices":[{"index":1,"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}\n\n',
        b'data: {"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":null,"usage":[]}\n\n', b"error: {}\n", b'{"error":1}\n', b"data: 1e400\n\n", b"id: 1\n",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=30))
def test_no_bytes_whatever_raise_anything_but_an_error_of_the_tree(pieces: list[bytes]) -> None:
    events, failure = read(pieces)
    opened = {event.index for event in events if isinstance(event, Delta | Quoted | ToolDelta)}
    finished = {event.index for event in events if isinstance(event, Finished)}
    assert (failure is not None) == (not finished)
    assert failure is not None or opened <= finished
    assert (events, str(failure)) == (lambda again: (again[0], str(again[1])))(read([b"".join(pieces)]))


def test_a_line_that_never_ends_is_given_up() -> None:
    pieces = [b"a" * 65536] * (FRAME_MAX_BYTES // 65536)
    _, at_the_limit = read([*pieces])
    assert "before its end" in str(at_the_limit)
    _, above_it = read([*pieces, b"a", END])
    assert "longer than" in str(above_it)


def test_a_frame_is_as_long_as_it_may_be_but_no_longer() -> None:
    text = "a" * (FRAME_MAX_BYTES - len(HEAD) - len(TAIL))
    assert said(read([frame(text), END])[0]) == text
    assert isinstance(read([frame(text + "a" * 8), END])[1], BackendFailed)


def test_choices_are_bounded() -> None:
    chunk = b'data: {"choices":[{"index":%d,"delta":{"content":"a"}}]}\n\n'
    assert len(read([chunk % (CHOICES_MAX - 1)])[0]) == 1
    assert read([chunk % CHOICES_MAX])[0] == []


def test_without_done_every_answer_that_was_asked_for_has_to_be_there() -> None:
    one = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    assert read([one], choices=1)[1] is None
    assert isinstance(read([one], choices=2)[1], BackendFailed)
    assert read([one, b"data: [DONE]\n\n"], choices=2)[1] is None


REQUEST = ChatRequest("m", ())


def test_a_whole_answer() -> None:
    body = json.dumps(
        {
            "choices": [
                {
                    "finish_reason": "tool_calls",
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "reasoning_content": "hm",
                        "tool_calls": [
                            {"type": "function", "function": {"name": "f", "arguments": "{}"}},
                            {"type": "function", "function": {"name": "g", "arguments": {"a": 1}}, "id": "call_9"},
                        ],
                    },
                },
                {"finish_reason": "length", "index": 1, "message": {"role": "assistant", "content": "你好"}},
            ],
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }
    )
    assert reply_events(body, REQUEST) == [
        Delta("", 0, "hm"),
        ToolDelta(0, "{}", 0, "call_0_0", "f"),
        ToolDelta(1, '{"a":1}', 0, "call_9", "g"),
        Finished("tool_calls"),
        Delta("你好", 1),
        Finished("length", 1),
        UsageReport(Usage(9, 5, 4, 2)),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":0}]}', b"<html>", b"\xff", b"[" * 5000,
        b'{"choices":[{"index":-1,"message":{"content":"a"}}]}', b'{"choices":[{"message":{"content":1}}]}',
        b'{"choices":[{"message":{"content":"a"},"finish_reason":"abort"}]}',
    ],
)  # fmt: skip
def test_a_whole_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(BackendFailed):
        reply_events(body, REQUEST)


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(BadRequest):
        reply_events(b'{"object":"error","message":"bad","type":"BadRequestError","code":400}', REQUEST)


def test_logprobs_are_read_only_when_asked_for() -> None:
    body = (
        b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop",'
        b'"logprobs":{"content":[{"token":"a","logprob":-1}]}}]}'
    )
    (plain, *_), (scored, *_) = reply_events(body, REQUEST), reply_events(body, ChatRequest("m", (), logprobs=True))
    assert isinstance(plain, Delta)
    assert isinstance(scored, Delta)
    assert (len(plain.logprobs), len(scored.logprobs)) == (0, 1)


FILTERED = b'{"choices":[{"index":1,"%s":{"content":"a"},"finish_reason":"%s","moderation_hit_type":%s}]}'


@pytest.mark.parametrize(
    ("reason", "found", "hit"),
    [
        (b"content_filter", b'"violence"', "violence"),
        (b"content_filter", b' "severe_violation" ', "severe_violation"),
        (b"sensitive", b'"a"', "a"),
        (b"content_filter", b'"%s"' % (b"a" * 64), "a" * 64),
        (b"content_filter", b'"%s"' % (b"a" * 65), ""),
        *((b"content_filter", garbage, "") for garbage in (
            b"null", b'""', b'"a b"', b'"a\\nb"', b'"\xe5\x9d\x8f"', b'"\xff"', b'"<b>"', b"1", b"true",
            b'["violence"]', b'{"type":"violence"}', b'"_"',
        )),
        (b"stop", b'"violence"', ""),
        (b"length", b'"violence"', ""),
    ],
)  # fmt: skip
def test_what_an_upstreams_moderation_has_found(reason: bytes, found: bytes, hit: str) -> None:
    shown = b"content_filter" if reason == b"sensitive" else reason
    wanted = [Delta("a", 1), Finished(shown.decode(), 1, hit)]  # type: ignore[arg-type]
    assert reply_events(FILTERED % (b"message", reason, found), REQUEST) == wanted
    frame = b"data: " + FILTERED % (b"delta", reason, found)
    assert read([frame + b"\n\ndata: [DONE]\n\n"]) == (wanted, None)


COUNTED = b'{"choices":[{"index":0,"%s":{"content":"a"},"finish_reason":"stop"}],"usage":%s}'
COUNTS = b'{"prompt_tokens":%d,"completion_tokens":%d,"completion_tokens_details":{"reasoning_tokens":%d}}'


@pytest.mark.parametrize(
    ("counts", "believed"),
    [((10, 5, 0), True), ((11, 5, 0), False), ((10, 6, 0), False), ((10, 25, 20), True), ((10, 26, 21), False)],
)
def test_counts_that_cannot_be_are_as_good_as_none(counts: tuple[int, int, int], believed: bool) -> None:
    possible = Possible(prompt_tokens=10, answer_tokens=5, thought_tokens=20)
    prompt, completion, thought = counts
    reports = [UsageReport(Usage(prompt, completion, reasoning_tokens=thought))] if believed else []
    whole = reply_events(COUNTED % (b"message", COUNTS % counts), ChatRequest("m", ()), possible=possible)
    assert [event for event in whole if isinstance(event, UsageReport)] == reports
    events = StreamReader(possible=possible).feed(
        b"data: " + COUNTED % (b"delta", COUNTS % counts) + b"\n\ndata: [DONE]\n\n"
    )
    assert [event for event in events if isinstance(event, UsageReport)] == reports
    assert events[0] == Delta("a", 0, "", (), *((completion, prompt) if believed else (0, 0)))
